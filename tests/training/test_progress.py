from __future__ import annotations

import io
import math
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.training.toy import Toy
from unrolled.tasks.base import best_evaluation
from unrolled.training.loop import Evaluation, Event, Step, Stopped
from unrolled.training.progress import bar, tell, verdict

BIT = math.log(2)
EVENTS: list[Event] = [
    Step(1, 2, 3 * BIT, 21 * BIT, 1.0, 0.1, 0.5),
    Step(2, 2, math.nan, math.nan, math.nan, 0.1, 1.0, skipped=True),
    Evaluation(2, 2, 2 * BIT, 1.0, best=True),
    Stopped(2, 2, "complete", 1.0),
]


def shown(events: list[Event], terminal: bool) -> tuple[list[Event], str]:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=120)
    return list(bar(iter(events), Toy([1.0]), console)), written.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_every_event_is_passed_on(terminal: bool) -> None:
    assert shown(EVENTS, terminal)[0] == EVENTS
    assert shown([], terminal)[0] == []


def test_a_terminal_shows_steps_loss_held_out_loss_rate_and_what_was_skipped() -> None:
    _, text = shown(EVENTS, terminal=True)
    last = text.split("\n")[-2]
    for part in ("2/2 steps", "(1 skipped)", "3.000 bits", "held out 2.000", "2 steps/s"):
        assert part in last


def test_a_number_of_steps_that_is_not_known_yet_is_not_shown() -> None:
    _, text = shown([Step(7, None, 3 * BIT, 21 * BIT, 1.0, 0.1, 0.5)], terminal=True)
    assert " 7 steps " in text


def test_without_a_terminal_each_evaluation_is_a_line() -> None:
    line = "step 2/2 (1 skipped): 3.000 bits, held out 2.000 bits (best), 2 steps/s\n"
    assert shown(EVENTS, terminal=False)[1] == line


def test_a_loss_that_explodes_is_not_thirty_digits_long() -> None:
    _, text = shown([Evaluation(2, 2, 1e30, 1.0, best=False)], terminal=False)
    assert "held out 1.44e+30 bits" in text


def test_the_bar_is_drawn_before_the_first_step_and_closed_when_the_training_ends_early() -> None:
    def failing() -> Iterator[Event]:
        yield EVENTS[0]
        raise KeyboardInterrupt

    written = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        list(bar(failing(), Toy([1.0]), Console(file=written, force_terminal=True, width=120)))
    # The cursor is shown again.
    assert "\x1b[?25h" in written.getvalue()


def test_the_verdict_tells_how_the_training_ended_and_the_lowest_held_out_loss() -> None:
    metrics = [
        {"event": "step", "number": 1, "skipped": True},
        {"event": "evaluation", "number": 1, "loss": BIT},
        {"event": "evaluation", "number": 2, "loss": 2 * BIT},
        {"event": "stopped", "number": 2, "reason": "early", "seconds": 125.0},
    ]
    assert verdict(metrics, Toy([1.0])) == [
        ("training", "stopped early: what is held out was predicted no better; 2 steps, 2 steps, 2 min 5 s"),
        ("skipped", "1 steps whose loss or gradient was not finite"),
        ("held out", "0.6931 nats, 1.000 bits a step, at step 1"),
    ]


@pytest.mark.parametrize("bad", [math.nan, None])
def test_a_held_out_loss_that_is_not_finite_is_left_out_of_the_verdict(bad: float | None) -> None:
    metrics = [
        {"event": "evaluation", "number": 1, "loss": bad},
        {"event": "evaluation", "number": 2, "loss": BIT},
        {"event": "stopped", "number": 2, "reason": "complete", "seconds": 1.0},
    ]
    assert verdict(metrics, Toy([1.0]))[-1] == ("held out", "0.6931 nats, 1.000 bits a step, at step 2")


def test_columns_of_korean_stay_columns(capsys: pytest.CaptureFixture[str]) -> None:
    tell([("가나", "x"), ("ab", "y")], ["마크 [bold]업[/bold]"])
    first, second, note = (line.rstrip() for line in capsys.readouterr().err.splitlines())
    # Each syllable takes two places.
    assert (first, second) == ("가나  x", "ab    y")
    assert note == "note: 마크 [bold]업[/bold]"


def test_a_held_out_loss_of_zero_is_the_best() -> None:
    assert best_evaluation([{"event": "evaluation", "loss": 1.0}, {"event": "evaluation", "loss": 0.0}]) == {
        "event": "evaluation",
        "loss": 0.0,
    }
