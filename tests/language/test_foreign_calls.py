"""Functions of other libraries in a cell: the language's own is named."""

from __future__ import annotations

import pytest

from tests.language.readers import READERS, run_as_python
from unrolled.errors import CellError
from unrolled.language import parse

IMPORTS = "import math\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\n"
CALLS = {
    "torch.tanh(h)": "tanh",
    "np.exp(h)": "exp",
    "math.tanh(h)": "tanh",
    "F.relu(h)": "relu",
    "torch.where(h > 0, h, 0)": "where",
    "np.maximum(h, 0.5)": "maximum",
}


def _cell(expression):
    return f"@cell\ndef mine(x, h):\n    h = W.h @ x + {expression}\n    return h\n"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_another_library_names_the_function_of_the_language(reader, call):
    source = _cell(call)
    with pytest.raises(CellError) as caught:
        parse(source) if reader == "text" else run_as_python(IMPORTS + source)
    called, name = call.split("(")[0], CALLS[call]
    assert str(caught.value) == (
        f"in cell 'mine', equation h:\n    h = W.h @ x + {call}\n{' ' * 18}{'~' * len(call)}\n"
        f"  {called} is no function of the language: write {name}(…), the one of unrolled.language"
    )


def test_a_method_of_a_text_names_the_function_of_the_language():
    with pytest.raises(CellError, match=r"h\.tanh is no function of the language: write tanh\(…\)"):
        parse(_cell("h.tanh()"))


@pytest.mark.parametrize(
    ("imports", "call"), [("from torch import tanh", "tanh(h)"), ("from builtins import abs", "abs(h)")]
)
def test_a_function_of_the_same_name_from_elsewhere_is_told_from_the_language_s(imports, call):
    with pytest.raises(CellError, match=rf"this {call[:-3]} is no function of the language: write {call[:-3]}\(…\)"):
        run_as_python(f"{imports}\n{_cell(call)}")


def test_a_call_that_the_language_s_own_function_refuses_says_why():
    with pytest.raises(CellError, match="takes 1 positional argument but 2 were given"):
        run_as_python(_cell("tanh(h, h)"))


def test_a_call_without_source_text_lists_what_there_is():
    with pytest.raises(CellError, match=r"h has no number yet: .*\n  The operations of a cell are .*tanh"):
        exec(f"import math\nfrom unrolled.language import *\n{_cell('math.tanh(h)')}", {})
