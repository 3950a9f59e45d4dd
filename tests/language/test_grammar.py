from __future__ import annotations

import multiprocessing
import pickle
import pickletools

import pytest

from tests.ir.hard_cells import HARD_CELLS, clockwork, recurrent_highway
from unrolled.cells import all_cells, get
from unrolled.errors import CellError
from unrolled.language import U, W, b, cell, parse, parse_all, sigmoid, tanh

CELLS = [*all_cells().values(), *HARD_CELLS]


def _text(body, arguments="x, h", options=""):
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    return f"@cell{options}\ndef m({arguments}):\n{lines}\n"


def _body(made):
    return [line.strip() for line in made.text.split("def ")[1].split("\n")[1:] if line.strip()]


@pytest.mark.parametrize("made", CELLS, ids=lambda made: made.name)
def test_every_cell_prints_and_parses_back_to_the_same_program(made):
    again = parse(made.text)
    assert again == made
    assert again.text == made.text
    assert again.program.dumps() == made.program.dumps()


@pytest.mark.parametrize("made", CELLS, ids=lambda made: made.name)
def test_a_cell_pickles_as_its_equations(made):
    pickled = pickle.dumps(made)
    assert pickle.loads(pickled) == made
    assert made.text.encode() in pickled
    assert {name for _, name, _ in pickletools.genops(pickled) if name and "unrolled" in str(name)} <= {
        "unrolled.language.grammar",
        made.text,
    }


def _in_child(made, answers):
    answers.put((made.text, pickle.dumps(made)))


def test_a_cell_crosses_the_border_of_a_spawned_process():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(recurrent_highway, answers))
    child.start()
    text, pickled = answers.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    assert text == recurrent_highway.text
    assert pickle.loads(pickled) == recurrent_highway


def test_a_cell_of_a_local_function_pickles_too():
    @cell
    def local(x, h):
        h = tanh(W.h @ x + U.h @ h)
        return h

    assert pickle.loads(pickle.dumps(local)) == local


def test_the_text_of_the_lstm_is_the_file_s():
    assert _body(get("lstm"))[1:] == [
        "i = sigmoid(W.i @ x + U.i @ h + b.i)",
        "f = sigmoid(W.f @ x + U.f @ h + b.f)",
        "g = tanh(W.g @ x + U.g @ h + b.g)",
        "o = sigmoid(W.o @ x + U.o @ h + b.o)",
        "c = f * c + i * g",
        "h = o * tanh(c)",
        "return h, c",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "h = h - (x_ - h)",
        "h = h - x_ - h",
        "h = -(h * x_) + -h * x_",
        "h = --h * x_",
        "h = h * (x_ + 1) / (2 - h)",
        "h = h / (x_ / h)",
        "h = h * (h * x_)",
        "h = (h + x_) * -2",
        "h = x_ - -1 * h",
        "h = (h < x_) * h",
        "h = h * (x_ <= 0.5)",
        "h = (h == x_) + (0 < h)",
        "h = (h < (x_ < h)) + 0.1",
        "h = ((h < x_) < h) + 0.1",
        "h = 1e-12 * h + 1e+20 * x_",
        "h = U.a @ (U.b @ h) * x_",
        "h = U.a @ (h * x_) + U.c @ h * h",
        "h = layer_norm(h, epsilon=0.001) + layer_norm(x_)",
        "h = tick((1, 2)) * h + x_",
        "h = h / sqrt(mean(x_ * x_)) - mean(h + x_)",
        "h = h * sum(h) / size('input') + x_",
        "h = sum(h) / size('input') * x_ + size('hidden') * h",
        "h = s.a * (p.b * (b.c * h)) + x_",
    ],
)
def test_an_equation_is_printed_as_it_was_written(line):
    made = parse(_text(f"x_ = W.x @ x\n{line}\nreturn h"))
    assert line in _body(made)
    assert parse(made.text) == made


def test_a_name_given_again_means_the_new_value_from_there_on():
    made = parse(_text("h = tanh(W.h @ x + h)\nh = h * h\nreturn h"))
    assert _body(made) == ["h = tanh(W.h @ x + h)", "h = h * h", "return h"]


def test_an_old_state_read_after_its_name_was_given_away_gets_an_alias():
    @cell
    def kept(x, h):
        old = h
        h = tanh(W.h @ x)
        return h * old

    @cell
    def hidden(x, h):
        old = [h]
        h = tanh(W.h @ x)
        h = h * old[0]
        return h

    assert "old = h" in _body(kept)
    assert _body(hidden) == ["h_before = h", "h = tanh(W.h @ x)", "h = h * h_before", "return h"]
    for made in (kept, hidden):
        assert parse(made.text) == made


def test_an_alias_takes_no_name_that_the_author_uses():
    @cell
    def crowded(x, h):
        old = [h]
        h = tanh(W.h @ x)
        h_before = h * 2
        h_before_1 = h_before * 2
        h = h * old[0] + h_before + h_before_1
        return h

    assert "h_before_2 = h" in _body(crowded)
    assert parse(crowded.text) == crowded


def test_an_input_read_after_its_name_was_given_away_gets_an_alias():
    @cell
    def rebound(x, h):
        old = [x]
        x = W.a @ x
        h = tanh(x + W.b @ old[0] + h)
        return h

    assert _body(rebound)[0] == "x_before = x"
    assert parse(rebound.text) == rebound


def test_a_value_read_after_its_name_was_given_away_gets_a_numbered_name():
    @cell
    def rebound(x, h):
        a = tanh(W.a @ x)
        kept = [a]
        a = a * h
        h = a + kept[0] * kept[0]
        return h

    assert _body(rebound) == [
        "a = tanh(W.a @ x)",
        "a_1 = a",
        "a = a * h",
        "h = a + a_1 * a_1",
        "return h",
    ]
    assert parse(rebound.text) == rebound


def test_names_that_change_places_are_printed_in_an_order_that_keeps_them():
    @cell
    def swapped(x, h, c):
        h, c = c, h
        h = h + W.h @ x
        return h, c

    made = parse(swapped.text)
    assert made == swapped
    assert [node["name"] for node in made.program.results if node.op == "state"] == ["h"]


def test_what_a_helper_repeats_in_a_loop_is_printed_once_each():
    def iterate(value):
        for _ in range(40):
            value = value * value + value
        return value

    @cell
    def iterated(x, h):
        h = tanh(iterate(W.h @ x + 0.01 * h))
        return h

    assert len(iterated.text) < 5000
    assert parse(iterated.text) == iterated


def test_a_deep_expression_is_printed_in_parts():
    def deep(value):
        for _ in range(1500):
            value = tanh(value)
        return value

    @cell
    def nested(x, h):
        h = deep(W.h @ x + h)
        return h

    assert parse(nested.text) == nested


def test_subscripts_in_loops_are_read_and_written():
    made = parse(_text("for k in range(1, 4):\n    h = tanh(U.h[k] @ h + b.h[k] + W.h[k - 1] @ x)\nreturn h"))
    assert _body(made)[-2] == "h = tanh(U.h[3] @ h + b.h[3] + W.h[2] @ x)"
    assert parse(made.text) == made


def test_loops_nest_and_their_bounds_may_be_hyperparameters():
    text = _text(
        "for k in range(depth):\n    for j in range(0, 2 * depth, 2):\n"
        "        h = tanh(U.h[k][j] @ h + W.x @ x)\nreturn h",
        "x, h, *, depth=2",
    )
    made = parse(text)
    assert len(made.program.equations) == 4
    assert len(made.configure(depth=3).program.equations) == 9


def test_a_text_that_reads_its_hyperparameter_can_be_configured():
    text = _text("for k in range(depth):\n    h = tanh(U.h[k] @ h + W.x @ x)\nreturn h", "x, h, *, depth=2, alpha=0.5")
    text = text.replace("W.x @ x", "alpha * (W.x @ x)")
    assert len(parse(text).configure(depth=4, alpha=0.25).program.equations) == 4


def test_equations_written_out_for_one_value_refuse_another():
    again = parse(recurrent_highway.text)
    with pytest.raises(CellError, match="equations were written out for depth=3 and do not change with it"):
        again.configure(depth=1)
    assert again.configure(depth=3) == again


def test_an_axis_of_a_printed_cell_can_still_be_configured():
    from tests.ir.hard_cells import projected_lstm

    assert parse(projected_lstm.text).configure(projection=7) == projected_lstm.configure(projection=7)


def test_tuples_are_printed_in_place():
    assert "structure={'U.h': block_triangular((1, 2, 4))}" in clockwork.text
    assert "tick((1, 2, 4))" in clockwork.text


def test_several_names_in_one_line_are_read():
    made = parse(_text("i, f = sigmoid(W.i @ x), sigmoid(W.f @ x)\nh = i * h + f\nreturn h"))
    assert [name for name, _ in made.program.equations] == ["i", "f", "h"]


def test_names_that_change_places_in_one_line_are_read_as_python_reads_them():
    made = parse(_text("h, c = c, h\nh = h + W.h @ x\nreturn h, c", "x, h, c"))
    assert made.program.results[1]["name"] == "h"


def test_a_text_may_hold_imports_and_words_beside_its_cells():
    text = '"""Two cells."""\n\nfrom unrolled.language import *\n\n' + get("lstm").text + "\n\n" + get("gru").text
    assert [made.program.name for made in parse_all(text)] == ["lstm", "gru"]
    assert parse(text, "gru") == get("gru")
    with pytest.raises(CellError, match="the text has 2 cells, lstm, gru: name one"):
        parse(text)
    with pytest.raises(CellError, match=r"the text has no cell 'gruu'. Did you mean gru\?"):
        parse(text, "gruu")


def test_hyphens_and_underscores_name_the_same_cell():
    assert parse(get("gru-cho").text, "gru-cho") == get("gru-cho")


def test_a_text_without_a_cell_says_so():
    with pytest.raises(CellError, match="the text has no cell"):
        parse("")
    with pytest.raises(CellError, match="the text has no cell"):
        parse("'only words'")


def test_the_files_of_the_cells_themselves_are_of_the_grammar():
    from pathlib import Path

    import unrolled.cells

    read = {}
    for file in Path(unrolled.cells.__file__).parent.glob("*.py"):
        if file.stem != "__init__":
            read |= {made.name: made for made in parse_all(file.read_text(encoding="utf-8"))}
    assert read == all_cells()


@pytest.mark.parametrize(
    "text", ['say "this"', "back \\ slash", "two\\nlines", "tab\there", "ünïcödé", "'", '"""', "{x}"]
)
def test_sources_and_words_of_any_kind_survive(text):
    @cell(source=text)
    def sourced(x, h):
        h = tanh(W.h @ x + U.h @ h + b.h)
        return h

    assert parse(sourced.text).program.source == text
    described = parse(f"@cell\ndef m(x, h):\n    {text!r}\n    h = tanh(W.h @ x) + h\n    return h\n")
    assert parse(described.text) == described
    assert described.program.doc


def test_options_survive():
    text = _text(
        "c = c * sigmoid(b.c) + V.c @ x\nh = tanh(W.h @ x + U.h @ h + V.h @ c)\nreturn h, c",
        "x, h, c: State['context'], *, context=4",
        "(source='me', init={'b.c': 1.0, 'U': 'orthogonal'}, initial={'c': -0.5}, "
        "axes={'V.c': 'context', 'b.c': 'context'}, structure={'U.h': low_rank(2)})",
    )
    made = parse(text)
    again = parse(made.text)
    assert again == made
    assert again.program.init == {"b.c": 1.0, "U": "orthogonal"}
    assert again.program.initial == {"c": -0.5}
    assert again.program.declared == {"V.c": "context", "b.c": "context"}


def test_a_quoted_annotation_is_read():
    made = parse(_text("h = h * dt + W.h @ x\nreturn h", "x, h, dt: 'Input[()]'"))
    assert dict(made.program.inputs)["dt"] == ()


def test_a_state_may_be_called_like_a_family_of_symbols():
    made = parse(_text("s = tanh(W.s @ x + U.s @ s)\nb = s * b\nreturn s, b", "x, s, b"))
    assert parse(made.text) == made


def test_composite_names_are_printed_as_what_they_are_made_of():
    made = parse(_text("h = hard_sigmoid(h) + silu(W.h @ x) + cumax(h)\nreturn h"))
    assert "cumsum(softmax(h))" in made.text
    assert parse(made.text) == made


def test_a_mean_is_its_sum_by_name_where_the_sum_has_one():
    made = parse(_text("a = sum(h)\nq = mean(h)\nh = W.h @ x + a + q\nreturn h"))
    assert _body(made)[:2] == ["a = sum(h)", "q = a / size('hidden')"]
    assert parse(made.text) == made


def test_line_ends_of_other_systems_are_read():
    text = get("lstm").text
    assert parse(text.replace("\n", "\r\n")) == get("lstm")
    with pytest.raises(CellError, match=r"\n    h = q \* x\n        ~~~~~\n"):
        parse(_text("'a\x0cb'\nq = W.q @ x\nh = q * x\nreturn h").replace("\n", "\r\n"))


def test_sigmoid_of_the_text_is_that_of_the_language():
    @cell
    def m(x, h):
        h = sigmoid(W.h @ x) * h
        return h

    assert parse(_text("h = sigmoid(W.h @ x) * h\nreturn h")) == m
