from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import unrolled
from unrolled.cells import get
from unrolled.data.text import Vocabulary
from unrolled.errors import CellError, ShapeError, UnrolledError, UsageError
from unrolled.models.one_to_many import LanguageModel
from unrolled.options import LanguageModelOptions
from unrolled.tasks import language_model
from unrolled.tasks.language_model import LanguageModelTask, nats

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
SMALL: dict[str, Any] = {"hidden_size": 12, "batch_size": 4, "window": 16, "epochs": 2, "learning_rate": 0.02}


def task_of(text: str = TEXT, **options: Any) -> LanguageModelTask:
    return LanguageModelTask(text, LanguageModelOptions(**{"hidden_size": 12, "batch_size": 4, **options}))


def plain_nats(model: LanguageModel, vocabulary: Vocabulary, text: str) -> float:
    stream = vocabulary.encode(text)
    with torch.no_grad():
        scores, _ = model.eval()(stream[:-1, None])
    return float(functional.cross_entropy(scores[:, 0].double(), stream[1:]))


@pytest.mark.parametrize("length", [2, 3, 255, 256, 257, 600])
def test_nats_of_one_row_are_those_of_a_plain_single_reading(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "EVALUATION_ROWS", 1)
    task = task_of()
    text = TEXT[:length]
    assert nats(task.model, task.vocabulary, text) == pytest.approx(
        plain_nats(task.model, task.vocabulary, text), rel=1e-5
    )


@pytest.mark.parametrize("length", [2, 3, 4, 16, 17, 33, 50, 100, 511])
def test_nats_count_every_character_but_the_first_once(length: int) -> None:
    class Counting(LanguageModel):
        """Costs n nats for the n-th symbol, whatever stands before it."""

        def forward(self, x: torch.Tensor, state: Any = None) -> Any:
            scores = torch.zeros(*x.shape, len(vocabulary))
            return scores - torch.arange(len(vocabulary)), None

    text = TEXT[1 : length + 1]
    vocabulary = Vocabulary.of(text)
    model = Counting("elman", len(vocabulary), 2)
    each = torch.log_softmax(-torch.arange(len(vocabulary)).double(), 0)
    expected = -float(each[vocabulary.encode(text)[1:]].sum()) / (length - 1)
    assert nats(model, vocabulary, text) == pytest.approx(expected, rel=1e-5)


def test_nats_leave_the_model_in_the_mode_it_was_in_and_drop_nothing() -> None:
    task = task_of(dropout=0.9)
    task.model.train()
    assert task.evaluate() == task.evaluate()
    assert task.model.training


def test_the_held_out_text_is_the_end_and_the_vocabulary_is_of_what_is_trained_on() -> None:
    task = task_of(TEXT + "Z" * 10, held_out=0.25)
    assert task.training_text + task.held_out_text == TEXT + "Z" * 10
    assert len(task.held_out_text) == pytest.approx(0.25 * len(TEXT), abs=5)
    assert "Z" not in task.vocabulary.symbols
    assert math.isfinite(task.evaluate())


def test_the_windows_of_an_epoch_are_as_many_as_is_said() -> None:
    for window in (1, 7, 16, 1000):
        task = task_of(window=window)
        assert len(list(task.epoch())) == task.steps_per_epoch


@pytest.mark.parametrize("text", ["", "a", "ab", "abcdefgh"])
def test_a_text_that_is_too_short_is_said_with_its_length(text: str) -> None:
    with pytest.raises(UsageError, match=f"the text has {len(text)} characters, .* too few for batch_size 4"):
        task_of(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be above 0, not 0"),
        ({"hidden_size": 2.5}, "hidden_size must be a whole number"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"dropout": math.nan}, "dropout must be"),
        ({"layers": 0}, "layers must be above 0"),
        ({"held_out": 1}, "held_out must be above 0 and below 1"),
        ({"held_out": 0}, "held_out must be above 0"),
        ({"window": -3}, "window must be above 0"),
        ({"backend": "warp"}, "there is no backend 'warp'"),
        ({"backend": 3}, "backend must be a text"),
        ({"cell": "lst"}, r"Did you mean lstm\?"),
        ({"held_out": 1e-9}, "leaves 1 characters to evaluate on"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task_of(**options)


def test_a_model_that_no_memory_holds_is_a_failure_in_one_line() -> None:
    with pytest.raises(UnrolledError, match="hidden_size 10000000000 and 1 layers cannot be made") as caught:
        task_of(hidden_size=10**10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("@cell\ndef own(x, h):\n    h = tanh(W.h @ x + U.h @ h + raw(x) * x)\n    return h", "own"),
        (
            "@cell\ndef timed(x, h, dt: Input[()]):\n    h = tanh(W.h @ x + dt * (U.h @ h))\n    return h",
            "reads a further input",
        ),
    ],
    ids=["uses-the-symbol-itself", "reads-a-second-input"],
)
def test_a_cell_that_cannot_read_symbols_is_refused_before_anything_is_made(
    cell: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises((ShapeError, CellError), match=message):
        unrolled.train("language-model", tmp_path / "text.txt", cell=cell, out=tmp_path / "a" / "run", **SMALL)
    assert not (tmp_path / "a").exists()


def test_training_learns_real_text(data: Path, tmp_path: Path) -> None:
    text = next((data / "tinyshakespeare").glob("*.txt")).read_text(encoding="utf-8")[:30_000]
    (tmp_path / "text.txt").write_text(text)
    run = unrolled.train(
        "language-model", tmp_path / "text.txt", hidden_size=48, batch_size=16, epochs=3, learning_rate=0.02
    )
    bits = [row["loss"] / math.log(2) for row in run.metrics if row["event"] == "evaluation"]
    # A character costs 4.8 bits by frequency alone.
    assert bits[-1] < 3.8
    assert run.evaluate(text[-3000:])["bits"] == pytest.approx(bits[-1], abs=1e-4)


def test_korean_text_trains_saves_loads_and_generates(data: Path, tmp_path: Path) -> None:
    rows = next(iter(sorted((data / "nsmc").glob("*test*")))).read_text(encoding="utf-8").splitlines()[1:200]
    source = tmp_path / "영화 평.txt"
    source.write_text("\n".join(row.split("\t")[1] for row in rows), encoding="utf-8")
    out = tmp_path / "실행" / "첫 번째"
    run = unrolled.train("language-model", source, out=out, hidden_size=16, batch_size=8, epochs=1, cell="mgu")
    loaded = unrolled.load(out)
    assert loaded.generate("영화", 30, seed=3) == run.generate("영화", 30, seed=3)
    assert any("가" <= character <= "힣" for character in loaded.generate("영화", 200))


def test_files_are_read_one_after_the_other_in_the_order_given(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name * 40)
    task = LanguageModelTask.of_files([tmp_path / "b", tmp_path / "a"], LanguageModelOptions(batch_size=2))
    assert task.training_text + task.held_out_text == "b" * 40 + "\n\n" + "a" * 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return unrolled.train("language-model", path, cell="gru", **SMALL)


def test_generation_gives_the_characters_asked_for_from_the_seed_alone(run: Any) -> None:
    assert len(run.generate("the ", 50)) == 50
    assert run.generate("the ", 50, seed=1) == run.generate("the ", 50, seed=1)
    assert run.generate("the ", 50, seed=1) != run.generate("the ", 50, seed=2)
    assert run.generate("the ", 0) == ""
    assert len(run.generate(length=10)) == 10


def test_the_likeliest_characters_come_with_their_probabilities_in_order(run: Any) -> None:
    likeliest = run.likeliest("the ", 5)
    probabilities = [probability for _, probability in likeliest]
    assert len(likeliest) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    everything = run.likeliest("the ", 1000)
    assert len(everything) == len(run.vocabulary)
    assert sum(probability for _, probability in everything) == pytest.approx(1, abs=1e-5)
    assert run.likeliest("") == run.likeliest("", 5)


@pytest.mark.parametrize("prompt", ["Zebra", "the é", "고양이"])
def test_a_prompt_of_characters_never_seen_is_refused_by_name(prompt: str, run: Any) -> None:
    for use in (run.generate, run.likeliest):
        with pytest.raises(UsageError, match=r"characters that the model was not trained on: [Zé고]"):
            use(prompt)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0, not 0"),
        ({"temperature": -1.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"length": -1}, "length must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**80}, "seed must be"),
    ],
    ids=str,
)
def test_what_makes_no_sense_in_generation_is_named(options: dict[str, Any], message: str, run: Any) -> None:
    with pytest.raises(UsageError, match=message):
        run.generate("the ", **options)


def test_an_evaluation_gives_nats_bits_and_perplexity_of_one_figure(run: Any) -> None:
    measured = run.evaluate(TEXT)
    assert measured["bits"] == pytest.approx(measured["nats"] / math.log(2))
    assert measured["perplexity"] == pytest.approx(math.exp(measured["nats"]))
    with pytest.raises(UsageError, match="2 characters or more"):
        run.evaluate("a")


def test_a_run_keeps_the_cell_that_it_was_given(run: Any) -> None:
    assert run.cell == get("gru")
