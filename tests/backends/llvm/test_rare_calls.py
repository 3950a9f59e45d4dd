"""Calls that are rare, each of which has once given wrong numbers, or none."""

from __future__ import annotations

import gc

import pytest
import torch
from torch.func import functional_call

pytest.importorskip("llvmlite")

from tests.conformance.networks import NAMES, assert_close, batch_for, gradients, layer_of, twin
from unrolled.backends import Call
from unrolled.backends.llvm import arena, machine
from unrolled.errors import ShapeError
from unrolled.ir.plan import make_plan
from unrolled.ir.program import bind
from unrolled.ir.transforms import RECURRENT_MASK, with_recurrent_mask
from unrolled.language import parse
from unrolled.layers import Recurrent
from unrolled.scan import scan

if machine.unavailable():
    pytest.skip(machine.unavailable(), allow_module_level=True)

pytestmark = pytest.mark.timeout(120, method="thread")


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reversed"])
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_trains_in_chunks(name: str, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(name, 3, 6, backend="llvm", reverse=reverse)
    given = batch_for(layer, 7, 3)
    expected = gradients(twin(layer, "reference"), given)
    monkeypatch.setattr("unrolled.backends.llvm.run_backward.CHUNK_ROWS", 6)
    got = gradients(layer, given)
    assert_close([*got[0], *got[1]], [*expected[0], *expected[1]])


def test_numpy_and_tensors_in_turn_on_two_threads_take_the_same_steps() -> None:
    layer = Recurrent("lstm", 64, 64).eval()
    one, two = layer.stream(threads=1), layer.stream(threads=2)
    for number, x in enumerate(torch.randn(300, 64)):
        given = x if number % 3 == 1 else x.numpy()
        assert torch.equal(torch.as_tensor(two.step(given)), torch.as_tensor(one.step(x.numpy())))


def test_a_stream_may_read_what_it_has_just_left() -> None:
    layer = Recurrent("lstm", 32, 32).eval()
    own, apart = layer.stream(), layer.stream()
    y = z = torch.randn(32)
    for _ in range(6):
        y, z = own.step(y), apart.step(z.clone())
        assert torch.equal(y, z)


@pytest.mark.parametrize("precision", ["", "bf16"], ids=["float32", "bf16"])
def test_weights_that_are_strided_in_both_axes(precision: str) -> None:
    layer = Recurrent("lstm", 32, 32, precision=precision)
    x = torch.randn(5, 4, 32)
    weights = {name: torch.stack([v, torch.randn_like(v)], -1)[..., 0] for name, v in layer.named_parameters()}
    with torch.no_grad():
        assert torch.equal(functional_call(layer, weights, (x,))[0], layer(x)[0])


def test_the_gradient_of_a_row_value() -> None:
    layer = layer_of("lstm", 3, 6)
    program = with_recurrent_mask(bind(layer.cell.program, layer.sizes))
    plan = make_plan(program)
    assert plan.program.rows[0][0] == RECURRENT_MASK
    found = []
    for backend in ("reference", "llvm"):
        torch.manual_seed(1)
        x, mask = torch.randn(4, 2, 3).double(), torch.rand(2, 6).double().requires_grad_()
        states = [torch.zeros(2, 6).double(), torch.zeros(2, 6).double()]
        weights = [layer.get_parameter(f"{g.family}.{g.key}") for g in plan.groups]
        sizes = [layer.sizes[axis] for axis in plan.axes]
        (y, *_), _ = scan(plan, Call([x], [mask], states, [], weights, [], sizes), backend)
        found.append(torch.autograd.grad((y * y).sum(), [mask, *weights]))
    assert_close(found[1], found[0])


def test_another_default_device_changes_nothing() -> None:
    layer, x = Recurrent("mgu", 5, 8), torch.randn(3, 2, 5)
    expected = layer(x)[0]
    with torch.device("meta"):
        y, _ = layer(x)
        y.sum().backward()
    assert torch.equal(y, expected)


def test_a_kernel_looks_at_lengths_and_symbols_itself() -> None:
    layer = layer_of("lstm", 3, 6, dtype=torch.float32)
    plan = layer.plan()
    weights = [layer.get_parameter(f"{g.family}.{g.key}").detach() for g in plan.groups]
    sizes, states = [layer.sizes[axis] for axis in plan.axes], [torch.zeros(2, 6), torch.zeros(2, 6)]
    long = Call([torch.randn(4, 2, 3)], [], states, [], weights, [], sizes, lengths=torch.tensor([4, 5]))
    with pytest.raises(ShapeError, match="lengths are from 4 to 5"):
        scan(plan, long, "llvm")
    strange = Call([torch.tensor([[0, 3]])], [], states, [], weights, [], sizes)
    with pytest.raises(ShapeError, match="numbers from 0 to 3"):
        scan(plan, strange, "llvm")


def test_the_memory_that_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "_MOST_BYTES", 2**23)
    for size in range(20, 40):
        arena.recycled((size, 2**16), torch.float32)
        with arena.Arena(size * 2**18):
            pass
    gc.collect()
    assert sum(memory.numel() for _, memory, _ in arena._given) <= 2**23
    assert sum(memory.numel() for memory in arena._free) <= 2**23


def test_the_memory_of_a_large_output_serves_the_next_call() -> None:
    layer, x = Recurrent("elman", 8, 256), torch.randn(64, 32, 8)
    with torch.no_grad():
        first = layer(x)[0].data_ptr()
        places = {layer(x)[0].data_ptr() for _ in range(3)}
    assert places == {first}


@pytest.mark.parametrize("structure", ["diagonal()", "low_rank(2)", "block_diagonal(3)", "block_triangular((1, 2))"])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_maps_of_inputs_may_have_structures_beside_dense_ones(structure: str, one_hot: bool, batch: int) -> None:
    cell = parse(f"""
@cell(structure={{"W.h": {structure}, "V.h": {structure}}})
def structured(x, h, z: Input["hidden"]):
    h = tanh(W.h @ x + V.h @ z + U.h @ h + b.h) * sigmoid(W.g @ x)
    return h
""")
    layers = [Recurrent(cell, 6, 6, dtype=torch.float64, backend=backend) for backend in ("llvm", "reference")]
    layers[1].load_state_dict(layers[0].state_dict())
    x, z = (torch.randn(7, batch, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    given = torch.randint(6, (7, batch)) if one_hot else x
    found = []
    for layer in layers:
        y, _ = layer(given, z=z)
        moving = [z, *layer.parameters()] if one_hot else [x, z, *layer.parameters()]
        found.append([y, *torch.autograd.grad(y.square().sum(), moving)])
    assert_close(*found)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_an_input_that_nothing_reads_is_no_hindrance(one_hot: bool, batch: int) -> None:
    head, body = "@cell\ndef deaf(x, h, z: Input['hidden']):", "q = W.q @ x\n    q = z\n    h = tanh(U.h @ h + q)"
    cell = parse(f"{head}\n    {body}\n    return h\n")
    x = torch.randint(6, (7, batch)) if one_hot else torch.randn(7, batch, 6)
    z = torch.randn(7, batch, 6)
    layer = Recurrent(cell, 6, 6, backend="llvm")
    expected = Recurrent(cell, 6, 6, backend="reference")
    expected.load_state_dict(layer.state_dict())
    assert_close([layer(x, z=z)[0]], [expected(x, z=z)[0]], 1e-6)
