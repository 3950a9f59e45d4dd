from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.runs import EACH_KIND, TEXT, trained
from unrolled.errors import UsageError
from unrolled.tasks import LanguageModelRun
from unrolled.tasks.language_model.scoring import Score


@pytest.fixture(scope="module")
def hello() -> LanguageModelRun:
    torch.set_num_threads(1)
    options = {"hidden_size": 16, "epochs": 150, "held_out": 0, "dropout": 0.0}
    return trained(["hello", "king"], **options)


def test_two_words_are_learned_letter_by_letter(hello: LanguageModelRun) -> None:
    for prompt, following in (("hell", "o"), ("kin", "g"), ("h", "e"), ("he", "l"), ("hello", "<end>")):
        ((symbol, probability),) = hello.predict(prompt, 1)
        assert symbol == following
        assert probability > 0.8
    first = dict(hello.predict("", 2))
    assert set(first) == {"h", "k"}
    assert sum(first.values()) > 0.9


def test_two_words_that_were_learned_are_all_that_is_written(hello: LanguageModelRun) -> None:
    written = hello.generate(samples=100, temperature=0.3)
    assert set(written) == {"hello", "king"}
    assert hello.generate("hel", temperature=0.3) == "hello"
    assert hello.generate("k", temperature=0) == "king"


def test_predictions_come_with_their_probabilities_in_order(run: LanguageModelRun) -> None:
    found = run.predict("the ", 5)
    assert [probability for _, probability in found] == sorted((p for _, p in found), reverse=True)
    assert len(found) == len(run.predict("the ")) == 5
    everything = run.predict("the ", 1000)
    assert len(everything) == len(run.vocabulary)
    assert sum(probability for _, probability in everything) == pytest.approx(1)
    assert everything[:5] == found
    assert "<unknown>" in dict(everything)
    assert run.predict("") == run.predict()


@EACH_KIND
def test_predictions_are_what_texts_cost(kind: str, runs: dict[str, LanguageModelRun]) -> None:
    run = runs[kind]
    first = dict(run.predict("", 10**6))
    cost = dict(run.log_probabilities("the")[:1])
    ((name, found),) = cost.items()
    symbol = name if name.startswith("<") else name.strip("'")
    symbol = "<unknown>" if symbol not in first else symbol
    assert math.log(first[symbol]) == pytest.approx(found, rel=1e-4)


@EACH_KIND
def test_log_probabilities_sum_to_the_nats_of_the_text_as_one_document(
    kind: str, runs: dict[str, LanguageModelRun]
) -> None:
    run = runs[kind]
    for text in ("the cat", "the cat\nsat", "한글 값\n", "e\u0301 zebra", "a\r\nb", "\n", "name.txt"):
        if not (text == "\n" and kind == "lines-of-words"):
            found, measured = run.log_probabilities(text), run.evaluate({"text": [text]})
            assert len(found) == measured["tokens"]
            assert -sum(value for _, value in found) == pytest.approx(measured["nats"] * measured["tokens"], rel=1e-4)
            assert all(value <= 0 for _, value in found)


def test_log_probabilities_name_the_tokens(runs: dict[str, LanguageModelRun]) -> None:
    def names(kind: str, text: str) -> list[str]:
        return [name for name, _ in runs[kind].log_probabilities(text)]

    assert names("characters", "the\nZ") == ["t", "h", "e", "\n", "<unknown>"]
    assert names("documents", "the") == ["t", "h", "e", "<end>"]
    assert names("lines", "th\ne") == ["t", "h", "<end>", "e", "<end>"]
    assert names("words", "the cat") == ["the", " cat"]
    assert names("bytes", "é!") == ["0xc3", "0xa9", "!"]
    for kind, run in runs.items():
        with pytest.raises(UsageError, match="empty"):
            run.log_probabilities("")
        if kind == "lines-of-words":
            with pytest.raises(UsageError, match="white space alone"):
                run.log_probabilities(" \n ")


@EACH_KIND
def test_the_figures_of_an_evaluation_are_those_of_one_reading(kind: str, runs: dict[str, LanguageModelRun]) -> None:
    text = "the cat sat\non the 닭 café 🙂"
    measured = runs[kind].evaluate([text])
    tokens, characters, nats = measured["tokens"], measured["characters"], measured["nats"]
    expected = {"characters": 27, "documents": 28, "lines": 28, "words": 9, "lines-of-words": 10, "jamo": 29}
    expected |= {"bytes": 33, "bytes-of-lines": 34}
    assert tokens == expected[kind]
    assert characters == len(text) == 27
    assert measured["bits"] == pytest.approx(nats / math.log(2))
    assert measured["bits_per_character"] == pytest.approx(nats * tokens / characters / math.log(2))
    assert measured["perplexity"] == pytest.approx(math.exp(nats))
    assert 0 <= measured["top_1"] <= measured["top_3"] <= measured["top_5"] <= 1
    assert (measured["unknown"] == 0) == kind.startswith("bytes")


def test_unknown_symbols_are_counted(run: LanguageModelRun) -> None:
    assert run.evaluate(["the Zebra"])["unknown"] == 3
    assert run.evaluate(["the cat"])["unknown"] == 0


def test_the_held_out_loss_is_that_of_an_evaluation_of_the_held_out_text(run: LanguageModelRun) -> None:
    held_out = TEXT[int(len(TEXT) * 0.9) :]
    assert run.config["recorded"]["held_out_characters"] == len(held_out)
    assert run.evaluate([held_out])["nats"] == pytest.approx(run.held_out_loss, rel=1e-5)
    figures = dict(run.figures())
    assert figures["bits per character"] == f"{run.evaluate([held_out])['bits_per_character']:.4f}"


def test_files_lists_and_tables_are_evaluated_alike(run: LanguageModelRun, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-16")
    expected = run.evaluate([TEXT])
    assert run.evaluate(path, encoding="utf-16") == expected
    assert run.evaluate([path], encoding="utf-16") == expected
    assert run.evaluate({"one": [TEXT]}, column="one") == expected
    assert run.evaluate(np.array([TEXT], dtype=object)) == expected


def test_files_are_evaluated_in_the_encoding_of_the_training_unless_another_is_named(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("naïve café\n" * 9, encoding="cp1252")
    new.write_text("naïve café\n" * 9, encoding="utf-8")
    run = trained(old, encoding="cp1252")
    assert run.evaluate(old) == run.evaluate(new, encoding="utf-8")
    assert run.evaluate(old)["unknown"] == 0


def test_a_run_of_a_table_is_evaluated_on_tables_and_on_other_texts() -> None:
    run = trained({"id": ["a", "b"], "review": [TEXT[:100], TEXT[:80]]}, text="review")
    expected = run.evaluate({"review": ["the cat"]})
    assert run.evaluate(["the cat"], column="") == expected
    assert run.evaluate({"other": ["the cat"], "review": ["the dog"]}, column="other") == expected


def test_evaluation_that_goes_on_learning_counts_the_same_tokens_and_leaves_the_run_as_it_is(
    run: LanguageModelRun,
) -> None:
    before = copy.deepcopy(run.model.state_dict())
    static, moving = run.evaluate([TEXT]), run.evaluate([TEXT], dynamic=True)
    assert moving["tokens"] == static["tokens"]
    assert moving["nats"] < static["nats"]
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert run.evaluate([TEXT]) == static
    slow = run.evaluate([TEXT], dynamic=True, learning_rate=1e-12)
    assert slow["nats"] == pytest.approx(static["nats"], rel=1e-5)


def test_progress_of_a_long_evaluation_can_be_shown(run: LanguageModelRun) -> None:
    seen: list[int] = []

    def show(scores: Iterator[Score], tokens: int) -> Iterator[Score]:
        assert tokens == len(TEXT)
        for score in scores:
            seen.append(score.tokens)
            yield score

    assert run.evaluate([TEXT], dynamic=True, show=show) == run.evaluate([TEXT], dynamic=True)
    assert seen == [*range(16, len(TEXT), 16), len(TEXT)]


@EACH_KIND
def test_a_prompt_goes_on_in_every_unit(kind: str, runs: dict[str, LanguageModelRun]) -> None:
    run = runs[kind]
    prompt = "한글은 닭이 " if kind in ("jamo", "bytes", "bytes-of-lines") else "the cat"
    assert run.generate(prompt, length=0) == prompt
    assert run.generate(prompt, length=20, seed=3).startswith(prompt)
    assert run.generate(prompt, length=20, seed=3) == run.generate(prompt, length=20, seed=3)
    assert "\ufffd" not in run.generate(prompt, length=50)


@pytest.mark.parametrize("kind", ["lines", "lines-of-words", "bytes-of-lines"])
def test_a_model_of_lines_reads_the_lines_before_and_writes_one(kind: str, runs: dict[str, LanguageModelRun]) -> None:
    run = runs[kind]
    begun = "한글은" if kind.startswith("bytes") else "the cat"
    written = run.generate(f"{begun}\n{begun}", samples=5, length=200)
    assert all(text.startswith(f"{begun}\n{begun}") for text in written)
    assert run.predict(f"{begun}\n") != run.predict(begun)


def test_samples_are_a_list_even_when_there_is_one(run: LanguageModelRun) -> None:
    (one,) = run.generate("the ", samples=1, length=20)
    assert one == run.generate("the ", length=20)
    assert len(set(run.generate("the ", samples=4, length=20))) == 4


def test_generation_gives_as_many_characters_as_asked_for(run: LanguageModelRun) -> None:
    assert len(run.generate("the ", length=50)) == 54
    assert run.generate("the ", length=50, seed=1) != run.generate("the ", length=50, seed=2)
    assert run.generate("the ", length=0) == "the "
    assert run.generate(length=0) == ""
    assert len(run.generate()) == 400


def test_temperature_and_both_tops_change_what_is_written(run: LanguageModelRun) -> None:
    plain = run.generate("the ", length=60)
    likeliest = run.generate("the ", length=60, temperature=0)
    assert plain != likeliest
    assert run.generate("the ", length=60, top_k=1) == likeliest
    assert run.generate("the ", length=60, top_p=1e-9) == likeliest
    assert run.generate("the ", length=60, temperature=0.5) not in (plain, likeliest)


@pytest.mark.parametrize("prompt", ["Zebra", "the é", "고양이"])
def test_a_prompt_of_symbols_never_seen_is_refused_by_name(prompt: str, run: LanguageModelRun) -> None:
    for use in (run.generate, run.predict):
        with pytest.raises(UsageError, match=r"the model was not trained on '[Zé고]'"):
            use(prompt)
        assert use(prompt, allow_unknown=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": math.nan}, "temperature must be at least 0"),
        ({"length": -1}, "length must be at least 0"),
        ({"length": 2.5}, "length must be a whole number, not 2.5"),
        ({"samples": 0}, "samples must be above 0"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"top_p": 2}, "top_p is a share"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**80}, "seed must be"),
    ],
    ids=str,
)
def test_what_makes_no_sense_in_generation_is_named(
    options: dict[str, Any], message: str, run: LanguageModelRun
) -> None:
    with pytest.raises(UsageError, match=message):
        run.generate("the ", **options)


@pytest.mark.parametrize(("top", "message"), [(0, "above 0, not 0"), (-1, "above 0"), (2.5, "a whole number, not 2.5")])
def test_what_makes_no_sense_in_prediction_is_named(top: Any, message: str, run: LanguageModelRun) -> None:
    with pytest.raises(UsageError, match=f"top must be {message}"):
        run.predict("the ", top)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "the data is empty"),
        ([""], {}, "empty"),
        (3, {}, "data of type int cannot be read"),
        ("no.txt", {}, "there is no file no.txt"),
        (["the cat"], {"encoding": "utf-9"}, "there is no encoding 'utf-9'"),
        (["the cat"], {"column": "text"}, "there is no column 'text'"),
        (["the cat"], {"dynamic": True, "learning_rate": 0}, "learning_rate must be above 0, not 0"),
        (["the cat"], {"dynamic": True, "learning_rate": math.nan}, "learning_rate must be above 0, not nan"),
    ],
    ids=str,
)
def test_what_makes_no_sense_in_evaluation_is_named(
    data: Any, options: dict[str, Any], message: str, run: LanguageModelRun
) -> None:
    with pytest.raises(UsageError, match=message):
        run.evaluate(data, **options)


def test_white_space_alone_is_nothing_to_predict_in_lines_of_words(runs: dict[str, LanguageModelRun]) -> None:
    for dynamic in (False, True):
        with pytest.raises(UsageError, match="white space alone"):
            runs["lines-of-words"].evaluate([" \n "], dynamic=dynamic)


def test_a_single_symbol_can_be_evaluated(runs: dict[str, LanguageModelRun]) -> None:
    for run in runs.values():
        for dynamic in (False, True):
            assert math.isfinite(run.evaluate(["t"], dynamic=dynamic)["nats"])
