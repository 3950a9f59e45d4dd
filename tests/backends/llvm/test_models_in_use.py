"""Models on the CPU engine as they are used: weights that change, copies, second backward passes, long sequences."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("llvmlite")

from tests.conformance.networks import NAMES, assert_close, batch_for, gradients, layer_of, run, twin
from unrolled.backends.llvm import machine
from unrolled.language import parse
from unrolled.layers import Recurrent

if machine.unavailable():
    pytest.skip(machine.unavailable(), allow_module_level=True)

pytestmark = pytest.mark.timeout(120, method="thread")


def by_data(layer: Recurrent) -> None:
    for parameter in layer.parameters():
        parameter.data.mul_(1.5)


def by_another_tensor(layer: Recurrent) -> None:
    for parameter in layer.parameters():
        parameter.data = parameter.data * 1.5


def by_an_optimiser(layer: Recurrent) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), 0.1)
    layer(torch.ones(2, 3, 3, dtype=torch.float64))[0].sum().backward()
    optimiser.step()


def by_load_state_dict(layer: Recurrent) -> None:
    layer.load_state_dict({name: 1.5 * value for name, value in layer.state_dict().items()})


@pytest.mark.parametrize(
    "change", [by_data, by_another_tensor, by_an_optimiser, by_load_state_dict], ids=lambda function: function.__name__
)
@pytest.mark.parametrize("name", ["lstm", "weird"])
def test_weights_that_changed_between_two_calls_change_the_result(
    name: str, change: Callable[[Recurrent], None]
) -> None:
    layer = layer_of(name, backend="llvm")
    given = batch_for(layer)
    before = run(layer, given)[0].detach()
    if name == "lstm" or change is not by_an_optimiser:
        change(layer)
    else:
        with torch.no_grad():
            next(layer.parameters()).mul_(2)
    after, found = gradients(layer, given)
    expected, slopes = gradients(twin(layer, "reference"), given)
    assert not torch.allclose(after[0], before)
    assert_close(after, expected)
    assert_close(found, slopes)


@pytest.mark.parametrize("name", ["lstm", "gru-cho", "weird"])
def test_a_used_model_is_copied_and_pickled(name: str) -> None:
    layer = layer_of(name, backend="llvm")
    given = batch_for(layer, ragged=True, taps=True)
    expected = gradients(layer, given)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        for got, wanted in zip(gradients(other, given), expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert not torch.equal(run(other, given)[0], expected[0][0])
    assert torch.equal(run(layer, given)[0], expected[0][0])


@pytest.mark.parametrize("name", ["lstm", "gru-cho", "weird"])
def test_each_backward_pass_through_a_graph_that_is_retained_gives_the_same_bits(name: str) -> None:
    layer = layer_of(name, backend="llvm")
    given = batch_for(layer, ragged=True, resets=True, taps=True)
    loss = sum(value.square().sum() for value in run(layer, given))
    assert isinstance(loss, Tensor)
    wanted = list(layer.parameters())
    passes = [torch.autograd.grad(loss, wanted, retain_graph=True) for _ in range(2)]
    gradients(layer, batch_for(layer, 9, 7))  # another call uses the memory in between
    passes.append(torch.autograd.grad(loss, wanted))
    for each in passes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(each, passes[0], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_saves_for_backward_what_the_plan_says(name: str) -> None:
    layer = layer_of(name, 3, 12, backend="llvm")
    given = batch_for(layer, 4, 2)
    plan = layer.plan(())
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    inputs = [tensor.requires_grad_() for tensor in given.flat]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        results = run(layer, given)
    own = {tensor.data_ptr() for tensor in (*inputs, *layer.parameters())}
    own |= {parameter.data_ptr() for family in layer._modules.values() for parameter in family.parameters()}
    sequences = {
        tensor.data_ptr(): tensor
        for tensor in kept
        if tensor.is_floating_point() and tensor.dim() == 3 and tensor.data_ptr() not in own
    }
    sequences[results[0].data_ptr()] = results[0]
    numbers = sum(tensor.numel() for tensor in sequences.values()) // (4 * 2)
    assert numbers == plan.backward.saved_floats(layer.sizes) + (
        0 if plan.program.states[0][0] in plan.backward.kept_states else layer.output_size
    )


def test_an_lstm_saves_at_most_seven_numbers_a_unit_and_step() -> None:
    layer = Recurrent("lstm", 5, 64)
    assert layer.plan(()).backward.saved_floats(layer.sizes) <= 7 * 64


def test_a_model_on_two_states_of_other_types_reads_them_in_its_own() -> None:
    layer = layer_of("lstm", dtype=torch.float32, backend="llvm")
    x, state = torch.randn(3, 2, 3), (torch.randn(2, 6).double(), torch.randn(2, 6))
    expected, _ = layer(x, (state[0].float(), state[1]))
    assert torch.equal(layer(x, state)[0], expected)


def test_whole_numbers_of_a_further_input_are_numbers() -> None:
    layer = layer_of("divided", backend="llvm")
    x, interval = torch.randn(3, 2, 3, dtype=torch.float64), torch.tensor([[1, 2], [3, 1], [2, 2]])
    expected, _ = layer(x, dt=interval.double())
    assert_close([layer(x, dt=interval)[0]], [expected])


def assert_as_reference(text: str, x: Tensor, **options: Any) -> None:
    found = []
    for backend in ("llvm", "reference"):
        torch.manual_seed(1)
        layer = Recurrent(parse(text), 4, 6, backend=backend, dtype=torch.float64, **options)
        y, _ = layer(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    assert_close(*found)


def test_cells_that_differ_in_one_constant_have_kernels_of_their_own() -> None:
    for keep in ("0.5", "0.25", "1.5"):
        text = f"@cell\ndef made(x, h):\n    h = {keep} * h + tanh(W.a @ x)\n    return h\n"
        assert_as_reference(text, torch.randn(4, 5, 4, dtype=torch.float64))


def test_cells_that_differ_in_one_structure_have_kernels_of_their_own() -> None:
    for structure in ("diagonal()", "block_diagonal(2)", "antisymmetric()", "low_rank(2)", "block_triangular((1, 2))"):
        text = (
            f"@cell(structure={{'U.a': {structure}}})\ndef made(x, h):\n    h = tanh(W.a @ x + U.a @ h)\n    return h\n"
        )
        assert_as_reference(text, torch.randn(4, 5, 4, dtype=torch.float64))


def test_a_map_of_what_a_map_gives_of_whole_numbers_reads_the_table_row_by_row() -> None:
    text = "@cell\ndef made(x, h):\n    q = W.a @ x\n    h = tanh(U.a @ q + layer_norm(q) + h)\n    return h\n"
    assert_as_reference(text, torch.randint(0, 4, (4, 5)))


HOLD: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda y: y,
    "view": lambda y: y[3:],
    "array": lambda y: y.numpy(),
    "storage": lambda y: y.untyped_storage(),
    "detached": lambda y: y.detach(),
    "dlpack": lambda y: np.from_dlpack(y),
}


@pytest.mark.parametrize("hold", HOLD)
def test_a_large_output_that_is_held_in_any_way_is_not_written_over(hold: str) -> None:
    layer = layer_of("lstm", 3, 144, backend="llvm")
    x = torch.randn(64, 16, 3, dtype=torch.float64)
    with torch.no_grad():
        y, _ = layer(x)
        address, expected = y.data_ptr(), y.clone()
        held = HOLD[hold](y)
        del y
        for number in range(3):
            assert layer(x + number)[0].data_ptr() != address
    assert torch.equal(as_tensor(held).flatten()[-1000:], expected.flatten()[-1000:])


def as_tensor(held: object) -> Tensor:
    if isinstance(held, torch.UntypedStorage):
        return torch.empty(0, dtype=torch.float64).set_(held, 0, (len(held) // 8,))
    return torch.as_tensor(held)


def test_the_memory_of_a_large_output_may_be_freed_or_given_away() -> None:
    layer = layer_of("lstm", 3, 144, backend="llvm")
    x = torch.randn(64, 16, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = layer(x)[0].clone()
        for spoil in (lambda y: y.untyped_storage().resize_(0), lambda y: y.resize_(2 * len(y), 16, 144)):
            spoil(layer(x)[0])
            assert torch.equal(layer(x)[0], expected)
        y, _ = layer(x)
        y.add_(1)
        assert torch.equal(layer(x)[0], expected)


@pytest.mark.parametrize("name", ["lstm", "gru", "layer-norm-lstm"])
def test_a_compiled_layer_runs_the_same_kernels(name: str) -> None:
    layer = layer_of(name, 3, 16, dtype=torch.float32, backend="llvm")
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(5, 4, 3)
    found = []
    for model in (layer, compiled):
        y, _ = model(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["lstm", "gru-cho"])
def test_a_sequence_of_100_000_steps_trains(name: str) -> None:
    layer = layer_of(name, 4, 16, dtype=torch.float32, backend="llvm")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.2)
    x = torch.randn(100_000, 1, 4)
    y, _ = layer(x)
    slopes = torch.autograd.grad(y.square().mean(), list(layer.parameters()))
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(slope).all() for slope in slopes)
    tail, _ = layer(x[-50:])
    assert torch.allclose(y[-1], tail[-1], atol=1e-5)  # its memory is shorter
