"""The scan as a citizen of autograd: torch.func, torch.compile, autocast, threads and processes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap

from tests.conformance.networks import CELLS, Batch, assert_close, batch_for, gradients, layer_of, run, twin
from unrolled.backends import Call, choose
from unrolled.cells import all_cells
from unrolled.errors import UsageError
from unrolled.layers import Bidirectional, Recurrent, Stacked

FAMILY = ["lstm", "gru-cho", "clockwork", "weird", "irregular"]
cells = pytest.mark.parametrize("name", FAMILY)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


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


@cells
def test_a_second_backward_with_the_graph_retained_gives_the_same(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, ragged=True, taps=True)
    results = run(layer, given)
    loss = sum(r.square().sum() for r in results)
    wanted = list(layer.parameters())
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    second = torch.autograd.grad(loss, wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, wanted)


@cells
def test_the_gradient_of_one_result_alone_is_that_of_the_reference(name: str) -> None:
    layer = layer_of(name)
    reference = twin(layer, "reference")
    given = batch_for(layer, ragged=True, resets=True, taps=True)
    for index in range(len(run(layer, given))):
        found = []
        for network in (layer, reference):
            x = given.x.clone().requires_grad_()
            wanted = [x, *network.parameters()]
            result = run(network, given.with_flat([x, *given.flat[1:]]))[index]
            slopes = torch.autograd.grad(result.square().sum(), wanted, allow_unused=True)
            zeros = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, slopes, strict=True)]
            found.append(zeros)
        assert_close(*found)


@pytest.mark.parametrize("frozen", ["W", "U", "b", "all"])
def test_frozen_parameters_get_no_gradient_and_change_no_other(frozen: str) -> None:
    layer = layer_of("lstm")
    whole = copy.deepcopy(layer)
    for name, value in layer.named_parameters():
        value.requires_grad_(frozen != "all" and not name.startswith(frozen))
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    given, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer(given)[0].square().sum().backward()
    whole(other)[0].square().sum().backward()
    assert_close([given.grad], [other.grad])  # type: ignore[list-item]
    for value, expected in zip(layer.parameters(), whole.parameters(), strict=True):
        assert (value.grad is not None) == value.requires_grad
        if value.grad is not None:
            assert_close([value.grad], [expected.grad])  # type: ignore[list-item]


def test_nothing_is_recorded_where_no_gradient_is_wanted() -> None:
    layer = layer_of("lstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        quiet, state = layer(x)
    assert not quiet.requires_grad
    assert not state.c.requires_grad
    loud, _ = layer(x)
    assert loud.requires_grad
    assert torch.equal(quiet, loud)
    with torch.inference_mode():
        assert torch.equal(layer(x)[0], quiet)


def test_an_output_changed_in_place_before_backward_is_an_error() -> None:
    layer = layer_of("lstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    y, _ = layer(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("what", ["x", "U.i_f_g_o"])
def test_an_input_changed_in_place_before_backward_is_an_error(what: str) -> None:
    layer = layer_of("lstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    y, _ = layer(x)
    with torch.no_grad():
        (x if what == "x" else dict(layer.named_parameters())[what]).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


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
    fields = ("sequences", "rows", "states", "restarts", "parameters", "scalars", "sizes", "lengths", "resets", "clock",
              "reverse", "precision")  # fmt: skip
    return layer, (plan.key, *(getattr(call, field) for field in fields), "reference")


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


def networks() -> dict[str, Callable[[], Any]]:
    return {
        "recurrent": lambda: layer_of("lstm"),
        "reverse": lambda: layer_of("gru-cho", reverse=True),
        "clock": lambda: layer_of("clockwork"),
        "learned-initial": lambda: layer_of("gru", learn_initial=True),
        "stacked": lambda: Stacked(layer_of("lstm"), layer_of("mgu", 6, 4)),
        "bidirectional": lambda: Bidirectional(layer_of("gru"), layer_of("lstm", reverse=True)),
        "batch-first": lambda: layer_of("simple-gru", batch_first=True),
    }


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", networks())
def test_a_network_compiles_whole_and_trains_the_same(name: str, ragged: bool) -> None:
    network = networks()[name]()
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    batch = 4 if name == "batch-first" else 3
    lengths = torch.tensor([2, 0, 3, 1][:batch]) if ragged else None
    with torch.no_grad():
        # Compiled first: nothing is left to be made when the layer first runs.
        got, _ = compiled(x, None, lengths)
        assert_close([got], [network(x, None, lengths)[0]], 1e-12)
    found = []
    for run_it in (network, compiled):
        given = x.clone().requires_grad_()
        y, state = run_it(given, None, lengths)
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if leaf.requires_grad]
        loss = y.square().sum() + sum(leaf.sum() for leaf in leaves)
        found.append([y, *torch.autograd.grad(loss, [given, *run_it.parameters()])])
    assert_close(found[1], found[0], 1e-12)


def test_a_compiled_layer_runs_over_any_time_without_compiling_anew() -> None:
    layer = layer_of("lstm")
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(layer, fullgraph=True, backend=counter, dynamic=True)
    for time in (5, 9, 3, 12):
        x = torch.randn(time, 2, 3, dtype=torch.float64)
        assert torch.equal(compiled(x)[0], layer(x)[0])
    assert counter.frame_count == 1


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_a_layer_with_recurrent_dropout_compiles_in_both_modes(training: bool) -> None:
    layer = layer_of("lstm", recurrent_dropout=0.5).train(training)
    y, _ = torch.compile(layer, fullgraph=True, backend="aot_eager")(torch.randn(4, 2, 3, dtype=torch.float64))
    assert y.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent", "stacked", "bidirectional"])
def test_inductor_compiles_a_network(name: str) -> None:
    network = networks()[name]()
    x = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    y, _ = torch.compile(network, fullgraph=True)(x, None, torch.tensor([2, 0, 4]))
    expected, _ = network(x, None, torch.tensor([2, 0, 4]))
    assert_close([y], [expected], 1e-12)
    wanted = [x, *network.parameters()]
    got = torch.autograd.grad(y.square().sum(), wanted)
    assert_close(got, torch.autograd.grad(expected.square().sum(), wanted), 1e-10)


@pytest.mark.parametrize("backend", ["", "reference"], ids=["plan", "reference"])
@pytest.mark.parametrize("name", all_cells())
def test_autocast_multiplies_in_bfloat16_and_keeps_float32(name: str, backend: str) -> None:
    layer = Recurrent(name, 8, 16, backend=backend)
    x = torch.randn(6, 4, 8, requires_grad=True)
    expected, expected_state = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
        from_narrow, _ = layer(x.bfloat16())
    assert {v.dtype for v in (y, from_narrow, *state)} == {torch.float32}
    assert not torch.equal(y, expected)
    wanted = [x, *layer.parameters()]
    got, full = torch.autograd.grad(y.square().sum(), wanted), torch.autograd.grad(expected.square().sum(), wanted)
    assert {g.dtype for g in got} == {torch.float32}
    assert_close([y, *state], [expected, *expected_state], 2e-2)
    assert_close(got, full, 2e-2)


def test_autocast_leaves_double_precision_be() -> None:
    layer = layer_of("lstm")
    given = batch_for(layer, ragged=True)
    expected = gradients(layer, given)
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients(layer, given)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 0.0)


def test_threads_share_a_model() -> None:
    layer = layer_of("gru-cho")
    xs = [torch.randn(20, 2, 3, dtype=torch.float64) for _ in range(2)]
    expected = []
    for x in xs:
        given = x.clone().requires_grad_()
        expected.append(torch.autograd.grad(layer(given)[0].square().sum(), [given, *layer.parameters()]))
    layer._plans.clear()
    found: dict[int, list[Any]] = {0: [], 1: []}

    def work(index: int) -> None:
        for _ in range(10):
            given = xs[index].clone().requires_grad_()
            found[index].append(torch.autograd.grad(layer(given)[0].square().sum(), [given, *layer.parameters()]))

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        assert len(found[index]) == 10
        for each in found[index]:
            assert all(torch.equal(a, b) for a, b in zip(each, expected[index], strict=True))


LOAD = """
import pickle, sys, torch
layer, x, expected = pickle.load(open(sys.argv[1], "rb"))
y, state, taps = layer(x, taps=("a",))
assert torch.equal(y, expected[0]) and torch.equal(state.n, expected[1].n), "other numbers"
assert torch.equal(taps["a"], expected[2]["a"])
assert type(expected[1])._fields == type(state)._fields == ("h", "n", "m")
y.sum().backward()
"""


def test_a_pickled_layer_of_a_users_own_cell_runs_in_another_process(tmp_path: Path) -> None:
    text = """
@cell(initial={"n": 1.0})
def own(x, h, n, m):
    a = W.a @ x + U.a @ h
    n = 0.5 * n + a
    m = tanh(n) * m
    h = sigmoid(n + m)
    return h, n, m
"""
    layer = Recurrent(text, 3, 4)
    x = torch.randn(5, 2, 3)
    results = layer(x, taps=("a",))
    detached = (results[0].detach(), type(results[1])(*(v.detach() for v in results[1])), results[2])
    detached[2]["a"] = detached[2]["a"].detach()
    file = tmp_path / "layer.pickle"
    file.write_bytes(pickle.dumps((layer, x, detached)))
    done = subprocess.run([sys.executable, "-c", LOAD, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PARALLEL = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from unrolled.layers import Recurrent, Stacked

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = Stacked(Recurrent("lstm", 3, 5), Recurrent("gru", 5, 4))

    def forward(self, x, lengths):
        y, state = self.layers(x, None, lengths)
        return y

def main(rank, file):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(1)
    x, lengths = torch.randn(6, 4, 3), torch.tensor([6, 0, 3, 5])
    model = DistributedDataParallel(Model())
    rows = slice(2 * rank, 2 * rank + 2)
    (model(x[:, rows], lengths[rows]).square().sum() / 2).backward()
    alone = Model()
    (alone(x, lengths).square().sum() / 4).backward()
    for (name, a), b in zip(model.module.named_parameters(), alone.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    dist.destroy_process_group()

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_the_joined_batch(tmp_path: Path) -> None:
    script, meeting = tmp_path / "parallel.py", tmp_path / "meeting"
    script.write_text(PARALLEL)
    commands = [[sys.executable, str(script), str(rank), str(meeting)] for rank in (0, 1)]
    started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)


def test_the_environment_chooses_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLLED_BACKEND", "reference")
    assert choose(torch.device("cpu")).name == "reference"
    monkeypatch.setenv("UNROLLED_BACKEND", "refrence")
    with pytest.raises(UsageError, match=r"there is no backend 'refrence'. Did you mean reference"):
        layer_of("lstm")(torch.randn(2, 1, 3, dtype=torch.float64))
