"""The scan under torch.func: gradients, jacobians, vmap and forward mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap

from tests.conformance.networks import Batch, assert_close, batch_for, layer_of, run, twin
from tests.scan.family import cells
from unrolled.errors import UsageError
from unrolled.layers import Recurrent


def parameters_of(layer: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in layer.named_parameters()}


def loss_of(layer: Recurrent, given: Batch) -> Callable[[dict[str, Tensor]], Tensor]:
    return lambda p: sum(((k + 1) * r.square().sum() for k, r in enumerate(run(layer, given, p))), torch.zeros(()))


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    assert_close(got.values(), expected.values(), tolerance)


@cells
def test_func_grad_is_that_of_the_reference(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, ragged=True, resets=True, taps=True)
    expected = grad(loss_of(twin(layer, "reference"), given))(parameters_of(layer))
    assert_same(grad(loss_of(layer, given))(parameters_of(layer)), expected)


@cells
def test_jacobians_and_hessians_are_those_of_the_reference(name: str) -> None:
    layer = layer_of(name, 2, 3)
    given = batch_for(layer, 3, 2, ragged=True)

    made = {"": layer, "reference": twin(layer, "reference")}

    def outputs(backend: str) -> Callable[[Tensor], Tensor]:
        return lambda x: run(made[backend], given.with_flat([x, *given.flat[1:]]))[0]

    assert_close([jacrev(outputs(""))(given.x)], [jacrev(outputs("reference"))(given.x)])

    def curvature(backend: str) -> Tensor:
        return jacrev(jacrev(lambda x: outputs(backend)(x).square().sum()))(given.x)

    assert_close([curvature("")], [curvature("reference")])
    assert_close([curvature("")], [hessian(lambda x: outputs("reference")(x).square().sum())(given.x)])


@cells
def test_per_sample_gradients_are_those_of_a_loop(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, 4, 3)

    def loss(p: dict[str, Tensor], x: Tensor, inputs: dict[str, Tensor], state: tuple[Tensor, ...]) -> Tensor:
        one = Batch(
            x[:, None], {key: value[:, None] for key, value in inputs.items()}, tuple(s[None] for s in state),
            given.clock,
        )  # fmt: skip
        return loss_of(layer, one)(p)

    p = parameters_of(layer)
    got = vmap(grad(loss), in_dims=(None, 1, 1, 0))(p, given.x, given.inputs, given.state)
    for row in range(3):
        inputs = {key: value[:, row] for key, value in given.inputs.items()}
        expected = grad(loss)(p, given.x[:, row], inputs, tuple(s[row] for s in given.state))
        assert_same({key: value[row] for key, value in got.items()}, expected)


def test_vmap_over_states_lengths_resets_and_numbers_is_a_loop() -> None:
    layer = layer_of("lstm", 4)
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    states = (torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(3, 2, 6, dtype=torch.float64))
    lengths = torch.tensor([[5, 0, 2], [1, 5, 4]])
    resets = torch.rand(5, 3, 2) < 0.3
    index = torch.randint(0, 4, (2, 5, 3))

    def over(h: Tensor, c: Tensor, n: Tensor, r: Tensor) -> Tensor:
        y, state = layer(x, (h, c), n, r)
        return torch.cat([y.flatten(), state.h.flatten(), state.c.flatten()])

    got = vmap(over, in_dims=(0, 1, 0, 2))(*states, lengths, resets)
    expected = [over(states[0][k], states[1][:, k], lengths[k], resets[..., k]) for k in range(2)]
    assert_close([got], [torch.stack(expected)], 1e-12)
    numbers = vmap(lambda k, n: layer(k, None, n)[0])(index, lengths)
    assert_close([numbers], [torch.stack([layer(index[k], None, lengths[k])[0] for k in range(2)])], 1e-12)


@pytest.mark.parametrize("order", ["grad-of-vmap", "backward-of-vmap", "vmap-of-vmap"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_a_gradient_goes_through_vmap_from_outside(order: str, frozen: bool) -> None:
    layer = layer_of("gru").requires_grad_(not frozen)
    xs = torch.randn(2, 4, 3, 3, dtype=torch.float64)

    def loss(values: Tensor) -> Tensor:
        if order == "vmap-of-vmap":
            y = vmap(vmap(lambda x: layer(x[:, None])[0], in_dims=1))(values)
        else:
            y = vmap(lambda x: layer(x)[0])(values)
        return y.square().sum()

    leaf = xs.clone().requires_grad_()
    expected_loss = sum(layer(x)[0].square().sum() for x in leaf)
    (expected,) = torch.autograd.grad(expected_loss, leaf)
    if order == "grad-of-vmap":
        got = grad(loss)(xs)
    else:
        again = xs.clone().requires_grad_()
        (got,) = torch.autograd.grad(loss(again), again)
    assert_close([got], [expected])


def test_an_ensemble_by_vmap_is_a_loop_over_its_members() -> None:
    members = [layer_of("lstm") for _ in range(3)]
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    stacked, _ = stack_module_state(members)  # type: ignore[arg-type]

    def loss(p: dict[str, Tensor]) -> Tensor:
        return functional_call(members[0], p, (x,))[0].square().sum()

    values = vmap(loss)({key: value.detach() for key, value in stacked.items()})
    found = vmap(grad(loss))({key: value.detach() for key, value in stacked.items()})
    for index, member in enumerate(members):
        p = parameters_of(member)
        assert_close([values[index]], [loss(p)], 1e-12)
        assert_same({key: value[index] for key, value in found.items()}, grad(loss)(p))


@pytest.mark.parametrize("how", ["jvp", "dual"])
def test_forward_mode_names_the_reference_which_has_it(how: str) -> None:
    layer = layer_of("lstm")
    reference = twin(layer, "reference")
    x, tangent = torch.randn(2, 4, 2, 3, dtype=torch.float64).unbind(0)

    def pushed(network: Recurrent) -> Tensor:
        if how == "jvp":
            return jvp(lambda value: network(value)[0], (x,), (tangent,))[1]
        with forward_ad.dual_level():
            y, _ = network(forward_ad.make_dual(x, tangent))
            return forward_ad.unpack_dual(y).tangent

    with pytest.raises(UsageError, match='no forward-mode derivative; the layer takes backend="reference"'):
        pushed(layer)
    step = 1e-6
    expected = (reference(x + step * tangent)[0] - reference(x - step * tangent)[0]) / (2 * step)
    torch.testing.assert_close(pushed(reference), expected, atol=1e-7, rtol=1e-6)
