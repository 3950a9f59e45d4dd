"""The products of an input with its maps, for all steps before the loop begins: there each weight is read once for
many steps. The same bits come out for any number of threads, which torch's products do not promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor

from unrolled.backends import Call
from unrolled.backends.llvm.arena import Arena, recycled
from unrolled.backends.llvm.group import Course
from unrolled.backends.llvm.layout import Layout, row_stride
from unrolled.backends.llvm.leaves import Leaves
from unrolled.backends.llvm.rows import Rows
from unrolled.backends.llvm.scan_code import ScanCode
from unrolled.backends.llvm.work import Buffer
from unrolled.ir.plan import Plan

# Rows that a thread has in a step: as many as stay near while all weights pass by. Tiles divide the numbers.
MOST_ROWS, LEAST_ROWS, _ROWS_AT_ONCE = 384, 96, 24
_NEAR_BYTES = 1024 * 1024


class Ahead:
    """All that calls of one shape share; the rows are the sequence's, over time and batch."""

    def __init__(
        self, plan: Plan, code: ScanCode, sizes: Mapping[str, int], call: Call, place: int, threads: int
    ) -> None:
        self.threads = threads
        self.name, (axis,) = plan.program.inputs[place]
        near = _NEAR_BYTES // (sizes[axis] * call.states[0].element_size()) // _ROWS_AT_ONCE * _ROWS_AT_ONCE
        own = min(MOST_ROWS, max(LEAST_ROWS, near))
        self.batch = own * threads
        layout = self.layout = Layout(code, sizes, call.states[0].dtype, self.batch, threads)
        self.leaves = Leaves(plan, layout, call, ())
        self.products: Sequence[Buffer] = [buffer for _, buffer in code.step.work.stores]
        self.width = sum(sizes[buffer.axis] for buffer in self.products)
        self.set_words(layout)
        layout.rows_of(f"input {self.name}", f"input {self.name}", row_stride(call.sequences[place]))
        layout.number("delta", self.batch)
        layout.number("members", 1)
        layout.set_tiles(range(1, own + 1), 1, 1)
        layout.set_weights(self.leaves.place, threads)
        layout.number("start", 0)
        layout.number("stop", 0)
        layout.finish()

    @property
    def source(self) -> str:
        """The name of the tensor of all products, side by side."""
        return f"products {self.name}"

    def set_words(self, layout: Layout) -> None:
        """Tell a kernel where the products stand."""
        column = 0
        for buffer in self.products:
            layout.rows_of(buffer.name, self.source, self.width * layout.item, column * layout.item)
            column += self.layout.sizes[buffer.axis]

    def course(self, call: Call, tensors: Mapping[str, Tensor]) -> Course[Tensor]:
        """Run a call, whose other tensors are known already."""
        time, batch = call.sequences[0].shape[:2]
        rows = _rows(time * batch, self.batch, self.threads)
        made = recycled((time, batch, self.width), self.layout.dtype)
        named = {**tensors, **self.leaves.maps(call), self.source: made}
        with Arena(self.layout.size) as memory:
            launches = self.layout.launches(named, memory.address, rows.address)
            yield launches.pack()
            yield launches.steps(0, rows.longest, self.threads)
        return made


@lru_cache(maxsize=64)
def _rows(count: int, batch: int, shares: int) -> Rows:
    """So many rows as steps of a batch, dealt to the shares in turn; the last step may have fewer of them."""
    order = np.arange(batch, dtype=np.int64).reshape(-1, shares).T.flatten()
    lengths = np.maximum(0, (count - 1 - order) // batch + 1)
    bounds = np.arange(shares + 1, dtype=np.int64) * (batch // shares)
    return Rows(-(-count // batch), batch, False, order, lengths, bounds, ragged=True)
