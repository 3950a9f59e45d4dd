"""About 1,000 parameters and no informative input: 40 ms of a spoken digit (Koutnik 2014, section 4.1).

The target is the loudest 320 samples of a recording at 8 kHz, scaled to mean 0 and variance 1, so that the mean squared
error is the normalised one, NMSE. A network reads a constant 1 from the state 0; a linear map of its output is the
sample. All are trained alike, 2,000 steps on the whole waveform, each at the one of four rates that has the lowest
geometric mean on the first waveform over four seeds that are used for nothing else.

The paper has music at 44.1 kHz, nine modules with periods up to 256 and momentum, and reports the best of 100 seeds:
SRN .46, LSTM .04, clockwork .007; it begins forget biases at 5, which is a row of its own here. Eight modules of five
units with periods up to 128 come nearest to 1,000 parameters.
"""

from __future__ import annotations

import time
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, parameters_of, seed_all
from shown.showing import COLOURS, Drawing, Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.layers import Recurrent

RECORDINGS = ("1_george_0", "2_jackson_0", "3_lucas_0")
SAMPLES, STEPS = 320, 2000
NETWORKS: dict[str, Callable[[], Recurrent]] = {
    "tanh": lambda: Recurrent("elman", 1, 30),
    "LSTM": lambda: Recurrent("lstm", 1, 15),
    "LSTM, forget bias 5": lambda: Recurrent("lstm", 1, 15, init={"b.f": 5.0}),
    "clockwork": lambda: Recurrent("clockwork", 1, 40, periods=tuple(2**k for k in range(8))),
}
RATES = (0.001, 0.003, 0.01, 0.03)
RATE_SEEDS = range(1000, 1004)
DRAWN = RECORDINGS[1]


class Trial(NamedTuple):
    """One training: a network, a waveform and what is varied."""

    network: str
    target: np.ndarray
    rate: float
    seed: int
    steps: int


class Sounded(NamedTuple):
    """What a network gives after its training, and what that took."""

    nmse: float
    waveform: np.ndarray
    seconds: float


def run(settings: Settings) -> Iterator[Shown]:
    """The rates, then the error of every network at every waveform, and what is heard."""
    targets = {name: loudest(settings.data / "fsdd" / "recordings" / f"{name}.wav") for name in RECORDINGS}
    steps, seeds = settings.steps_of(STEPS), settings.seeds_of(20)
    table, rates = _rates(targets[RECORDINGS[0]], steps, RATE_SEEDS[:1] if settings.quick else RATE_SEEDS)
    yield table
    trials = {
        (recording, network): [Trial(network, target, rates[network], seed, steps) for seed in seeds]
        for recording, target in targets.items()
        for network in NETWORKS
    }
    found = _sound_all(trials, "waveforms")
    yield _errors(found, rates)
    yield _seeds(found)
    best = {network: min(found[DRAWN, network], key=lambda sounded: sounded.nmse) for network in NETWORKS}
    yield _outputs(targets[DRAWN], best)


def loudest(path: Path) -> np.ndarray:
    """The samples of most energy that lie next to each other, at mean 0 and variance 1."""
    with wave.open(str(path)) as recording:
        assert (recording.getnchannels(), recording.getsampwidth()) == (1, 2)
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float64)
    start = int(np.convolve(samples**2, np.ones(SAMPLES), "valid").argmax())
    cut = samples[start : start + SAMPLES]
    return ((cut - cut.mean()) / cut.std()).astype(np.float32)


def sound(trial: Trial) -> Sounded:
    """Train a network until it gives a waveform."""
    start = time.perf_counter()
    seed_all(trial.seed)
    layer, target = NETWORKS[trial.network](), torch.from_numpy(trial.target)
    head, constant = nn.Linear(layer.output_size, 1), torch.ones(SAMPLES, 1, 1)

    def waveform() -> Tensor:
        y, _ = layer(constant)
        return head(y)[:, 0, 0]

    def loss() -> Tensor:
        return functional.mse_loss(waveform(), target)

    learn([*layer.parameters(), *head.parameters()], loss, trial.steps, about=trial.network, rate=trial.rate)
    with torch.no_grad():
        return Sounded(loss().item(), waveform().numpy(), time.perf_counter() - start)


def _sound_all(trials: dict[Any, list[Trial]], about: str) -> dict[Any, list[Sounded]]:
    found = iter(side_by_side(sound, [trial for several in trials.values() for trial in several], about))
    return {key: [next(found) for _ in several] for key, several in trials.items()}


def _rates(target: np.ndarray, steps: int, seeds: Sequence[int]) -> tuple[Table, dict[str, float]]:
    """The rate of each network."""
    trials = {
        (network, rate): [Trial(network, target, rate, seed, steps) for seed in seeds]
        for network in NETWORKS
        for rate in RATES
    }
    errors = {
        key: float(np.exp(np.mean([np.log(sounded.nmse) for sounded in several])))
        for key, several in _sound_all(trials, "rates").items()
    }
    table = Table(
        "rates",
        f"NMSE at {RECORDINGS[0]} by rate: geometric mean of {len(seeds)} seeds; the lowest of a row is taken",
        {"network": "", "parameters": ",d", **{f"rate {rate}": ".2g" for rate in RATES}},
    )
    for network, make in NETWORKS.items():
        layer = make()
        count = parameters_of(layer, nn.Linear(layer.output_size, 1))
        assert abs(count - 1000) <= 50
        table.add(network, count, *(errors[network, rate] for rate in RATES))
    return table, {network: min(RATES, key=lambda rate: errors[network, rate]) for network in NETWORKS}


def _errors(found: dict[tuple[str, str], list[Sounded]], rates: dict[str, float]) -> Table:
    seeds = len(next(iter(found.values())))
    table = Table(
        "nmse",
        f"NMSE of {seeds} seeds; the best of a network as a multiple of clockwork's best",
        {"waveform": "", "network": "", "rate": "g", "best": ".2g", "median": ".2g", "worst": ".2g",
         "× clockwork": ",.0f", "seconds": ".0f"},
    )  # fmt: skip
    for (recording, network), several in found.items():
        errors = [sounded.nmse for sounded in several]
        least = min(sounded.nmse for sounded in found[recording, "clockwork"])
        taken = sum(sounded.seconds for sounded in several)
        table.add(
            recording, network, rates[network],
            min(errors), float(np.median(errors)), max(errors), min(errors) / least, taken,
        )  # fmt: skip
    return table


def _seeds(found: dict[tuple[str, str], list[Sounded]]) -> Drawing:
    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(RECORDINGS), sharey=True)
        for axes, recording in zip(panels, RECORDINGS, strict=True):
            for place, (network, colour) in enumerate(zip(NETWORKS, COLOURS, strict=False)):
                errors = [sounded.nmse for sounded in found[recording, network]]
                spread = place + np.linspace(-0.25, 0.25, len(errors)) if len(errors) > 1 else [place]
                axes.semilogy(spread, errors, ".", color=colour)
                axes.hlines(np.median(errors), place - 0.35, place + 0.35, color=colour)
            axes.set_xticks(range(len(NETWORKS)), [network.replace(", ", ",\n") for network in NETWORKS], fontsize=8)
            axes.set(title=recording)
        panels[0].set(ylabel="NMSE")

    return Drawing("seeds", "The error of every seed, and each network's median as a line.", draw)


def _outputs(target: np.ndarray, best: dict[str, Sounded]) -> Drawing:
    def draw(figure: Any) -> None:
        panels = figure.subplots(len(best), 1, sharex=True, sharey=True)
        for axes, colour, (network, sounded) in zip(panels, COLOURS, best.items(), strict=False):
            axes.plot(target, color="silver", linewidth=3, label="target")
            axes.plot(sounded.waveform, color=colour, linewidth=1, label="best output")
            axes.set(title=f"{network}: NMSE {sounded.nmse:.2g}")
        panels[-1].set(xlabel=f"sample of {DRAWN}")

    label = "The target in grey, and the best output of each network over it."
    return Drawing("outputs", label, draw, (736, 560))
