"""The figures of a report: loss, gradient norm and learning rate against steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.report.history import Curve, Evaluation, History, Numbers
from unrolled.report.svg import COLOURS, LEFT, NARROW, RIGHT, WIDE, svg
from unrolled.report.text import bits, count, losses, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The distances between marks that are easy to count in, times a power of ten.
_STEPS = (1, 2, 5, 10)
# The quantiles between which the band of the loss lies: nine steps of ten.
USUAL = (0.05, 0.95)


@dataclass(frozen=True)
class Plot:
    """A figure: its heading, what it shows in words, its drawings for wide and narrow screens, its legend."""

    heading: str
    label: str
    wide: str
    narrow: str
    keys: Sequence[tuple[str, str]]


def plots(history: History) -> list[Plot]:
    """The figures that there is something to draw for: loss, gradient norm, learning rate."""
    drawn = [(history.loss, _loss), (history.gradient_norm, _gradient_norm), (history.learning_rate, _learning_rate)]
    return [
        draw(history)
        for values, draw in drawn
        if np.isfinite(values).any() or (draw is _loss and history.best is not None)
    ]


def _loss(history: History) -> Plot:
    curve = history.curve(history.loss, *USUAL)
    held_out = [evaluation for evaluation in history.evaluations if math.isfinite(evaluation.loss)]
    best = history.best
    low, high, cut = _limits(curve.middle, np.array([evaluation.loss for evaluation in held_out]))

    def draw(axes: Axes, wide: bool) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes.set_ylim(low, high)
        _curve(axes, curve)
        x, y = [evaluation.number for evaluation in held_out], [evaluation.loss for evaluation in held_out]
        size = 5 if len(held_out) <= 40 else 0
        axes.plot(x, y, color=COLOURS["held-out"], linewidth=1.8, marker="o", markersize=size, markeredgewidth=0)
        if best is not None:
            _mark_best(axes, best, wide)
        axes.yaxis.set_major_locator(MaxNLocator(6 if wide else 5, steps=_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        right = axes.secondary_yaxis("right", functions=(_as_bits, _as_nats))
        right.yaxis.set_major_locator(MaxNLocator(6 if wide else 5, steps=_STEPS))
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        right.spines["right"].set_visible(False)
        _title(axes, "nats", "bits")

    told, keys = [], []
    if len(finite := curve.middle[np.isfinite(curve.middle)]):
        told.append(f"In training it goes from {losses(finite[0])} to {losses(finite[-1])}.")
        keys.append(("training", f"training, {_each(history)}"))
        if history.steps_a_point > 1:
            keys.append(("band", "nine steps of ten"))
    if best is not None:
        told.append(f"Held out, the weights of step {count(best.number)} are the best: {losses(best.loss)}.")
        keys.append(("held-out", "held out"))
        keys.append(("best", f"the best, at step {count(best.number)}"))
    if cut:
        keys.append(("cut", "some values lie above the axis"))
    return _plot("Loss", " ".join(["Loss against steps.", *told]), draw, history, (340, 270), keys)


def _gradient_norm(history: History) -> Plot:
    positive = np.where(history.gradient_norm > 0, history.gradient_norm, math.nan)
    curve, all_steps, skipped = history.curve(positive, *USUAL), history.curve(positive, 0, 1), history.skipped_places()
    finite = positive[np.isfinite(positive)]
    # Wide enough that two marks of 1, 2 and 5 fall into it.
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (1.0, 1.0)
    margin = max(1.15, math.sqrt(max(1.0, 6 * low / high)))
    low, high = low / margin, high * margin

    def draw(axes: Axes, wide: bool) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_yscale("log")
        axes.set_ylim(low, high)
        _band(axes, all_steps, 0.14)
        _curve(axes, curve)
        if len(skipped):
            across = axes.get_xaxis_transform()
            axes.plot(skipped, np.full(len(skipped), 0.05), "x", color=COLOURS["skipped"], mew=1.6, transform=across)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _title(axes, "norm, before it is clipped")

    label, keys = "Norm of the gradient against steps, on a logarithmic scale.", [("training", _each(history))]
    if history.steps_a_point > 1:
        keys += [("band", "nine steps of ten"), ("faint band", "all steps")]
    if len(skipped):
        words = f"{history.skipped.sum():,} skipped"
        label, keys = f"{label} {words}.", [*keys, ("skipped", words)]
    return _plot("Gradient norm", label, draw, history, (200, 180), keys)


def _learning_rate(history: History) -> Plot:
    curve = history.curve(history.learning_rate, 0, 1)
    highest = float(np.nanmax(history.learning_rate))
    ends = sorted({0.0, highest})

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_ylim(0, max(highest * 1.12, 1e-12))
        axes.plot(curve.numbers, curve.middle, **_line(curve))
        axes.set_yticks(ends, [f"{end:.3g}" for end in ends])

    label = f"Learning rate against steps, at most {measured(highest)}."
    return _plot("Learning rate", label, draw, history, (120, 120), [])


def _plot(
    heading: str,
    label: str,
    draw: Callable[[Axes, bool], None],
    history: History,
    heights: tuple[int, int],
    keys: Sequence[tuple[str, str]],
) -> Plot:
    def on_steps(axes: Axes, wide: bool) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        first, last = history.range
        margin = (last - first) * 0.012 or 1
        axes.set_xlim(first - margin, last + margin)
        axes.xaxis.set_major_locator(MaxNLocator(9 if wide else 4, steps=_STEPS, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        draw(axes, wide)
        for number in history.resumed:
            axes.axvline(number, color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)

    name = heading.lower().replace(" ", "-")
    keys = [*keys, ("resumed", "resumed")] if history.resumed and keys else keys
    wide = svg(f"{name}-wide", label, lambda axes: on_steps(axes, True), WIDE, heights[0])
    narrow = svg(f"{name}-narrow", label, lambda axes: on_steps(axes, False), NARROW, heights[1])
    return Plot(heading, label, wide, narrow, keys)


def _curve(axes: Axes, curve: Curve) -> None:
    _band(axes, curve, 0.24)
    axes.plot(curve.numbers, curve.middle, **_line(curve))


def _band(axes: Axes, curve: Curve, alpha: float) -> None:
    if not np.array_equal(curve.low, curve.high, equal_nan=True):
        axes.fill_between(curve.numbers, curve.low, curve.high, color=COLOURS["training"], alpha=alpha, linewidth=0)


def _line(curve: Curve) -> dict[str, Any]:
    # A line through one point is not seen.
    alone = np.isfinite(curve.middle).sum() < 2
    return {"color": COLOURS["training"], "linewidth": 1.5, "marker": "o" if alone else "", "markersize": 5}


def _mark_best(axes: Axes, best: Evaluation, wide: bool) -> None:
    axes.plot([best.number], [best.loss], "o", color=COLOURS["held-out"], markersize=9, markeredgewidth=0, zorder=4)
    axes.plot([best.number], [best.loss], "o", color=COLOURS["paper"], markersize=4, markeredgewidth=0, zorder=5)
    first, last = axes.get_xlim()
    place = (best.number - first) / (last - first)
    side = "right" if place > 0.7 else "left" if place < 0.3 else "center"
    axes.annotate(
        f"{measured(best.loss)} nats, {measured(bits(best.loss))} bits" if wide else measured(best.loss),
        (best.number, best.loss),
        xytext=({"right": 4, "left": -4, "center": 0}[side], 11),
        textcoords="offset points",
        ha=side,
        va="bottom",
        weight="bold",
        zorder=6,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": COLOURS["paper"], "edgecolor": "none", "alpha": 0.85},
    )


def _title(axes: Axes, left: str, right: str = "") -> None:
    """What the axes measure, in words above them that need no turning of the head."""
    for words, place, aside, side in ((left, 0, 2 - LEFT, "left"), (right, 1, RIGHT - 2, "right")):
        axes.annotate(
            words,
            (place, 1),
            xycoords="axes fraction",
            xytext=(aside, 10),
            textcoords="offset points",
            ha=side,
            color=COLOURS["muted"],
        )


def _as_bits(nats: Any) -> Any:
    return nats / math.log(2)


def _as_nats(bits: Any) -> Any:
    return bits * math.log(2)


def _each(history: History) -> str:
    steps = history.steps_a_point
    return "each step" if steps == 1 else f"mean of about {count(steps)} steps"


def _limits(*lines: Numbers) -> tuple[float, float, bool]:
    """Where the axis of the loss ends, and whether values lie above: a few never leave no room for the others."""
    lines = tuple(line[np.isfinite(line)] for line in lines)
    low = min(float(line.min()) for line in lines if len(line))
    highest = max(float(line.max()) for line in lines if len(line))
    high = max(low + 2 * (float(np.quantile(line, 0.95)) - low) for line in lines if len(line))
    cut = highest - low > 2 * (high - low) > 0
    high = high if cut else highest
    margin = (high - low) * 0.06 or max(abs(high) * 0.1, 0.1)
    return low - margin, high + margin, cut
