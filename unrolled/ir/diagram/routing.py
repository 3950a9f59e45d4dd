"""Wires on the lattice: at right angles, short, straight where they can be, and crossing as little as they can."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

from unrolled.ir.diagram.parts import Drawing, Part
from unrolled.ir.diagram.placement import Place, span

Point = tuple[int, int]
Way = list[Point]

RIGHT, UP, LEFT, DOWN = (1, 0), (0, -1), (-1, 0), (0, 1)
_STEP, _BACK, _BEND, _CROSSING = 2, 1, 7, 30


@dataclass
class Net:
    """The wires of one value: for each reader the way from where it is made, as points of the lattice.

    beside   the readers that take the value without a map
    """

    source: Part
    ways: dict[Part, Way] = field(default_factory=dict)
    beside: set[Part] = field(default_factory=set)


class Entangled(Exception):  # noqa: N818 - a signal to the layout, which gives more room
    """There is no way left for a wire."""


def route(drawing: Drawing, places: dict[Part, Place]) -> list[Net]:
    """The wires of every value, in the order of the parts.

    Raises   Entangled when the room between the parts is too little
    """
    return _Router(drawing, places).nets()


class _Router:
    def __init__(self, drawing: Drawing, places: dict[Part, Place]):
        self.drawing = drawing
        self.places = places
        self.line = {pair for memory in drawing.memories for pair in pairwise(memory)}
        self.lined = {part for memory in drawing.memories for part in memory}
        self.width = max(place.x for place in places.values())
        self.height = max(place.y for place in places.values())
        self.solid = {(x, place.y): part for part, place in places.items() for x in span(place)}
        # Wires do not turn or part beside what they have no end at, so that a way is left to each of its sides.
        self.near: dict[Point, set[Part]] = {}
        for (x, y), part in self.solid.items():
            for direction in (RIGHT, UP, LEFT, DOWN):
                self.near.setdefault((x + direction[0], y + direction[1]), set()).add(part)
        # Point -> net -> directions in which its wire leaves the point.
        self.used: dict[Point, dict[Part, set[Point]]] = {}

    def nets(self) -> list[Net]:
        found = {}
        for part in self.drawing.parts:
            readers = self.drawing.readers(part)
            if readers:
                found[part] = Net(part, beside={reader for reader in readers if part in reader.beside})
        order = sorted(found, key=lambda part: (part not in self.lined, self.spread(part)))
        cost = {part: self.connect(found[part]) for part in order}
        for _ in range(2):
            for part in order:
                old, before = found[part].ways, cost[part]
                self.remove(part)
                cost[part] = self.connect(found[part])
                if cost[part] > before:
                    self.remove(part)
                    found[part].ways, cost[part] = old, before
                    for way in old.values():
                        self.occupy(part, way)
        return [found[part] for part in self.drawing.parts if part in found]

    def spread(self, part: Part) -> int:
        ends = [self.places[reader] for reader in self.drawing.readers(part)] + [self.places[part]]
        xs, ys = [end.x for end in ends], [end.y for end in ends]
        return max(xs) - min(xs) + max(ys) - min(ys)

    def connect(self, net: Net) -> int:
        """Draw the wires of a value to all its readers, one after the other; returns what they cost."""
        source, total = net.source, 0
        at = self.places[source]
        net.ways = {}

        # What enters runs along below all that read it, so the farthest comes first; else the nearest does.
        order = -1 if source.kind in ("input", "state", "join") else 1

        def distance(reader: Part) -> tuple[bool, int]:
            place = self.places[reader]
            return (source, reader) not in self.line, order * (abs(place.x - at.x) + abs(place.y - at.y))

        tree: dict[Point, Way] = {}
        for reader in sorted(self.drawing.readers(source), key=distance):
            way, cost = self.search(source, reader, tree)
            net.ways[reader] = way
            total += cost
            self.occupy(source, way)
            for number, point in enumerate(way[1:-1], 1):
                tree.setdefault(point, way[: number + 1])
        return total

    def occupy(self, owner: Part, way: Way) -> None:
        for a, b in pairwise(way):
            direction = (b[0] - a[0], b[1] - a[1])
            self.used.setdefault(a, {}).setdefault(owner, set()).add(direction)
            self.used.setdefault(b, {}).setdefault(owner, set()).add((-direction[0], -direction[1]))

    def remove(self, owner: Part) -> None:
        for owners in self.used.values():
            owners.pop(owner, None)

    def starts(self, source: Part, reader: Part, tree: dict[Point, Way]) -> Iterable[tuple[Point, Point, Way]]:
        """Points and directions that a wire may begin with: at the part, or where its value already goes."""
        if tree:
            for point, way in tree.items():
                directions = self.used[point][source]
                if len(self.used[point]) > 1 or not self.near.get(point, set()) <= {source, reader}:
                    continue
                for direction in (RIGHT, UP, LEFT, DOWN):
                    if direction not in directions:
                        yield point, direction, way
            return
        place = self.places[source]
        for direction in self.exits(source, reader):
            for x in span(place) if direction in (UP, DOWN) else [place.x + direction[0] * place.half]:
                if direction in (UP, DOWN) and source.kind == "layer" and x != place.x:
                    continue
                if direction not in {d for ds in self.used.get((x, place.y), {}).values() for d in ds}:
                    yield (x, place.y), direction, [(x, place.y)]

    def exits(self, source: Part, reader: Part) -> tuple[Point, ...]:
        if source in self.lined or source.kind == "state":
            return (RIGHT,)
        if source.kind == "input":
            return (UP,)
        return {"layer": (UP, RIGHT), "join": (RIGHT, UP)}.get(source.kind, (UP, RIGHT, DOWN))

    def entries(self, source: Part, reader: Part) -> tuple[Point, ...]:
        """The directions in which a wire may arrive."""
        if reader.kind == "next" or (source, reader) in self.line:
            return (RIGHT,)
        if reader in self.lined:
            return (UP, DOWN)
        if reader.kind == "layer":
            return (UP,) if source in reader.reads else (UP, RIGHT, LEFT)
        return (RIGHT, UP, DOWN) if reader.kind == "join" else (RIGHT, UP, DOWN, LEFT)

    def search(self, source: Part, reader: Part, tree: dict[Point, Way]) -> tuple[Way, int]:
        """The cheapest way to a reader, with what it costs beyond the wire that is there."""
        target = self.places[reader]
        entries = self.entries(source, reader)
        queue: list[tuple[int, int, int, Point, Point]] = []
        came: dict[tuple[Point, Point], tuple[Point, Point] | None] = {}
        best: dict[tuple[Point, Point], int] = {}
        prefix: dict[tuple[Point, Point], Way] = {}
        number = 0

        def estimate(point: Point) -> int:
            return _STEP * (max(0, abs(point[0] - target.x) - target.half) + abs(point[1] - target.y))

        for point, direction, way in self.starts(source, reader, tree):
            key = (point, direction)
            # A wire that turns off another shall look as if it had come that way.
            cost = 0 if len(way) == 1 or _direction(way) == direction else _BEND // 2
            if cost < best.get(key, cost + 1):
                best[key], came[key], prefix[key] = cost, None, way
                heappush(queue, (cost + estimate(point), number, cost, point, direction))
                number += 1
        while queue:
            _, _, cost, point, direction = heappop(queue)
            key = (point, direction)
            if cost > best[key]:
                continue
            ahead = (point[0] + direction[0], point[1] + direction[1])
            if self.solid.get(ahead) is reader:
                if direction in entries and self.free_port(ahead, direction):
                    return [*self.trace(key, came, prefix), ahead], cost
                continue
            price = self.price(source, ahead, direction)
            if price < 0:
                continue
            straight = self.used.get(ahead) or not self.near.get(ahead, set()) <= {source, reader}
            for turn in (RIGHT, UP, LEFT, DOWN):
                if turn == (-direction[0], -direction[1]) or (straight and turn != direction):
                    continue
                new = cost + price + (_BEND if turn != direction else 0)
                following = (ahead, turn)
                if new < best.get(following, new + 1):
                    best[following], came[following] = new, key
                    heappush(queue, (new + estimate(ahead), number, new, ahead, turn))
                    number += 1
        raise Entangled

    def price(self, source: Part, point: Point, direction: Point) -> int:
        """What it costs to go on to a point, below 0 where that cannot be."""
        x, y = point
        if not (0 <= x <= self.width and 0 <= y < self.height) or point in self.solid:
            return -1
        price = _STEP + (_BACK if direction == LEFT else 0)
        for owner, directions in self.used.get(point, {}).items():
            straight = directions in ({RIGHT, LEFT}, {UP, DOWN})
            if owner is source or not straight or direction in directions:
                return -1
            price += _CROSSING
        return price

    def free_port(self, point: Point, direction: Point) -> bool:
        back = (-direction[0], -direction[1])
        return all(back not in directions for directions in self.used.get(point, {}).values())

    def trace(
        self,
        key: tuple[Point, Point],
        came: dict[tuple[Point, Point], tuple[Point, Point] | None],
        prefix: dict[tuple[Point, Point], Way],
    ) -> Way:
        points = [key[0]]
        while (before := came[key]) is not None:
            points.append(before[0])
            key = before
        return [*prefix[key][:-1], *reversed(points)]


def _direction(way: Way) -> Point:
    return way[-1][0] - way[-2][0], way[-1][1] - way[-2][1]
