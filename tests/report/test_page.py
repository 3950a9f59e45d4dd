from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.report.pages import Page, metrics
from unrolled.report import Section, report_page

SECTIONS = [
    Section.samples("What it writes", [("After 'The'", "\n  The   end.\n"), ("", "한국어\n   문장")]),
    Section.table("Against others", [("lzma", "2.273", -0.5), ("duet", "1.799", "")], ("model", "bits", "difference")),
    Section.table("Data", [("characters", 376_746)]),
    Section.text("Notes", "One paragraph.", "Another."),
]
ODD = "<script>alert(1)</script>\x00\x1b[31m\x85\ud800\uffff & \"'</pre></style>"


def page(rows: Any, **given: Any) -> str:
    wanted = {"title": "A model", "summary": [("held out", "1.8 bits")], "sections": SECTIONS, "unit": "characters"}
    return report_page(metrics=rows, **{**wanted, **given})


def test_a_page_is_well_formed_and_its_headings_are_in_order() -> None:
    read = Page(page(metrics(300)))
    assert read.named("html") == [{"lang": "en"}]
    headings = [name for name, _ in read.elements if name in ("h1", "h2", "h3")]
    assert headings == ["h1"] + ["h2"] * 8
    assert read.within("h2")[:4] == ["Loss", "Gradient norm", "Learning rate", "How the samples changed"]
    identifiers = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_every_figure_says_what_it_shows_and_every_heading_of_a_table_what_it_heads() -> None:
    read = Page(page(metrics(300)))
    drawings = read.named("svg")
    assert len(drawings) == 6
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert "Held out, the weights of step 150 are the best" in str(drawings[0]["aria-label"])
    assert all(heading["scope"] in ("row", "col") for heading in read.named("th"))


def test_the_same_metrics_make_the_same_bytes_in_another_process() -> None:
    code = (
        "import sys; from tests.report.pages import metrics; from unrolled.report import report_page; "
        "sys.stdout.buffer.write(report_page('A model', [], metrics(300), [], 'characters').encode())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert page(metrics(300), summary=[], sections=[]).encode() == other


def test_a_page_names_nothing_outside_itself_and_runs_nothing() -> None:
    written = page(metrics(300))
    assert not re.search(r"https?:|//|@import|javascript:", written)
    read = Page(written)
    assert not {"script", "link", "img", "iframe", "object"} & {name for name, _ in read.elements}
    references = [
        value for _, attributes in read.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert all(str(reference).startswith("#") for reference in references)
    assert all(reference[1:] in written for reference in re.findall(r"url\(([^)]*)\)", written))


def test_the_colours_of_a_figure_are_those_of_the_page() -> None:
    drawings = re.findall(r"<svg.*?</svg>", page(metrics(300)), re.DOTALL)
    variables = set(re.findall(r"var\(--([a-z-]+)\)", "".join(drawings)))
    assert variables == {"ink", "muted", "line", "paper", "training", "held-out", "skipped"}
    assert not re.search(r"(?:fill|stroke): (?:#|black)", "".join(drawings))


@pytest.mark.parametrize("place", ["title", "summary", "sample", "table", "header", "caption", "text", "unit"])
def test_whatever_a_text_holds_it_is_shown_and_never_run(place: str) -> None:
    rows: list[dict[str, Any]] = metrics(20)
    given: dict[str, Any] = {
        "title": {"title": ODD},
        "summary": {"summary": [(ODD, ODD)]},
        "table": {"sections": [Section.table(ODD, [(ODD, ODD)])]},
        "header": {"sections": [Section.table("t", [("a", "b")], (ODD, ODD))]},
        "caption": {"sections": [Section.samples("s", [(ODD, ODD)])]},
        "text": {"sections": [Section.text("t", ODD)]},
        "unit": {"unit": ODD},
    }.get(place, {})
    if place == "sample":
        rows = [{**row, "sample": ODD} if row["event"] == "evaluation" else row for row in rows]
    written = page(rows, **given)
    written.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", written)
    read = Page(written)
    assert not read.named("script")
    assert "<script>alert(1)</script>␀␛[31m��� & \"'</pre></style>" in read.text


def test_samples_keep_their_white_space_and_their_letters() -> None:
    samples = Page(page(metrics(300))).within("pre")
    # A parser drops the line break right after <pre>, which stands there for this.
    assert "\n\n  The   end.\n" in samples
    assert "\n한국어\n   문장" in samples
    assert "\nthe  text\n   at 75" in samples


def test_at_most_six_samples_are_shown_the_first_and_the_last_among_them() -> None:
    read = Page(page(metrics(400, evaluations=40), sections=[]))
    steps = [text for text in read.within("strong") if text.startswith("step")]
    assert len(steps) == 6
    assert (steps[0], steps[-1]) == ("step 10", "step 400")


def test_a_long_sample_of_an_evaluation_is_cut() -> None:
    row = {"event": "evaluation", "number": 1, "loss": 1.0, "sample": "x" * 1_000_000}
    assert len(page([row])) < 100_000


def test_the_verdict_tells_steps_time_end_the_best_loss_and_what_was_skipped() -> None:
    rows = [*metrics(300), {"event": "resumed", "number": 200, "seconds": 20.0}]
    rows.append({"event": "stopped", "number": 300, "reason": "early", "seconds": 3725.0})
    (told,) = [text for text in Page(page(rows)).within("p") if "steps in" in text]
    assert told.startswith("300 steps in 1 h 2 min, and stopped early")
    assert "the weights of step 150 are the best: 1.905 nats (2.748 bits), the mean over characters." in told
    assert "1 step was skipped" in told
    assert "Resumed after step 200." in told


def test_a_training_that_goes_on_tells_how_far_it_is() -> None:
    told = Page(page([row for row in metrics(300) if row["number"] <= 120])).text
    assert "120 steps in 12 s, of 300 that are planned." in told


def test_without_a_measurement_the_page_says_what_is_absent() -> None:
    written = Page(page([], summary=[], sections=[Section.table("Data", [])]))
    assert "No training step is recorded. No evaluation is recorded." in written.text
    assert written.within("h2") == ["Data"]
    assert "Nothing is recorded." in written.text


def test_steps_without_evaluations_and_evaluations_without_steps_have_their_figures() -> None:
    steps = Page(page(metrics(50, evaluations=0), sections=[]))
    assert "No evaluation is recorded." in steps.text
    assert steps.within("h2") == ["Loss", "Gradient norm", "Learning rate"]
    held_out = Page(page([row for row in metrics(50) if row["event"] == "evaluation"], sections=[]))
    assert "No training step is recorded." in held_out.text
    assert held_out.within("h2") == ["Loss", "How the samples changed"]


def test_losses_that_were_never_finite_leave_no_figure_but_a_sentence() -> None:
    rows = [{"event": "step", "number": n, "loss": None, "gradient_norm": None, "skipped": True} for n in range(9)]
    rows.append({"event": "evaluation", "number": 8, "loss": math.nan, "sample": "a"})
    read = Page(page(rows, sections=[]))
    assert read.within("h2") == ["How the samples changed"]
    assert "No held-out loss was finite." in read.text
    assert "9 steps were skipped" in read.text


def test_rows_and_keys_that_are_not_known_are_passed_over() -> None:
    rows = metrics(60)
    odd: list[Any] = [{"event": "phase", "number": 3}, {}, {"event": "step"}, {"event": "step", "number": "7"}, 5, None]
    assert page([*odd, *({**row, "later": 1} for row in rows)]) == page(rows)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(20))
def test_no_value_of_a_row_breaks_a_page(seed: int) -> None:
    draw = random.Random(seed)
    values = [None, math.nan, math.inf, -math.inf, 0, -1, 1e99, -1e99, 5e-324, 10**400, "x", True, [], {}, 1.5, 2**63]
    keys = ("steps", "loss", "gradient_norm", "learning_rate", "seconds", "skipped", "best", "sample", "reason")
    events = ["step", "evaluation", "resumed", "stopped", "checkpoint", "later", None, []]
    rows = []
    for number in range(draw.choice([1, 2, 30])):
        row = {"event": draw.choice(events), "number": draw.choice([number, number, draw.choice(values)])}
        rows.append({**row, **{key: draw.choice([*values, 0.5, 2.0]) for key in keys if draw.random() < 0.9}})
    Page(page(rows))


def test_the_page_of_two_hundred_thousand_steps_is_small() -> None:
    assert len(page(metrics(200_000, evaluations=1000)).encode()) < 400_000


def test_columns_of_numbers_are_set_as_numbers() -> None:
    read = Page(page([], sections=[SECTIONS[1]]))
    assert [heading.get("class") for heading in read.named("th")][:3] == [None, "number", "number"]


def test_the_settings_of_the_user_do_not_reach_a_figure() -> None:
    import matplotlib

    expected = page(metrics(30))
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert page(metrics(30)) == expected
        assert dict(matplotlib.rcParams) == before


def test_loading_the_report_loads_neither_matplotlib_nor_jinja() -> None:
    code = "import sys, unrolled.report; sys.exit(bool({'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_does_without_the_global_state_of_pyplot() -> None:
    code = (
        "import sys; from tests.report.pages import metrics; from unrolled.report import report_page; "
        "report_page('A model', [], metrics(30), [], 'frames'); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
