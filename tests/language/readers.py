"""The two ways in which a cell is written: as a function that Python runs, and as text that the grammar reads."""

from __future__ import annotations

import linecache
from itertools import count

from unrolled.language import parse

_numbers = count()


def run_as_python(source):
    """Run a module that holds a cell, its source lines at hand as they are for a file."""
    filename = f"<cell {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile("from unrolled.language import *", "<imports>", "exec"), namespace := {})
    exec(compile(source, filename, "exec"), namespace)
    return namespace["mine"]


READERS = {"function": run_as_python, "text": parse}
