"""Symbols as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.data.subwords import SUBWORDS, subwords
from unrolled.data.units import UNITS, Unit
from unrolled.errors import UsageError, did_you_mean

UNKNOWN = "\ufffd"


class _Numbers(dict[str, int]):
    """The number of each symbol, and for every other that of the unknown one."""

    def __init__(self, symbols: Iterable[str], first: int, unknown: int):
        super().__init__((symbol, number) for number, symbol in enumerate(symbols, first))
        self._unknown = unknown

    def __missing__(self, symbol: str) -> int:
        return self._unknown


class Vocabulary:
    """The symbols of a text in a fixed order, after those that stand for no text: the unknown one and the end."""

    def __init__(self, unit: Unit, symbols: Iterable[str], end: bool = False):
        self.unit = unit
        self.symbols = list(symbols)
        specials = ([] if unit.closed else [UNKNOWN]) + ([""] if end else [])
        self.unknown = None if unit.closed else 0
        self.end = len(specials) - 1 if end else None
        self._raw = specials + self.symbols
        self._numbers = _Numbers(self.symbols, len(specials), self.unknown or 0)
        self.dtype: np.dtype[Any] = np.min_scalar_type(len(self) - 1)
        self._table = self._by_code_point() if all(len(symbol) == 1 for symbol in self.symbols) else None

    @classmethod
    def of(cls, unit: Unit, texts: Iterable[str], end: bool = False, min_count: int = 1) -> Vocabulary:
        """The symbols that occur in texts `min_count` times or more, the most frequent first."""
        if unit.closed:
            return cls(unit, unit.closed, end)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(unit.split(text))
        kept = [symbol for symbol, count in counts.items() if count >= min_count and symbol != UNKNOWN]
        return cls(unit, sorted(kept, key=lambda symbol: (-counts[symbol], symbol)), end)

    @classmethod
    def from_json(cls, value: Any) -> Vocabulary:
        """The vocabulary that `to_json` gave, from a file that anybody may have written.

        Raises   ValueError, with the reason, when it is none
        """
        if not isinstance(value, Mapping) or set(value) - {"learned"} != {"unit", "end", "symbols"}:
            raise ValueError("it must have the keys unit, end and symbols, and no other")
        name, end, symbols = value["unit"], value["end"], value["symbols"]
        if not isinstance(name, str) or name not in (SUBWORDS if "learned" in value else UNITS):
            raise ValueError(f"there is no unit {name!r}.{did_you_mean(str(name), UNITS)}")
        if not isinstance(end, bool):
            raise ValueError(f"end must be true or false, not {end!r}")
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise ValueError("symbols must be a list of texts")
        kind = subwords(name, symbols, value["learned"]) if "learned" in value else UNITS[name]
        _check_symbols(kind, symbols)
        return cls(kind, symbols, end)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        learned = {"learned": list(self.unit.learned)} if self.unit.name in SUBWORDS else {}
        return {"unit": self.unit.name, "end": self.end is not None, "symbols": list(self.symbols), **learned}

    def __len__(self) -> int:
        return len(self._raw)

    def encode(self, text: str, newline: int | None = None) -> NDArray[Any]:
        """The numbers of a text's symbols; those of line breaks can be replaced by another, `newline`.

        Shapes   returns (time,), of the smallest type that holds every number
        """
        symbols = self.unit.split(text)
        if self._table is not None and isinstance(symbols, str):
            code_points = np.frombuffer(symbols.encode("utf-32-le", "surrogatepass"), "<u4")
            numbers = self._table.take(code_points, mode="clip")
            if newline is not None:
                numbers[code_points == ord("\n")] = newline
            return numbers
        numbers = np.fromiter(map(self._numbers.__getitem__, symbols), self.dtype, len(symbols))
        if newline is not None:
            numbers[[index for index, symbol in enumerate(symbols) if symbol == "\n"]] = newline
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of numbers as it is shown; an end shows nothing."""
        return self.unit.join("".join(self.raw(number) for number in numbers))

    def raw(self, number: int) -> str:
        """What stands for a number in the symbols set side by side."""
        return self._raw[number]

    def name(self, number: int) -> str:
        """How a number is called in a table."""
        if number in (self.unknown, self.end):
            return "<unknown>" if number == self.unknown else "<end>"
        symbol = self._raw[number]
        if not self.unit.closed:
            return repr(symbol)
        text = self.unit.join(symbol)
        is_shown = text.isprintable() and UNKNOWN not in text
        return repr(text) if is_shown else " ".join(f"{ord(byte):#04x}" for byte in symbol)

    def missing(self, text: str) -> list[str]:
        """The symbols of a text that are not in the vocabulary, each once, in the order of the text."""
        return [symbol for symbol in dict.fromkeys(self.unit.split(text)) if symbol not in self._numbers]

    def extended(self, other: Vocabulary) -> Vocabulary:
        """These symbols under the same numbers, then those of another vocabulary that are not among them.

        Raises   UsageError when the units differ
        """
        if (self.unit.name, self.unit.learned) != (other.unit.name, other.unit.learned):
            raise UsageError(f"a vocabulary of {self.unit.name} cannot be extended by one of {other.unit.name}")
        new = [symbol for symbol in other.symbols if symbol not in self._numbers]
        return Vocabulary(self.unit, [*self.symbols, *new], self.end is not None)

    def _by_code_point(self) -> NDArray[Any]:
        """The number of each code point; the last entry is that of every later one."""
        table = np.full(max(map(ord, self.symbols), default=0) + 2, self.unknown or 0, self.dtype)
        table[[ord(symbol) for symbol in self.symbols]] = list(self._numbers.values())
        return table


def _check_symbols(unit: Unit, symbols: list[str]) -> None:
    if unit.closed:
        if tuple(symbols) != unit.closed:
            raise ValueError(f"the symbols of {unit.name} are all {len(unit.closed)} in their order, and not others")
        return
    seen: set[str] = set()
    for symbol in symbols:
        if symbol in seen:
            raise ValueError(f"the symbol {symbol!r} stands in it twice")
        if symbol == UNKNOWN:
            raise ValueError(f"{symbol!r} stands for what is unknown and is no symbol of a text")
        if any("\ud800" <= character <= "\udfff" for character in symbol):
            raise ValueError(f"the symbol {symbol!r} is half a character")
        if list(unit.split(symbol)) != [symbol]:
            raise ValueError(f"{symbol!r} is not one symbol of the unit {unit.name}")
        seen.add(symbol)
