from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

from tests.ir.hard_cells import HARD_CELLS, clockwork, context_units, irregular, recurrent_highway
from unrolled.cells import get
from unrolled.errors import CellError
from unrolled.ir.structure import Structure
from unrolled.language import (
    Input,
    State,
    U,
    V,
    W,
    abs,
    antisymmetric,
    b,
    block_diagonal,
    block_triangular,
    cell,
    cumax,
    cumsum,
    diagonal,
    exp,
    hard_sigmoid,
    layer_norm,
    log,
    low_rank,
    maximum,
    mean,
    minimum,
    p,
    parse,
    raw,
    relu,
    repeat,
    s,
    sigmoid,
    silu,
    softmax,
    softplus,
    sqrt,
    sum,
    tanh,
    tick,
    where,
)


def _ops(made):
    return {node.op for node in made.program.nodes}


def _structures(made):
    return {node.symbol: node["structure"] for node in made.program.parameters if len(node.shape) == 2}


def test_the_signature_tells_inputs_states_and_hyperparameters_apart():
    program = cell(_context_cell).program
    assert program.inputs == (("x", ("input",)), ("dt", ()), ("below", ("hidden",)))
    assert program.states == (("h", ("hidden",)), ("c", ("context",)))
    assert program.scalars == {"alpha": 0.5}
    assert program.axes == {"context": 8, "depth": 2}


def _context_cell(x, h, c: State["context"], dt: Input[()], below: Input["hidden"], *, context=8, alpha=0.5, depth=2):
    c = alpha * c * dt
    h = tanh(W.h @ x + V.h @ c + below)
    return h, c


def test_the_whole_closed_set_can_be_traced():
    @cell(axes={"V.k": "chunk"})
    def everything(x, h, c, *, chunk=2):
        a = sigmoid(h) + tanh(h) - relu(h) * exp(h) / log(softplus(c))
        a = sqrt(abs(a)) + minimum(a, 1) + maximum(a, c) + -a
        a = where(a < c, a, c) + where(a <= c, 1, 0) + where(a == c, a, c) + where(a > 0, a, 0) + where(a >= c, a, c)
        a = layer_norm(a) + softmax(a) + cumsum(a) + repeat(V.k @ a) + raw(x) + tick((1, 2)) + cumax(a)
        a = (a - mean(a)) * sum(c)
        h = hard_sigmoid(a) + silu(a) + s.gain * a + p.w * c + b.h + W.h @ x + U.h @ h
        return h, c + a

    from unrolled.ir.ops import OPERATIONS

    internal = {name for name, row in OPERATIONS.items() if row.internal}
    assert _ops(everything) == set(OPERATIONS) - internal - {"row", "scalar"}


def test_comparisons_are_zero_one_values_and_greater_is_less_the_other_way():
    @cell
    def compared(x, h):
        a = (h > 0) + (h != 0)
        h = a * tanh(W.h @ x)
        return h

    assert "a = (0 < h) + (1 - (h == 0))" in compared.text


def test_numbers_of_any_kind_and_from_either_side_become_constants():
    @cell
    def numbers(x, h):
        h = 2 * h + h * np.float64(0.5) - 1 / (3 - h) + np.float32(0.25) + True
        h = np.float64(4) * h
        return h + W.h @ x

    values = {node["value"] for node in numbers.program.nodes if node.op == "constant"}
    assert values == {2.0, 0.5, 1.0, 3.0, 0.25, 4.0}


def test_a_bias_takes_the_axis_of_what_it_stands_beside():
    @cell(axes={"V.c": "context"})
    def biased(x, h, c: State["context"], *, context=4):
        c = tanh(V.c @ x + b.c + p.c * c)
        h = tanh(W.h @ x + V.h @ c + b.h)
        return h, c

    shapes = {node.symbol: node.shape for node in biased.program.parameters}
    assert shapes["b.c"] == shapes["p.c"] == ("context",)
    assert shapes["b.h"] == ("hidden",)
    assert shapes["V.c"] == ("context", "input")
    assert shapes["V.h"] == ("hidden", "context")


def test_a_bias_that_stands_alone_is_hidden_unless_an_axis_is_declared():
    @cell(axes={"b.c": "context"})
    def alone(x, h, c: State["context"], *, context=4):
        c = c * sigmoid(b.c)
        h = tanh(W.h @ x + V.h @ c) * sigmoid(b.h)
        return h, c

    shapes = {node.symbol: node.shape for node in alone.program.parameters}
    assert shapes["b.c"] == ("context",)
    assert shapes["b.h"] == ("hidden",)


def test_a_bias_that_stands_alone_after_its_first_use_keeps_the_axis_of_that_use():
    @cell(axes={"V.c": "context"})
    def reused(x, h, c: State["context"], *, context=4):
        c = (c + b.c) * sigmoid(b.c) + V.c @ x
        h = tanh(W.h @ x + V.h @ c + h)
        return h, c

    assert {node.symbol: node.shape for node in reused.program.parameters}["b.c"] == ("context",)


def test_a_scalar_has_no_axis():
    assert {n.symbol: n.shape for n in cell(_scaled).program.parameters}["s.gain"] == ()


def _scaled(x, h):
    h = s.gain * tanh(W.h @ x + h)
    return h


def test_a_symbol_used_twice_is_one_parameter():
    @cell
    def tied(x, h):
        a = sigmoid(W.a @ x + U.a @ h)
        h = tanh(W.a @ x + U.a @ (a * h))
        return h

    assert [node.symbol for node in tied.program.parameters] == ["W.a", "U.a"]


def test_structures_are_declared_by_symbol_or_by_family_and_arguments_may_name_hyperparameters():
    @cell(
        structure={"U": diagonal(), "U.b": block_diagonal("heads"), "W.x": low_rank(2), "U.t": block_triangular((1, 2))}
    )
    def structured(x, h, *, heads=2):
        h = tanh(W.x @ x + U.a @ h + U.b @ h + U.t @ h)
        return h

    assert _structures(structured) == {
        "W.x": Structure("low_rank", (2,)),
        "U.a": Structure("diagonal"),
        "U.b": Structure("block_diagonal", (2,)),
        "U.t": Structure("block_triangular", ((1, 2),)),
    }
    assert _structures(structured.configure(heads=3))["U.b"] == Structure("block_diagonal", (3,))


def test_an_option_of_a_subscripted_symbol_speaks_for_all_its_subscripts():
    @cell(structure={"U.h": antisymmetric()}, init={"b.h": 0.5, "b.h[1]": 2.0}, axes={"V.q": "input"})
    def looped(x, h):
        for k in range(2):
            h = tanh(U.h[k] @ h + b.h[k] + W.h @ (x * sigmoid(V.q[k] @ h)))
        return h

    assert {symbol: str(kept) for symbol, kept in _structures(looped).items() if symbol[0] == "U"} == {
        "U.h[0]": "antisymmetric()",
        "U.h[1]": "antisymmetric()",
    }
    assert looped.program.init == {"b.h[0]": 0.5, "b.h[1]": 2.0}
    assert looped.program.declared == {"V.q[0]": "input", "V.q[1]": "input"}
    assert parse(looped.text) == looped


def test_a_subscript_may_itself_be_subscripted():
    @cell
    def table(x, h):
        h = tanh(W.h @ x + U.h[0][1] @ h + U.h[1][0] @ h)
        return h

    assert "U.h[0][1] @ h" in table.text
    assert parse(table.text) == table


def test_initial_values_of_states_are_kept():
    @cell(initial={"n": 1})
    def normalised(x, h, n):
        n = n + exp(W.n @ x)
        h = h + tanh(W.h @ x) / n
        return h, n

    assert normalised.program.initial == {"n": 1.0}


def test_the_clock_is_read_through_tick():
    assert clockwork.program.uses_clock
    assert clockwork.configure(periods=(1, 3)).program != clockwork.program
    assert "tick((1, 3))" in clockwork.configure(periods=(1, 3)).text


def test_a_further_input_is_annotated():
    assert dict(irregular.program.inputs) == {"x": ("input",), "dt": ()}


def test_a_state_may_be_the_input_of_the_step_before():
    assert dict(get("qrnn").program.states)["before"] == ("input",)
    assert get("qrnn").program.results[2].op == "sequence"


def test_float_hyperparameters_are_run_time_scalars():
    changed = context_units.configure(alpha=0.5)
    assert changed.program.scalars == {"alpha": 0.5}
    assert "alpha" in {node["name"] for node in changed.program.nodes if node.op == "scalar"}
    assert [n.op for n in changed.program.nodes] == [n.op for n in context_units.program.nodes]


def test_integer_hyperparameters_shape_the_trace():
    assert len(recurrent_highway.configure(depth=5).program.equations) > len(recurrent_highway.program.equations)
    assert recurrent_highway.configure(depth=3) == recurrent_highway


def test_configuring_nothing_gives_the_cell_itself():
    assert recurrent_highway.configure() is recurrent_highway


def test_an_integer_configures_a_float_hyperparameter():
    assert context_units.configure(alpha=1).program.scalars == {"alpha": 1.0}


def test_a_cell_is_immutable_and_hashable():
    with pytest.raises(AttributeError):
        get("lstm").program = None
    assert len({get("lstm"), parse(get("lstm").text), get("gru")}) == 2


def test_a_cell_copies_to_an_equal_one():
    assert copy.deepcopy(recurrent_highway) == recurrent_highway
    assert copy.copy(recurrent_highway) == recurrent_highway


def test_a_cell_is_not_called():
    with pytest.raises(CellError, match=r"is one step as equations and is not called; .*Recurrent\(lstm, input_size"):
        get("lstm")(1, 2)


def test_symbols_outside_a_cell_are_refused_plainly():
    with pytest.raises(CellError, match=r"b\.f belongs into the equations of a cell"):
        b.f + 1
    with pytest.raises(CellError, match="sigmoid belongs into the equations of a cell"):
        sigmoid(0.0)


def test_a_value_does_not_pass_from_one_cell_to_another():
    kept = []

    @cell
    def first(x, h):
        kept.append(tanh(h))
        return kept[0] + W.h @ x

    def second(x, h):
        h = kept[0] + W.h @ x
        return h

    with pytest.raises(CellError, match="a value of one cell cannot be used in another"):
        cell(second)


def test_a_failed_trace_leaves_the_next_one_clean():
    def broken(x, h):
        h = tanh(U.h @ x)
        return h

    with pytest.raises(CellError):
        cell(broken)
    with pytest.raises(CellError, match="belongs into"):
        sigmoid(0.0)
    assert cell(_scaled).program.parameters


def test_cells_are_traced_side_by_side_in_threads():
    made = {}

    def trace(depth):
        made[depth] = recurrent_highway.configure(depth=depth)

    threads = [threading.Thread(target=trace, args=(depth,)) for depth in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {depth: made[depth] for depth in made} == {d: recurrent_highway.configure(depth=d) for d in range(1, 9)}


def test_a_cell_may_be_made_while_another_is_traced():
    inner = []

    @cell
    def outer(x, h):
        a = tanh(W.h @ x)
        inner.append(cell(_scaled))
        h = a * h
        return h

    assert inner[0] == cell(_scaled)
    assert [name for name, _ in outer.program.equations] == ["a", "h"]


def test_helpers_loops_and_branches_on_hyperparameters_are_plain_python():
    def gate(name, x, h):
        return sigmoid(getattr(W, name) @ x + getattr(U, name) @ h + getattr(b, name))

    @cell
    def with_helper(x, h, *, gated=1):
        if gated:
            z = gate("z", x, h)
            h = z * h + (1 - z) * tanh(W.g @ x)
        else:
            h = tanh(W.g @ x + h)
        return h

    assert [node.symbol for node in with_helper.program.parameters] == ["W.z", "U.z", "b.z", "W.g"]
    assert [node.symbol for node in with_helper.configure(gated=0).program.parameters] == ["W.g"]


def test_the_first_paragraph_of_the_docstring_describes_the_cell():
    @cell
    def described(x, h):
        """Keep
        the input.

        At length.
        """
        h = h + W.h @ x
        return h

    assert described.program.doc == "Keep the input."
    assert parse(described.text).program.doc == "Keep the input."


@pytest.mark.parametrize("made", HARD_CELLS, ids=lambda made: made.name)
def test_a_cell_shows_as_its_equations(made):
    assert repr(made) == made.text
    assert made.name.replace("-", "_") == made.program.name
