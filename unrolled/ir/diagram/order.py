"""The order of the parts from left to right: the ways of the values short, with few crossings."""

from __future__ import annotations

from itertools import pairwise

from unrolled.ir.diagram.parts import Drawing, Part

_BLOCK = 4  # parts that are moved together
_BELOW = 0.4  # price of a way that runs below the layers
_ENTERING = 0.25  # of one that enters: it runs below to many
_CROSSED = 3.0


class Ways:
    """How far the values of a drawing go when its parts stand in an order, and how to make that less."""

    def __init__(self, drawing: Drawing, free: list[Part]):
        self.parts = drawing.parts
        self.free = set(free)
        pairs = [pair for memory in drawing.memories for pair in pairwise(memory)]
        self.following = dict(pairs)
        self.readers = {part: drawing.readers(part) for part in drawing.parts}
        self.others = {
            part: [reader for reader in readers if reader is not self.following.get(part)]
            for part, readers in self.readers.items()
        }
        self.feeding = {
            part: {*part.reads, *(each for read in part.reads for each in read.reads)} for part in drawing.parts
        }

    def shortened(self, order: list[Part]) -> list[Part]:
        """The order after moving neighbours together to where the ways are shortest, until none is better elsewhere."""
        best, length = order, self.length(order)
        while True:
            before = length
            for size in range(1, _BLOCK + 1):
                for part in order[: len(order) - size + 1]:
                    start = best.index(part)
                    block, others = best[start : start + size], [*best[:start], *best[start + size :]]
                    first, last = self.room(block, others)
                    for place in range(first, last + 1):
                        tried = [*others[:place], *block, *others[place:]]
                        if (new := self.length(tried)) < length:
                            best, length = tried, new
            if length == before:
                return best

    def room(self, block: list[Part], others: list[Part]) -> tuple[int, int]:
        """The first and last place among the others at which a block is after what it reads, before its readers."""
        place = {part: number for number, part in enumerate(others)}
        reads = [read for part in block for read in (*part.reads, *part.beside) if read in place]
        readers = [reader for part in block for reader in self.readers[part] if reader in place]
        first = max([0, *(place[read] + 1 for read in reads)])
        return first, min([len(others), *(place[reader] for reader in readers)])

    def length(self, order: list[Part]) -> float:
        """How far the values go, and how often they cross the ways to and from the memories, whose lines are free."""
        place = {part: number for number, part in enumerate(order)}
        for part in self.parts:
            if part not in self.free:
                place[part] = len(order) if part.kind == "next" else -1
        upright: list[tuple[int, set[Part]]] = []
        spans: list[tuple[Part, int, int]] = []
        total = 0.0
        for part in self.parts:
            if part in self.following:
                # What reads a memory stands before the memory changes, or its value goes a way of its own.
                change = place[self.following[part]]
                total += sum(max(0, place[reader] - change) for reader in self.others[part])
                upright += [(place[each], {each}) for each in self.others[part] if each.kind == "operation"]
                if part in self.free:
                    upright.append((place[part], self.feeding[part]))
                continue
            start, price = place[part], 1.0 if part in self.free and part.kind != "join" else _ENTERING
            below = [place[reader] for reader in self.others[part] if reader.kind in ("layer", "join")]
            above = [place[reader] for reader in self.others[part] if reader.kind not in ("layer", "join")]
            if below:
                total += _BELOW * price * (max(below) - start)
            if above:
                total += price * (max(above) - start)
                spans.append((part, start, max(above)))
        for at, feeding in upright:
            total += _CROSSED * sum(start < at < end and part not in feeding for part, start, end in spans)
        return total
