from __future__ import annotations

import builtins
import os
import time
import tracemalloc

import pytest

from unrolled.errors import CellError
from unrolled.language import parse, parse_all


def _in_body(line):
    return f"@cell\ndef m(x, h):\n    {line}\n    h = tanh(W.h @ x + U.h @ h)\n    return h\n"


def _in_expression(expression):
    return _in_body(f"q = {expression}")


def _in_header(decorator="@cell", arguments="x, h", ending=""):
    return f"{decorator}\ndef m({arguments}){ending}:\n    h = tanh(W.h @ x + U.h @ h)\n    return h\n"


EXPRESSIONS = [
    "__import__('os').system('touch /tmp/hostile')",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "print(h)",
    "getattr(h, 'node')",
    "h.node",
    "h.trace.graph",
    "h.__class__",
    "W.__class__",
    "W.__dict__",
    "W._family",
    "W.f.family",
    "W.__init__.__globals__",
    "U.h.__class__.__mro__",
    "tanh.__globals__",
    "tanh.__globals__['__builtins__']",
    "(lambda: h)()",
    "lambda: h",
    "[h for _ in (1, 2)]",
    "{h: 1}",
    "{1, 2}",
    "[h, h]",
    "(k for k in (1, 2))",
    "h if h else x",
    "h and x",
    "not h",
    "h < h < h",
    "h is None",
    "h in (1, 2)",
    "f'{h}'",
    "f'{h.__class__}'",
    "'%s' % h",
    "'%1000000000d' % 5",
    "'a' * 10**9",
    "'a' * 1000000000",
    "(1, 2) * 1000000000",
    "b'a' * 1000000000",
    "10**10**10",
    "2**100000000",
    "9**9**9**9",
    "1000000000000 * 1000000000000 * 1000000000000",
    "(10**12)**64 * h",
    "1e308 * 10 * h",
    "1e999 * h",
    "-1e999 * h",
    "1j * h",
    "... * h",
    "None",
    "h * None",
    "h * 'a'",
    "h @ h",
    "h // 2",
    "h % 2",
    "h ** 2",
    "2 ** h",
    "1 / 0",
    "1 % 0",
    "~h",
    "+h",
    "h << 2",
    "h[0]",
    "h[0:2]",
    "x.T",
    "(q := h)",
    "await h",
    "yield h",
    "*h",
    "U['h'] @ h",
    "U.h['a'] @ h",
    "U.h[0.5] @ h",
    "U.h[h] @ h",
    "U.h[0, 1] @ h",
    "U.h[1000:] @ h",
    "tanh(*h)",
    "tanh(**h)",
    "tanh(h, h)",
    "tanh()",
    "tanh(value=h)",
    "layer_norm(h, epsilon='1')",
    "layer_norm(h, epsilon=0)",
    "layer_norm(h, epsilon=-1)",
    "layer_norm(h, epsilon=h)",
    "tick(h)",
    "tick(())",
    "tick((0, 1))",
    "tick('ab')",
    "tick((1, 2) * 100000000)",
    "repeat(h, 'nowhere')",
    "raw(x, [1])",
    "Cell",
    "cell",
    "parse('x')",
    "diagonal()",
    "torch.tanh(h)",
    "numpy.tanh(h)",
    "tanh(h)(h)",
]

STATEMENTS = [
    "import os",
    "from os import system",
    "global h",
    "del h",
    "pass",
    "assert False",
    "raise ValueError",
    "q: int = h",
    "q += h",
    "q.node = h",
    "h[0] = h",
    "W.h = h",
    "q = r = h",
    "(q, r) = h",
    "[q, r] = h, h",
    "q, *r = h, h",
    "q, r = h, h, h",
    "while True:\n        h = h",
    "with h:\n        h = h",
    "if h:\n        h = h",
    "try:\n        h = h\n    except:\n        h = h",
    "def inner():\n        return h",
    "class Inner:\n        h = 1",
    "match h:\n        case _:\n            h = h",
    "for k in h:\n        h = h",
    "for k in (1, 2):\n        h = h",
    "for k, j in range(2):\n        h = h",
    "for k in range(h):\n        h = h",
    "for k in range(0.5):\n        h = h",
    "for k in range():\n        h = h",
    "for k in range(0, 5, 0):\n        h = h",
    "for k in range(2):\n        h = h\n    else:\n        h = h",
    "for k in range(10**9):\n        h = h",
    "for k in range(1000000000):\n        q = 1",
    "for k in range(1000000000):\n        'nothing'",
    "for k in range(1000000000):\n        for j in range(0):\n            h = h",
    "for a in range(999):\n        for b_ in range(999):\n            for c in range(999):\n                q = a",
    "h(h)",
    "h.append(h)",
]

TEXTS = [
    "__import__('os').system('touch /tmp/hostile')",
    "import os\nos.system('touch /tmp/hostile')",
    "from os import *",
    "import unrolled.language",
    "x = 1",
    "def m(x, h):\n    return h",
    "class M:\n    pass",
    "async def m(x, h):\n    return h",
    "@cell\nasync def m(x, h):\n    return h",
    "@cell\nclass M:\n    pass",
    _in_header("@__import__('os').system"),
    _in_header("@cell\n@staticmethod"),
    _in_header("@staticmethod\n@cell"),
    _in_header("@other"),
    _in_header("@other.cell"),
    _in_header("@cell()()"),
    _in_header("@cell(1)"),
    _in_header("@cell(function=1)"),
    _in_header("@cell(**{})"),
    _in_header("@cell(doc='x')"),
    _in_header("@cell(source=1)"),
    _in_header("@cell(source=__import__('os'))"),
    _in_header("@cell(source=f'{1}')"),
    _in_header("@cell(source='a' * 1000000000)"),
    _in_header("@cell(init=1)"),
    _in_header("@cell(init=[('W.h', 1)])"),
    _in_header("@cell(init={'W.h': [1]})"),
    _in_header("@cell(init={'W.h': 1e999})"),
    _in_header("@cell(init={1: 2})"),
    _in_header("@cell(init={[]: 2})"),
    _in_header("@cell(init={**{}})"),
    _in_header("@cell(init={'W.h': {**{}}})"),
    _in_header("@cell(initial={'h': 'x'})"),
    _in_header("@cell(initial={'h': 10**1000})"),
    _in_header("@cell(axes={'W.h': 1})"),
    _in_header("@cell(structure={'U.h': 1})"),
    _in_header("@cell(structure={'U.h': diagonal})"),
    _in_header("@cell(structure={'U.h': diagonal(1)})"),
    _in_header("@cell(structure={'U.h': diagonal(*(1,))})"),
    _in_header("@cell(structure={'U.h': low_rank()})"),
    _in_header("@cell(structure={'U.h': low_rank(rank=2)})"),
    _in_header("@cell(structure={'U.h': low_rank({})})"),
    _in_header("@cell(structure={'U.h': low_rank(True)})"),
    _in_header("@cell(structure={'U.h': block_triangular(3)})"),
    _in_header("@cell(structure={'U.h': block_triangular((1, {}))})"),
    _in_header("@cell(structure={'U.h': Structure('diagonal')})"),
    _in_header(arguments="x, *h"),
    _in_header(arguments="x, **h"),
    _in_header(arguments="x, h=1"),
    _in_header(arguments="x, h, *, k"),
    _in_header(arguments="x, h, *, k=__import__('os')"),
    _in_header(arguments="x, h, *, k=[1 for _ in h]"),
    _in_header(arguments="x, h, *, k=1e999"),
    _in_header(arguments="x, h: __import__('os').system('touch /tmp/hostile')"),
    _in_header(arguments="x, h: '__import__(\"os\")'"),
    _in_header(arguments="x, h: 'State['"),
    _in_header(arguments="x, h: ''"),
    _in_header(arguments="x, h: State"),
    _in_header(arguments="x, h: State[1]"),
    _in_header(arguments="x, h: State['a' * 100000000]"),
    _in_header(arguments="x: State['hidden'], h"),
    _in_header(arguments=""),
    _in_header(arguments="x"),
    "@cell\ndef m(x, h):\n    h = tanh(h)\n",
    "@cell\ndef m(x, h):\n    return\n",
    "@cell\ndef m(x, h):\n    'only words'\n",
    "@cell\ndef m(x, h):\n    return 'text'\n",
    "@cell\ndef m(x, h):\n    return 1\n",
    "@cell\ndef m(x, h):\n    return W.h\n",
    "@cell\ndef m(x, h:\n",
    "\x00",
    "\ud800",
    "@cell\ndef m(x, h):\n    return h + 1" + "0" * 5000,
    "@cell\ndef m(x, h):\n    h = " + "(" * 5000 + "h" + ")" * 5000 + "\n    return h\n",
    "@cell\ndef m(x, h):\n    h = " + "-" * 50_000 + "h\n    return h\n",
    "@cell\ndef m(x, h):\n    h = " + "not " * 20_000 + "h\n    return h\n",
    "@cell\ndef m(x, h):\n    h = h" + " + h" * 20_000 + "\n    return h\n",
    "@cell\ndef m(x, h):\n    h = h" + " + h" * 2_000 + "\n    return h\n",
    "@cell\ndef m(x, h):\n    h = h" + "[0]" * 20_000 + "\n    return h\n",
    "@cell\ndef m(x, h):\n    h = h" + "(h)" * 20_000 + "\n    return h\n",
    "@cell\ndef m(x, h):\n    h = " + "tanh(" * 150 + "W.h @ h" + ")" * 150 + "\n    return h\n",
    "@cell(source=" + "(" * 150 + ")" * 150 + ")\ndef m(x, h):\n    return h\n",
    "@cell(source=" + "-" * 900 + "1)\ndef m(x, h):\n    return h\n",
    "@cell\ndef m(x, h):\n"
    + "".join(f"{'    ' * (k + 1)}for k{k} in range(2):\n" for k in range(19))
    + "    " * 20
    + "h = h\n    return h\n",
    "#" * 1_000_000,
]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Let the test fail should anything reach outside, and should reading take long or much memory."""

    def caught(*_, **__):
        raise AssertionError("the text was executed")

    for name in ("exec", "eval"):
        monkeypatch.setattr(builtins, name, caught)
    monkeypatch.setattr(os, "system", caught)
    tracemalloc.start()
    begun = time.monotonic()
    yield
    taken, (_, most) = time.monotonic() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 20
    assert most < 200_000_000


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_outside_the_language_is_refused_and_never_run(expression):
    with pytest.raises(CellError):
        parse(_in_expression(expression))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_outside_the_language_is_refused_and_never_run(statement):
    with pytest.raises(CellError):
        parse(_in_body(statement))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_text_outside_the_language_is_refused_and_never_run(text):
    with pytest.raises(CellError):
        parse_all(text)


def test_a_deep_but_sensible_expression_is_read():
    made = parse("@cell\ndef m(x, h):\n    h = " + "tanh(" * 90 + "W.h @ x + h" + ")" * 90 + "\n    return h\n")
    assert parse(made.text) == made


def test_a_text_that_would_print_without_end_prints_briefly():
    lines = ["t0 = W.h @ x + h", *(f"t{k + 1} = t{k} * t{k}" for k in range(60)), "kept = (t60, h)"]
    lines += [f"t{k} = h" for k in range(61)]
    body = "\n".join(f"    {line}" for line in lines)
    made = parse(f"@cell\ndef m(x, h):\n{body}\n    h = kept[0] + t60\n    return h\n")
    assert len(made.text) < 20_000
    assert parse(made.text) == made


def test_return_annotations_and_comments_are_not_looked_at():
    text = _in_header(ending=" -> __import__('os').system('touch /tmp/hostile')") + "# __import__('os')\n"
    assert parse(text).program.name == "m"
