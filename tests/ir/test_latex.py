from __future__ import annotations

import pytest

from tests.ir.hard_cells import HARD_CELLS, recurrent_highway
from unrolled.cells import all_cells, get
from unrolled.errors import UsageError
from unrolled.language import parse

CELLS = [*all_cells().values(), *HARD_CELLS]


def _lines(cell, notation="unrolled"):
    text = cell.latex(notation)
    assert text.startswith("\\begin{aligned}\n")
    assert text.endswith("\n\\end{aligned}")
    return text.split("\n", 1)[1].rsplit("\n", 1)[0].split(" \\\\\n")


def _right(expression: str, more: str = "") -> str:
    cell = parse(f"@cell\ndef m(x, h, c):\n    q = {expression}\n{more}    h = q + W.h @ x + c\n    return h, c + h\n")
    return _lines(cell)[0].split("&= ", 1)[1]


def test_the_lstm_in_the_project_s_letters():
    assert _lines(get("lstm")) == [
        r"i_{t} &= \sigma(W_{i}\, x_{t} + U_{i}\, h_{t-1} + b_{i})",
        r"f_{t} &= \sigma(W_{f}\, x_{t} + U_{f}\, h_{t-1} + b_{f})",
        r"g_{t} &= \tanh(W_{g}\, x_{t} + U_{g}\, h_{t-1} + b_{g})",
        r"o_{t} &= \sigma(W_{o}\, x_{t} + U_{o}\, h_{t-1} + b_{o})",
        r"c_{t} &= f_{t} \odot c_{t-1} + i_{t} \odot g_{t}",
        r"h_{t} &= o_{t} \odot \tanh(c_{t})",
    ]


def test_the_lstm_in_the_lecture_s_letters():
    assert _lines(get("lstm"), "lecture") == [
        r"\Gamma_{u,t} &= \sigma(U_{u}\, x_{t} + W_{u}\, s_{t-1} + b_{u})",
        r"\Gamma_{f,t} &= \sigma(U_{f}\, x_{t} + W_{f}\, s_{t-1} + b_{f})",
        r"\tilde{C}_{t} &= \tanh(U_{c}\, x_{t} + W_{c}\, s_{t-1} + b_{c})",
        r"\Gamma_{o,t} &= \sigma(U_{o}\, x_{t} + W_{o}\, s_{t-1} + b_{o})",
        r"C_{t} &= \Gamma_{f,t} \odot C_{t-1} + \Gamma_{u,t} \odot \tilde{C}_{t}",
        r"s_{t} &= \Gamma_{o,t} \odot \tanh(C_{t})",
    ]


def test_a_mean_and_a_power_of_ten_are_written_as_such():
    assert _right("mean(c) + 1e-5") == r"\mathrm{mean}(c_{t-1}) + 10^{-5}"
    assert (
        _right("2.5e-7 * sum(h) / size()") == r"\frac{2.5 \cdot 10^{-7}\, \mathbf{1}^\top h_{t-1}}{n_{\mathrm{hidden}}}"
    )


def test_cho_s_gru_in_both_notations():
    assert _lines(get("gru-cho"))[2:] == [
        r"g_{t} &= \tanh(W_{g}\, x_{t} + U_{g}\, \left(r_{t} \odot h_{t-1}\right) + b_{g})",
        r"h_{t} &= z_{t} \odot h_{t-1} + \left(1 - z_{t}\right) \odot g_{t}",
    ]
    assert _lines(get("gru-cho"), "lecture") == [
        r"\Gamma_{r,t} &= \sigma(U_{r}\, x_{t} + W_{r}\, s_{t-1} + b_{r})",
        r"\Gamma_{u,t} &= \sigma(U_{u}\, x_{t} + W_{u}\, s_{t-1} + b_{u})",
        r"\tilde{s}_{t} &= \tanh(U_{s}\, x_{t} + W_{s}\, \left(\Gamma_{r,t} \odot s_{t-1}\right) + b_{s})",
        r"s_{t} &= \Gamma_{u,t} \odot s_{t-1} + \left(1 - \Gamma_{u,t}\right) \odot \tilde{s}_{t}",
    ]


def test_the_lecture_s_first_gru_in_its_own_letters():
    assert _lines(get("simple-gru"), "lecture") == [
        r"\Gamma_{u,t} &= \sigma(U_{u}\, x_{t} + W_{u}\, s_{t-1} + b_{u})",
        r"\tilde{s}_{t} &= \tanh(U_{s}\, x_{t} + W_{s}\, s_{t-1} + b_{s})",
        r"s_{t} &= \Gamma_{u,t} \odot \tilde{s}_{t} + \left(1 - \Gamma_{u,t}\right) \odot s_{t-1}",
    ]


@pytest.mark.parametrize(
    ("written", "typeset"),
    [
        ("h + (c + h)", r"h_{t-1} + c_{t-1} + h_{t-1}"),
        ("h - (c - h)", r"h_{t-1} - \left(c_{t-1} - h_{t-1}\right)"),
        ("h - (c + h)", r"h_{t-1} - \left(c_{t-1} + h_{t-1}\right)"),
        ("h - c - h", r"h_{t-1} - c_{t-1} - h_{t-1}"),
        ("h * (c + h)", r"h_{t-1} \odot \left(c_{t-1} + h_{t-1}\right)"),
        ("(h + c) * h", r"\left(h_{t-1} + c_{t-1}\right) \odot h_{t-1}"),
        ("-(h + c)", r"-\left(h_{t-1} + c_{t-1}\right)"),
        ("h + -c", r"h_{t-1} + \left(-c_{t-1}\right)"),
        ("h * -c", r"h_{t-1} \odot \left(-c_{t-1}\right)"),
        ("h - -2", r"h_{t-1} - \left(-2\right)"),
        ("U.a @ (U.b @ h)", r"U_{a}\, \left(U_{b}\, h_{t-1}\right)"),
        ("U.a @ (h * c)", r"U_{a}\, \left(h_{t-1} \odot c_{t-1}\right)"),
        ("U.a @ h * c", r"U_{a}\, h_{t-1} \odot c_{t-1}"),
        ("(h + c) / (h - c)", r"\frac{h_{t-1} + c_{t-1}}{h_{t-1} - c_{t-1}}"),
        ("sqrt(h + c) * c", r"\sqrt{h_{t-1} + c_{t-1}} \odot c_{t-1}"),
        ("(raw(x) + h) * c", r"\left(x_{t} + h_{t-1}\right) \odot c_{t-1}"),
        ("U.a @ raw(x * 2)", r"U_{a}\, \left(x_{t}\, 2\right)"),
        ("2 * h", r"2\, h_{t-1}"),
        ("0.5 * (h + c)", r"0.5\, \left(h_{t-1} + c_{t-1}\right)"),
        ("tanh(h + c) * c", r"\tanh(h_{t-1} + c_{t-1}) \odot c_{t-1}"),
        ("where(h > c, h, c) * h", None),
        ("tick((1, 2)) * h", r"\mathbb{1}[t \bmod (1, 2) = 0] \odot h_{t-1}"),
        ("minimum(h, c + 1)", r"\min(h_{t-1}, c_{t-1} + 1)"),
        ("layer_norm(h)", r"\mathrm{LN}(h_{t-1})"),
    ],
)
def test_brackets_stand_where_precedence_needs_them_and_nowhere_else(written, typeset):
    if typeset is None:
        cases = r"\begin{cases} h_{t-1} & \text{if } [c_{t-1} < h_{t-1}] \\ c_{t-1} & \text{otherwise} \end{cases}"
        typeset = rf"\left({cases}\right) \odot h_{{t-1}}"
    assert _right(written) == typeset


def test_a_name_given_again_is_counted():
    lines = _lines(recurrent_highway)
    assert lines[4] == r"{t}^{(1)}_{t} &= \sigma({q}^{(2)}_{t})"
    assert lines[-1].startswith(r"h_{t} &= \tanh(a_{t})")


def test_a_subscript_stands_below_its_symbol():
    assert r"U_{h,1}\, {h}^{(1)}_{t} + b_{h,1}" in recurrent_highway.latex()
    assert _right("U.a[1][2] @ h") == r"U_{a,1,2}\, h_{t-1}"
    assert _right("U.i_up @ h") == r"U_{i^{\mathrm{up}}}\, h_{t-1}"


def test_words_are_upright_and_greek_names_are_letters():
    cell = parse("@cell\ndef m(x, h, *, alpha=0.5):\n    mix_in = alpha * h\n    h = mix_in + W.h @ x\n    return h")
    assert _lines(cell)[0] == r"\mathrm{mix}^{\mathrm{in}}_{t} &= \alpha\, h_{t-1}"


def test_a_returned_expression_is_typeset_as_the_next_state():
    cell = parse("@cell\ndef m(x, h):\n    q = tanh(W.h @ x)\n    return q * h")
    assert _lines(cell)[-1] == r"h_{t} &= q_{t} \odot h_{t-1}"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
@pytest.mark.parametrize("notation", ["unrolled", "lecture"])
def test_every_cell_is_typeset_with_balanced_brackets(cell, notation):
    text = cell.latex(notation)
    assert text.count("{") == text.count("}")
    assert text.count(r"\left(") == text.count(r"\right)")
    assert len(_lines(cell, notation)) >= len(cell.program.equations)


def test_an_unknown_notation_names_the_nearest():
    with pytest.raises(UsageError, match=r"there is no notation 'lectures'. Did you mean lecture\?"):
        get("lstm").latex("lectures")


def test_a_notebook_shows_the_equations():
    assert get("lstm")._repr_latex_() == f"$${get('lstm').latex()}$$"
