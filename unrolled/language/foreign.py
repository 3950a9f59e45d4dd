"""Calls of another library in a cell, and the function of the language that says the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from unrolled.errors import Place
from unrolled.language.functions import FUNCTIONS

_CALL = re.compile(r"(?P<path>(?:\w+\.)*)(?P<name>\w+)\(")


def foreign_call(place: Place, names: Mapping[str, object]) -> str:
    """The message for a call at a place, such as torch.tanh(h); "" where the language has no function of its name.

    names   what the names of the cell's module mean: a tanh among them may be torch's
    """
    call = _CALL.match((place.line or "")[place.start :])
    if call is None or call["name"] not in FUNCTIONS:
        return ""
    path, name = call["path"], call["name"]
    if not path and names.get(name, FUNCTIONS[name]) is FUNCTIONS[name]:
        return ""
    called = f"{path}{name}" if path else f"this {name}"
    return f"{called} is no function of the language: write {name}(…), the one of unrolled.language"
