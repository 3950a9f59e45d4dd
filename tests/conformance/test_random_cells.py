"""Random cells at random shapes: the CPU engine against the reference, forward and every gradient.

`make test` runs a few; UNROLLED_FUZZ=1000 names another number, each time of other cells.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conformance.networks import Batch, gradients, run
from tests.language.random_cells import cell_texts
from unrolled.language import parse
from unrolled.layers import Recurrent

pytest.importorskip("llvmlite")

from unrolled.backends.llvm.machine import unavailable
from unrolled.backends.llvm.schedule import Schedule, forced

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

EXAMPLES = int(os.environ.get("UNROLLED_FUZZ", "0"))
ANY_SIZE, EVEN_SIZE = [1, 2, 3, 5, 6, 8, 16, 17, 33, 48], [6, 12, 18, 36, 48, 66]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 4e-6}


@dataclass(frozen=True)
class Situation:
    """A cell and what it is run on."""

    text: str
    time: int
    batch: int
    into: int
    hidden: int
    lengths: tuple[int, ...] | None
    resets: bool
    reverse: bool
    taps: bool
    one_hot: bool
    learn_initial: bool
    dtype: torch.dtype
    schedule: Schedule
    seed: int

    def layer(self, backend: str, dtype: torch.dtype) -> Recurrent:
        torch.manual_seed(self.seed)
        options: Any = {"reverse": self.reverse, "learn_initial": self.learn_initial, "dtype": self.dtype}
        layer = Recurrent(parse(self.text), self.into, self.hidden, backend=backend, **options)
        with torch.no_grad():
            for parameter in layer.parameters():
                # Sums of many units stay of ordinary size.
                units = parameter.shape[-1] if parameter.dim() > 1 else 4
                parameter.copy_(min(0.5, units**-0.5) * torch.randn_like(parameter))
        return layer.to(dtype)

    def given(self, layer: Recurrent, dtype: torch.dtype) -> Batch:
        torch.manual_seed(self.seed + 1)
        program, like = layer.cell.program, (self.time, self.batch)

        def width(shape: tuple[str, ...]) -> int:
            return layer.sizes[shape[0]] if shape else 1

        x = torch.randn(*like, self.into, dtype=self.dtype)
        inputs = {name: torch.randn(*like, width(shape), dtype=self.dtype) for name, shape in program.inputs[1:]}
        state = tuple(torch.randn(self.batch, width(shape), dtype=self.dtype) for _, shape in program.states)
        resets = torch.rand(like) < 0.3
        symbols = torch.randint(0, self.into, like)
        return Batch(
            symbols if self.one_hot else x.to(dtype),
            {name: value.to(dtype) for name, value in inputs.items()},
            tuple(value.to(dtype) for value in state),
            2 if program.uses_clock else None,
            None if self.lengths is None else torch.tensor(self.lengths),
            resets if self.resets else None,
            tuple(program.names)[:6] if self.taps else (),
        )

    def results(self, backend: str, dtype: torch.dtype, nudge: float = 0.0) -> list[Tensor]:
        """The outputs and all gradients; each number moved by about `nudge` of itself before."""
        layer = self.layer(backend, dtype)
        given = self.given(layer, dtype)
        if nudge:
            torch.manual_seed(self.seed + 2)
            with torch.no_grad():
                for tensor in (*layer.parameters(), *given.flat):
                    if tensor.is_floating_point():
                        tensor.mul_(1 + nudge * torch.randn_like(tensor))
        with forced(self.schedule):
            with torch.no_grad():
                shapes = [value.shape for value in run(layer, given)]
            torch.manual_seed(self.seed + 3)
            cotangents = [torch.randn(shape, dtype=self.dtype).to(dtype) for shape in shapes]
            values, found = gradients(layer, given, cotangents)
        return [value.double() for value in (*values, *found)]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    text = draw(cell_texts())
    structured = any(word in text for word in ("chunk", "structure=", "tick"))
    time, batch = draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 3, 4, 5, 7, 9, 17]))
    ragged = draw(st.booleans())
    lengths = tuple(draw(st.lists(st.integers(0, time), min_size=batch, max_size=batch))) if ragged else None
    return Situation(
        text,
        time,
        batch,
        draw(st.sampled_from([2, 3, 16, 33] if structured else [1, 3, 4, 16, 33])),
        draw(st.sampled_from(EVEN_SIZE if structured else ANY_SIZE)),
        lengths,
        resets=draw(st.booleans()),
        reverse=draw(st.booleans()),
        taps=draw(st.booleans()),
        one_hot=_only_mapped(text) and draw(st.booleans()),
        learn_initial=draw(st.booleans()),
        dtype=draw(st.sampled_from([torch.float64, torch.float64, torch.float32])),
        schedule=Schedule(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        seed=draw(st.integers(0, 99)),
    )


def _only_mapped(text: str) -> bool:
    """Whether whole numbers can stand for x: nothing but maps reads it."""
    program = parse(text).program
    return all(
        node.op == "product" or not any(arg.op == "sequence" and arg["name"] == "x" for arg in node.args)
        for node in program.nodes
    )


def apart(got: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """How far the results are from one another, relative to the largest number of each."""
    found = []
    for a, b in zip(got, expected, strict=True):
        if not b.numel():
            continue
        distance = (a - b).abs().max() / b.abs().max().clamp(min=1e-3)
        found.append(float(torch.nan_to_num(distance, nan=float("inf"))))
    return found


def agree(situation: Situation) -> None:
    """Hold the engine against the reference in float64.

    Where a rounding of the inputs moves the reference itself about as far, a comparison lies on a kink or the cell
    amplifies any error, and the results say nothing: one that is off by more than that is wrong. In float32 the
    reference's own error in that type counts likewise, and so does the engine's error in float64, if that is right, in
    the proportion of the two types: large terms that cancel leave it.
    """
    expected = situation.results("reference", torch.float64)
    got = situation.results("llvm", situation.dtype)
    tolerance = TOLERANCE[situation.dtype]
    distances = apart(got, expected)
    if max(distances, default=0.0) <= tolerance:
        return
    epsilon = torch.finfo(situation.dtype).eps
    others = [situation.results("reference", torch.float64, factor * epsilon) for factor in (1, -1, 3)]
    spreads = [apart(other, expected) for other in others]
    if situation.dtype == torch.float32:
        spreads.append(apart(situation.results("reference", torch.float32), expected))
        exact = apart(situation.results("llvm", torch.float64), expected)
        assert max(exact) <= TOLERANCE[torch.float64], f"{exact}\n{situation}\n{situation.text}"
        spreads.append([distance * epsilon / torch.finfo(torch.float64).eps for distance in exact])
    spread = [max(each) for each in zip(*spreads, strict=True)]
    wrong = [(i, d, s) for i, (d, s) in enumerate(zip(distances, spread, strict=True)) if d > max(tolerance, 10 * s)]
    assert not wrong, f"(index, distance, spread): {wrong}\n{situation}\n{situation.text}"


@settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
)
@pytest.mark.timeout(0 if EXAMPLES else 300, method="thread")
@given(situations())
def test_a_random_cell_has_the_values_and_gradients_of_the_reference(situation: Situation) -> None:
    agree(situation)
