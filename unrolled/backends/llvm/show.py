"""The code of a plan for the reader: as LLVM has it when the passes are done, or as the processor has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from llvmlite import ir

from unrolled.backends.llvm import compiler
from unrolled.backends.llvm.backward import make_reverse
from unrolled.backends.llvm.driver import ScanWriter
from unrolled.backends.llvm.forward import make_forward
from unrolled.backends.llvm.machine import Machine, host, unavailable
from unrolled.backends.llvm.phases import Block, Pass, Step, make_step
from unrolled.backends.llvm.tiles import Tile
from unrolled.backends.llvm.variant import Variant, bordered_of, panels_of, rows_of
from unrolled.errors import UnrolledError
from unrolled.ir.plan import Plan

# What says nothing about the cell, by the beginnings of its lines.
_LEFT_OUT = ("; ModuleID", "; Function Attrs", "source_filename", "\t.file", "\t.cfi_")


def code_text(plan: Plan, *, assembly: bool, train: bool) -> str:
    """The kernel of inference, or those of training, each followed by the tiles that take its products.

    In float32, for sizes that are multiples of the vector; the tiles are those of the most rows.

    Raises   UnrolledError where no code can be generated, with the reason
    """
    reason = unavailable()
    if reason:
        raise UnrolledError(f"there is no code to show: {reason}")
    return _Listing(host(), assembly).text(plan, train)


class _Listing:
    """The printing of kernels and tiles, one after the other, a comment above each."""

    def __init__(self, machine: Machine, assembly: bool):
        self.machine = machine
        self.assembly = assembly
        self.comment = ";" if not assembly else "#" if machine.x86 else "//"

    def text(self, plan: Plan, train: bool) -> str:
        parts: list[str] = []
        shown: set[Tile] = set()
        for title, step, variant in _kernels(plan, train):
            parts.append(self.kernel(title, step, variant))
            for block, each in step.passes:
                tile = _tile(block, each, self.machine)
                if tile not in shown:
                    shown.add(tile)
                    parts.append(self.part(_tile_title(block, each, tile), partial(tile.module, self.machine)))
        return "\n\n".join(parts)

    def kernel(self, title: str, step: Step, variant: Variant) -> str:
        module = ScanWriter(step, variant, self.machine).module()
        lanes = self.machine.lanes(variant.double)
        lines = [f"{title}: float32, {lanes} units a vector, {self.machine.cpu}"]
        if self.assembly:
            # LLVM's text names what is read from a call; here it is a distance from the first argument.
            words = bytes(module.globals["words"].initializer.constant).rstrip(b"\0").decode().split("\n")
            lines += ["the words of a call, by their bytes:"]
            lines += [f"  {8 * place:4}  {name}" for place, name in enumerate(words)]
        return self.part("\n".join(lines), lambda: module)

    def part(self, title: str, build: Callable[[], ir.Module]) -> str:
        make = compiler.assembly if self.assembly else compiler.optimised
        heading = [f"{self.comment} {line}" for line in title.split("\n")]
        return "\n".join([*heading, *_tidied(make(build, self.machine))])


def _kernels(plan: Plan, train: bool) -> Iterator[tuple[str, Step, Variant]]:
    """(title, step, variant) of each kernel."""
    forward = make_forward(plan, train, {})
    yield f"the forward kernel of {'training' if train else 'inference'}", make_step(forward.work), Variant(whole=True)
    if train:
        program = plan.program
        wanted = frozenset(name for name, _ in (*program.inputs, *program.rows))
        reverse = make_reverse(plan, wanted)
        yield "the backward kernel", make_step(reverse.work), Variant(reverse=True, whole=True)


def _tile(block: Block, each: Pass, machine: Machine) -> Tile:
    slots = tuple(segment.slots for segment in each.segments)
    rows = rows_of(block, machine)
    return Tile(slots, len(each.accumulators), panels_of(block), rows, bordered=bordered_of(each))


def _tile_title(block: Block, each: Pass, tile: Tile) -> str:
    """What a tile sums: `a tile of 6 rows: 4 sums of 1 vector of hidden; input x adds to all, state h to all`."""
    adds = [
        f"{segment.operand.name} adds to {'all' if len(segment.slots) == tile.count else f'{len(segment.slots)}'}"
        for segment in each.segments
    ]
    vectors = f"{tile.blocks} vector{'s' if tile.blocks > 1 else ''} of {block.axis or 'a number'}"
    return (
        f"a tile of {tile.rows} rows: {tile.count} sum{'s' if tile.count > 1 else ''} of {vectors}; {', '.join(adds)}"
    )


def _tidied(text: str) -> Iterator[str]:
    """The lines that a reader wants."""
    blank = True
    for line in text.splitlines():
        if line.startswith(_LEFT_OUT) or (blank and not line.strip()):
            continue
        blank = not line.strip()
        yield line
