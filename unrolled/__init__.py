"""Recurrent networks, from the equation to the service. Names are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled.language import Cell, cell
    from unrolled.tasks import load
    from unrolled.training import train

    __version__: str

# Public name -> the module that holds it.
_HOMES = {
    "Cell": "unrolled.language",
    "cell": "unrolled.language",
    "load": "unrolled.tasks",
    "train": "unrolled.training",
}

__all__ = ["Cell", "__version__", "cell", "load", "train"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("unrolled")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
