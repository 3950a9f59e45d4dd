"""The parts that a drawing has: layers, element-wise operations, and the values that enter and leave."""

from __future__ import annotations

from dataclasses import dataclass, field

from unrolled.errors import CellError, did_you_mean


@dataclass(eq=False)
class Part:
    """One thing of the drawing.

    kind      input, state (its old value), next (its new value), layer, operation, join (of what several layers read)
    text      what stands in it, and for what enters and leaves its name
    name      the name that the equations give to its value, "" for none
    reads     the parts whose values go in
    beside    those of them that a layer reads unit by unit, without a map: peepholes
    equation  which of the equations it belongs to
    """

    kind: str
    text: str
    name: str = ""
    reads: list[Part] = field(default_factory=list)
    beside: list[Part] = field(default_factory=list)
    equation: int = -1


@dataclass
class Drawing:
    """The parts of a program, each after those that it reads, its memories and the names of its equations.

    memories   for each state that is kept by element-wise operations: its old value, what is done to it, its new one
    """

    parts: list[Part]
    memories: list[list[Part]]
    equations: list[str]

    def of(self, kind: str) -> list[Part]:
        """The parts of one kind."""
        return [part for part in self.parts if part.kind == kind]

    def readers(self, part: Part) -> list[Part]:
        """The parts that a value goes into."""
        return [other for other in self.parts if part in (*other.reads, *other.beside)]

    def equation(self, name: str) -> int:
        """The last equation of this name.

        Raises   CellError when there is none that is drawn
        """
        drawn = {self.equations[part.equation] for part in self.parts if part.equation >= 0}
        if name not in drawn:
            raise CellError(f"the drawing has no equation {name!r}.{did_you_mean(name, drawn)}")
        return max(part.equation for part in self.parts if self.equations[part.equation] == name)
