from __future__ import annotations

import io
import math
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.training.test_loop import Toy
from unrolled.training.loop import Evaluation, Event, Step
from unrolled.training.progress import bar

BIT = math.log(2)
EVENTS: list[Event] = [
    Step(1, 2, 3 * BIT, 1.0, 0.1, 0.5),
    Step(2, 2, math.nan, math.nan, 0.1, 1.0, skipped=True),
    Evaluation(2, 2, 2 * BIT, 1.0),
]


def shown(events: list[Event], terminal: bool) -> tuple[list[Event], str]:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=120)
    return list(bar(iter(events), Toy([1.0]), console)), written.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_every_event_is_passed_on(terminal: bool) -> None:
    assert shown(EVENTS, terminal)[0] == EVENTS
    assert shown([], terminal)[0] == []


def test_a_terminal_shows_steps_loss_held_out_loss_and_rate() -> None:
    _, text = shown(EVENTS, terminal=True)
    last = text.split("\n")[-2]
    for part in ("2/2 steps", "3.000 bits", "held out 2.000", "2 steps/s"):
        assert part in last


def test_a_number_of_steps_that_is_not_known_yet_is_not_shown() -> None:
    _, text = shown([Step(7, None, 3 * BIT, 1.0, 0.1, 0.5)], terminal=True)
    assert " 7 steps " in text


def test_without_a_terminal_each_evaluation_is_a_line() -> None:
    assert shown(EVENTS, terminal=False)[1] == "step 2/2: 3.000 bits, held out 2.000 bits, 2 steps/s\n"


def test_the_bar_is_drawn_before_the_first_step_and_closed_when_the_training_ends_early() -> None:
    def failing() -> Iterator[Event]:
        yield EVENTS[0]
        raise KeyboardInterrupt

    written = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        list(bar(failing(), Toy([1.0]), Console(file=written, force_terminal=True, width=120)))
    # The cursor is shown again.
    assert "\x1b[?25h" in written.getvalue()
