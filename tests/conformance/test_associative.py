"""Linear recurrences as an associative scan: held against the reference, which loops over the steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conformance import networks
from tests.conformance.networks import CELLS, assert_close, batch_for, gradients, layer_of, run, twin
from tests.conformance.test_gradients import EMPTY, SHAPES, checked, ids
from unrolled.backends.associative import linear_scan
from unrolled.errors import UsageError
from unrolled.ir.plan import make_plan
from unrolled.ir.program import bind
from unrolled.language import Cell, parse

# Maps of two memories; delays of delays; a clock, factors of no time, and a state that is handed on.
STRAINED = {
    cell.name: cell
    for cell in (
        parse(text)
        for text in (
            """
@cell(initial={"c": 0.5})
def two_memories(x, h, c, d):
    c = sigmoid(W.f @ x) * c + W.c @ x
    d = p.d * d + tanh(W.d @ x)
    h = tanh(U.c @ c + U.d @ d) * layer_norm(c)
    return h, c, d
""",
            """
@cell
def twice_delayed(x, h, c, one: State["input"], two: State["input"]):
    c = sigmoid(V.f @ two) * c + V.g @ one + W.g @ x
    h = tanh(c)
    return h, c, x, one
""",
            """
@cell
def waiting(x, y, h, level: State[()], anchor, *, rate=0.5):
    h = where(tick((2,)), rate * h + W.h @ x, h)
    level = s.rate * level + 1
    y = level * h + anchor
    return y, h, level, anchor
""",
        )
    )
}


def is_linear(cell: Cell) -> bool:
    sizes = {"input": 6, "hidden": 6, **cell.program.axes}
    return bool(make_plan(bind(cell.program, sizes)).linear)


NAMES = [*(name for name, cell in CELLS.items() if is_linear(cell)), *STRAINED]


@pytest.fixture(autouse=True)
def strained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "CELLS", {**CELLS, **STRAINED})


def test_the_linear_cells_are_those_that_say_so() -> None:
    assert {"mingru", "minlstm", "qrnn", "two-memories", "twice-delayed"} <= set(NAMES)
    assert not {"lstm", "gru", "indrnn", "sru", "clockwork"} & set(NAMES)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 17, 3, 6)], ids=ids)
@pytest.mark.parametrize("name", NAMES)
def test_the_scan_is_the_loop_of_the_reference(name: str, shape: tuple[int, ...]) -> None:
    batch, time, into, hidden = shape
    for ragged, resets, reverse in [
        (False, False, False),
        (True, False, True),
        (False, True, True),
        (True, True, False),
    ]:
        layer = layer_of(name, into, hidden, reverse=reverse, backend="associative")
        given = batch_for(layer, time, batch, ragged=ragged, resets=resets, taps=ragged or reverse)
        expected, expected_gradients = gradients(twin(layer, "reference"), given)
        got, got_gradients = gradients(layer, given)
        assert_close(got, expected)
        assert_close(got_gradients, expected_gradients)


@pytest.mark.parametrize("name", NAMES)
def test_in_single_precision_the_scan_rounds_as_the_loop_does(name: str) -> None:
    layer = layer_of(name, 3, 6, dtype=torch.float32, backend="associative")
    given = batch_for(layer, 300, 2, ragged=True)
    exact = run(twin(layer, "reference").double(), given.with_flat([value.double() for value in given.flat]))
    got = run(layer, given)
    assert all(value.dtype == torch.float32 for value in got)
    assert_close([value.double() for value in got], exact, 2e-5)


@pytest.mark.parametrize("shape", EMPTY, ids=ids)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_read_leaves_the_state(name: str, shape: tuple[int, ...]) -> None:
    batch, time, into, hidden = shape
    layer = layer_of(name, into, hidden, backend="associative")
    given = batch_for(layer, time, batch, ragged=True, resets=True, taps=True)
    expected, expected_gradients = gradients(twin(layer, "reference"), given)
    got, got_gradients = gradients(layer, given)
    assert_close(got, expected, 0.0)
    assert_close(got_gradients, expected_gradients, 0.0)


@pytest.mark.parametrize("options", [{}, {"ragged": True, "reverse": True}], ids=["full", "ragged-reverse"])
def test_gradients_and_second_gradients_are_finite_differences(options: dict[str, Any]) -> None:
    function, point = checked("qrnn", backend="associative", **options)
    assert torch.autograd.gradcheck(function, point, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, point, fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_the_memory_of_an_input_or_of_another(name: str) -> None:
    layer = layer_of(name, backend="associative")
    given = batch_for(layer, 3, 2, taps=True)
    every = [*run(layer, given), *given.flat, *layer.parameters()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in every}) == len(every)


def test_what_is_not_finite_ends_at_a_reset() -> None:
    layer = layer_of("mingru", backend="associative")
    given = batch_for(layer, 9, 1)
    given.x[2] = float("nan")
    given.resets = torch.arange(9)[:, None] == 5
    results, found = gradients(
        layer, given, [torch.arange(9.0).ge(5).double()[:, None, None].expand(9, 1, 6), *given.state]
    )
    assert results[0][2:5].isnan().all()
    assert results[0][5:].isfinite().all()
    expected, _ = gradients(twin(layer, "reference"), given)
    assert_close([results[0][5:]], [expected[0][5:]])
    assert found[0][6:].isfinite().all()


@pytest.mark.parametrize("time", [1, 2, 3, 4, 7, 8, 33])
@pytest.mark.parametrize("resets", [False, True], ids=["one", "many"])
def test_the_scan_of_pairs_is_the_recurrence(time: int, resets: bool) -> None:
    a, b = torch.randn(2, time, 3, 2, dtype=torch.float64)
    a[:, 0] = 0
    anew = torch.rand(time, 3, 1) < 0.3 if resets else None
    h, expected = torch.zeros_like(b[0]), []
    for step in range(time):
        h = a[step] * h + b[step]
        if anew is not None:
            h = torch.where(anew[step], b[step], h)
        expected.append(h)
    torch.testing.assert_close(linear_scan(a, b, anew), torch.stack(expected))


def test_a_recurrence_that_is_not_linear_is_refused() -> None:
    layer = layer_of("indrnn", backend="associative")
    with pytest.raises(UsageError, match="backend associative runs recurrences that are linear and element-wise"):
        layer(torch.randn(2, 1, 3, dtype=torch.float64))
