from __future__ import annotations

import io
import lzma
import math
import re

import pytest
from rich.console import Console

from unrolled import demo
from unrolled.cli import main
from unrolled.language import parse


def test_the_documentation_holds_every_longer_paragraph_once() -> None:
    text, dropped = demo.documentation()
    paragraphs = [part.strip() for part in text.split("\n\n")]
    long = [part for part in paragraphs if len(part) >= demo.SHORTEST_DROPPED]
    assert len(long) == len(set(long))
    assert dropped > 100
    assert len(text) > 300_000
    assert demo.documentation() == (text, dropped)


def test_the_cell_of_the_demonstration_has_ten_lines_and_is_no_cell_of_the_library() -> None:
    from unrolled.cells import all_cells

    assert parse(demo.duet.text) == demo.duet
    assert demo.duet not in all_cells().values()
    body = demo.duet.text.strip().splitlines()
    assert len(body) <= 10


def test_lzma_bits_are_what_the_text_adds_to_what_is_known() -> None:
    known, text = "one two three four five six. " * 40, "seven eight nine ten. " * 20

    def size(content: str) -> int:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        return len(lzma.compress(content.encode(), format=lzma.FORMAT_RAW, filters=filters))

    assert demo._lzma_bits("", text) == pytest.approx(8 * size(text) / len(text))
    assert demo._lzma_bits(known, text) == pytest.approx(8 * (size(known + text) - size(known)) / len(text))
    assert demo._lzma_bits(text, text) < 0.5 * demo._lzma_bits("", text)


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "piped"])
def test_the_demonstration_has_three_acts_and_its_numbers_agree(terminal: bool) -> None:
    written = io.StringIO()
    demo.demo(0.05, Console(file=written, force_terminal=terminal, color_system=None, width=100, highlight=False))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    acts = [text.index(f"\n{number}. ") for number in (1, 2, 3)]
    assert acts == sorted(acts)
    first, second, third = text[: acts[1]], text[acts[1] : acts[2]], text[acts[2] :]

    assert "def duet(x, h, c):" in first
    assert "d_c" in first
    assert "parameters  " in first

    documentation, dropped = demo.documentation()
    assert f"{len(documentation):,} characters, {dropped:,} repeated paragraphs dropped" in second
    assert "characters/s" in second
    assert "held out" in second

    ours = re.search(r"duet, the cell above +([0-9.]+)", third)
    assert ours is not None
    marks = re.findall(r"  (lzma[a-z,\- ]+|interpolated[A-Za-z,\- ]+?)  +([0-9.]+) +([+-][0-9.]+) (.+)", third)
    assert len(marks) == 4
    for _, bits, difference, verdict in marks:
        assert float(ours[1]) - float(bits) == pytest.approx(float(difference), abs=0.0016)
        assert (verdict.strip() == "beaten") == (float(difference) < 0)
    assert [float(bits) for _, bits, _, _ in marks] == sorted((float(bits) for _, bits, _, _ in marks), reverse=True)
    assert math.log2(100) > float(ours[1]) > 1

    pace = re.search(r"read ([0-9,]+) characters/s; with torch.nn.LSTM in the cell's place.*? ([0-9,]+)\.", third, re.S)
    assert pace is not None
    assert all(int(number.replace(",", "")) > 1000 for number in pace.groups())
    assert demo.PROMPT in third
    listed = third[third.index("likeliest next characters") :]
    probabilities = [float(found) for found in re.findall(r"([0-9.]+)%", listed)]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert "unrolled train language-model FILE --cell lstm --out runs/mine" in third


def test_a_time_that_makes_no_sense_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for minutes in ("0", "-1", "nan", "soon"):
        assert main(["demo", "--minutes", minutes]) == 2
        assert "minutes" in capsys.readouterr().err
