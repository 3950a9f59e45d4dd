"""That every option does something."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from unrolled.errors import UsageError
from unrolled.options import tables_of
from unrolled.training.loop import MEASURED_STEPS

TEXT = "the cat sat on the mat and the dog sat on the log.\nnaïve, isn't it?\n" * 9
BASE: dict[str, Any] = {"hidden_size": 6, "batch_size": 4, "window": 8, "epochs": 1, "evaluations": 3, "quiet": True}
DEFAULTS = {option.name: option.default for table in tables_of("language-model").values() for option in fields(table)}
OPTIONS = set(DEFAULTS)

# Option -> what it is changed to, and other options that it needs to have an effect.
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "unit": ("words", {}),
    "symbols": (300, {"unit": "bpe", "symbols": 280}),
    "min_count": (12, {}),
    "end_token": ("line", {}),
    "held_out": (0.3, {}),
    "cell": ("gru", {}),
    "hidden_size": (7, {}),
    "layers": (2, {}),
    "structure": ("residual", {"layers": 2}),
    "embedding_size": (6, {}),
    "tied": (True, {"embedding_size": 6}),
    "dropout": (0.5, {}),
    "dropout_kind": ("variational", {}),
    "recurrent_dropout": (0.5, {}),
    "zoneout": (0.5, {}),
    "weight_drop": (0.5, {}),
    "chrono": (40, {}),
    "precision": ("bf16", {}),
    "batch_size": (3, {}),
    "epochs": (2, {}),
    "minutes": (1e-6, {}),
    "optimiser": ("sgd", {}),
    "learning_rate": (0.1, {}),
    "momentum": (0.5, {}),
    "weight_decay": (0.5, {}),
    "warm_up": (0.5, {}),
    "decay": ("none", {}),
    "clip": (0.01, {"optimiser": "sgd"}),
    "evaluations": (2, {}),
    "patience": (1, {"learning_rate": 50.0, "optimiser": "sgd", "epochs": 3, "evaluations": 20, "patience": 0}),
    "checkpoint_every": (1, {}),
    "seed": (1, {}),
    "window": (9, {}),
    "reduction": ("sum", {"optimiser": "sgd"}),
}


def seen(run: Any) -> tuple[Any, ...]:
    """All that was learned and measured, but for times."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in run.metrics]
    weights = [(name, value.tolist()) for name, value in run.model.state_dict().items()]
    return run.vocabulary.to_json(), rows, weights


def trained(data: Any = None, **options: Any) -> Any:
    return unrolled.train("language-model", [TEXT] if data is None else data, **{**BASE, **options})


@cache
def plain(*needed: tuple[str, Any]) -> Any:
    return trained(**dict(needed))


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_changes_what_is_learned_or_how_it_is_measured(name: str) -> None:
    value, needed = CHANGES[name]
    before = plain(*needed.items())
    after = trained(**{**needed, name: value})
    assert seen(after) != seen(before)
    if name in ("evaluations", "checkpoint_every"):
        kinds = [[row["event"] for row in run.metrics] for run in (before, after)]
        assert kinds[0] != kinds[1]
    elif name == "patience":
        waited = [
            sum(not row["best"] for row in run.metrics if row["event"] == "evaluation") for run in (before, after)
        ]
        assert [before.reason, after.reason] == ["complete", "early"]
        assert waited[0] > waited[1] == 1
    elif name == "minutes":
        assert [before.config["recorded"]["steps"], after.config["recorded"]["steps"]] == [18, MEASURED_STEPS]
    else:
        weights = [[value.tolist() for value in run.model.state_dict().values()] for run in (before, after)]
        assert weights[0] != weights[1]


def test_the_same_options_give_the_same_run() -> None:
    first = seen(plain())
    torch.manual_seed(123)
    assert seen(trained()) == first


@pytest.mark.parametrize("name", sorted(OPTIONS - set(BASE)))
def test_a_default_that_is_given_changes_nothing(name: str) -> None:
    assert seen(trained(**{name: DEFAULTS[name]})) == seen(plain())


def test_the_column_is_the_one_that_is_named() -> None:
    table = {"old": [TEXT[:200]], "new": [TEXT[100:300]]}
    assert seen(trained(table, text="old")) == seen(trained([TEXT[:200]]))
    assert seen(trained(table, text="new")) == seen(trained([TEXT[100:300]]))


def test_files_are_read_in_the_encoding_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXT.encode("cp1252"))
    assert seen(trained(path, encoding="cp1252")) == seen(plain())
    assert "ï" not in trained(path, encoding="cp1251").vocabulary.symbols
    with pytest.raises(UsageError, match=r"is no UTF-8 text: .* it may be cp1252"):
        trained(path)


def test_the_backend_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    named, fastest = trained(backend="reference"), plain()
    losses = [[row["loss"] for row in run.metrics if "loss" in row] for run in (named, fastest)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(UsageError, match="there is no backend 'warp'"):
        trained(backend="warp")
    monkeypatch.setenv("UNROLLED_BACKEND", "warp")
    with pytest.raises(UsageError, match="there is no backend 'warp'"):
        trained()
    assert seen(trained(backend="reference")) == seen(named)


def test_the_precision_is_kept_with_the_run_and_used_by_it(tmp_path: Path) -> None:
    run = trained(precision="bf16")
    run.save(tmp_path / "run")
    again = unrolled.load(tmp_path / "run")
    assert again.config["model"]["precision"] == "bf16"
    measured = again.evaluate([TEXT])
    assert measured == run.evaluate([TEXT])
    for layer in again.model.layers.layers:
        layer.precision = ""
    assert again.evaluate([TEXT])["nats"] != measured["nats"]
    assert again.evaluate([TEXT])["nats"] == pytest.approx(measured["nats"], rel=1e-2)


def test_every_option_is_tried_here() -> None:
    assert set(CHANGES) | {"text", "encoding", "backend"} == OPTIONS
