"""The operations of torch that the scan is made of, and the backend that they run on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conformance.networks import CELLS, batch_for, layer_of
from unrolled.backends import Call, choose
from unrolled.errors import UsageError
from unrolled.layers import Recurrent


def arguments(name: str, **options: Any) -> tuple[Recurrent, tuple[Any, ...]]:
    """What the operation `unrolled::scan` is called with."""
    reverse = options.pop("reverse", False)
    layer = layer_of(name, reverse=reverse)
    given = batch_for(layer, options.pop("time", 4), options.pop("batch", 3), taps=True, **options)
    plan = layer.plan(given.taps)
    like = layer.initial_state(given.x.shape[1])[: len(given.state)]
    flat = [v[..., None] if v.dim() == 2 else v for v in given.inputs.values()]
    call = Call(
        [given.x, *flat], [], list(given.state), list(like) if given.resets is not None else [],
        [layer._family(group.family).stored(group).detach() for group in layer.groups],
        list(layer.cell.program.scalars.values()), [layer.sizes[axis] for axis in plan.axes], given.lengths,
        given.resets, None if given.clock is None else torch.tensor(given.clock), reverse,
    )  # fmt: skip
    ways = ([call.clock], [call.reverse], [call.precision])
    rest = (call.scalars, call.sizes, *ways, call.lengths, call.resets, "reference")
    return layer, ([plan.key], *call.lists, *rest)


@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    "options",
    [{}, {"ragged": True, "resets": True, "reverse": True}, {"time": 0}, {"batch": 0}],
    ids=["full", "ragged-reverse", "T0", "B0"],
)
@pytest.mark.parametrize("name", CELLS)
def test_the_operations_are_what_they_say_to_torch(name: str, options: dict[str, Any], train: bool) -> None:
    layer, given = arguments(name, **options)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.unrolled.scan.default, (*given, train), test_utils=tests)
    if not train:
        return
    results = torch.ops.unrolled.scan(*given, True)
    shown, states = 1 + len(layer.cell.program.names), len(layer.cell.program.states)
    outputs, finals, saved = results[:shown], results[shown : shown + states], results[shown + states :]
    tensors = sum(len(tensors) for tensors in given[1:6])
    cotangents = [torch.randn_like(output) for output in outputs]
    for d_finals in ([torch.randn_like(f) for f in finals], [None] * states):
        backward = (*given, outputs, saved, cotangents, d_finals, [True] * tensors)
        torch.library.opcheck(torch.ops.unrolled.scan_backward.default, backward, test_utils=tests)


def test_the_environment_chooses_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLLED_BACKEND", "reference")
    assert choose(torch.device("cpu")).name == "reference"
    monkeypatch.setenv("UNROLLED_BACKEND", "refrence")
    with pytest.raises(UsageError, match=r"there is no backend 'refrence'. Did you mean reference"):
        layer_of("lstm")(torch.randn(2, 1, 3, dtype=torch.float64))
