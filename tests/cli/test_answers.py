"""The commands that use runs of labelled texts: predict, evaluate, inspect, sample."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from tests.tasks.test_classify import SMALL, reviews, trained
from tests.tasks.test_tag_run import travels
from unrolled.cli import main
from unrolled.training import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of classify."""
    path = tmp_path_factory.mktemp("classify") / "run"
    trained(out=path, baselines=False)
    return path


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tag, with intents."""
    path = tmp_path_factory.mktemp("tag") / "run"
    options = {name: value for name, value in SMALL.items() if name not in ("wide", "buckets", "piece_dropout")}
    train("tag", travels(60), out=path, intent="intent", **{**options, "epochs": 2})
    return path


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(list(map(str, arguments))) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_rows_keep_their_order_and_columns(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n7,"lovely, w1"\n8,\n9,w2 awful\n')
    rows = list(csv.DictReader(io.StringIO(answered(capsys, "predict", folder, path))))
    assert [(row["id"], row["text"], row["prediction"]) for row in rows] == [
        ("7", "lovely, w1", "good"), ("8", "", ""), ("9", "w2 awful", "bad")
    ]  # fmt: skip
    assert float(rows[0]["probability"]) > 0.5


def test_json_lines_stay_json_lines_and_new_columns_take_no_name_that_is_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "fine", "prediction": 3}\n'))
    found = json.loads(answered(capsys, "predict", folder, path, "--top", 2))
    assert (found["prediction"], found["prediction_of_model"], found["prediction_2"]) == (3, "good", "bad")


def test_a_row_with_other_columns_is_refused_in_a_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "dull", "extra": 1}\n')
    assert main(["predict", str(folder), str(path), "--format", "csv"]) == 2
    assert "row 2 has a column 'extra', which the first one has not: --format jsonl" in capsys.readouterr().err
    path.write_text('{"text": "fine"}\n{"text": "dull", "prediction": "mine"}\n')
    assert main(["predict", str(folder), str(path)]) == 2
    assert "row 2 has a column 'prediction'" in capsys.readouterr().err


def test_a_table_by_tabs_is_written_as_it_is_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tid\nhe said "fine"\t1\n')
    assert answered(capsys, "predict", folder, path).splitlines()[1].startswith('he said "fine"\t1\t')


def test_what_cannot_be_read_leaves_no_file_behind(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("body\tid\nfine\t1\n")
    assert main(["predict", str(folder), str(path), "--out", str(tmp_path / "out.csv")]) == 2
    assert not (tmp_path / "out.csv").exists()


def test_standard_input_is_a_text_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 great\n"))
    assert answered(capsys, "predict", folder).splitlines()[1].startswith("w1 great,good,0.")
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 great\n"))
    shown = answered(capsys, "predict", folder, "--explain")
    assert shown.startswith("good ")
    assert "great +" in shown


def test_a_dialogue_ends_at_an_empty_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = iter(["w1 great", ""])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(asked))
    assert answered(capsys, "predict", folder).startswith("good ")


def test_nothing_is_written_over(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\nfine\n")
    out = tmp_path / "out.csv"
    assert answered(capsys, "predict", folder, path, "--out", out) == ""
    assert out.read_text().startswith("text,prediction,probability\n")
    assert main(["predict", str(folder), str(path), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{data}", "--column", "body"], "has no column 'body'"),
        (["{run}", "{data}", "--format", "xml"], "there is no format 'xml'"),
        (["{run}", "{data}", "--fallback", "0.5"], "does not use --fallback"),
        (["{run}", "{data}", "--explain", "--top", "2"], "does not use --top"),
        (["{run}", "{data}", "--explain", "--format", "csv"], "does not use --format"),
        (["{run}", "nowhere.csv"], "there is no file nowhere.csv"),
        (["{run}", "{broken}"], r"line 3 does not fit the header"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_a_line(
    arguments: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("text,n\nfine,1\n")
    (tmp_path / "b.csv").write_text("text,n\nfine,1\nso,so,2\n")
    named = {"run": folder, "data": tmp_path / "a.csv", "broken": tmp_path / "b.csv"}
    assert main(["predict", *(argument.format(**named) for argument in arguments)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1


def test_rows_that_are_left_out_are_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.csv").write_text("text,n\nfine,1\nso,so,2\nbad,3\n")
    assert main(["predict", str(folder), str(tmp_path / "b.csv"), "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(",")[1] for line in out.splitlines()] == ["n", "1", "3"]
    assert err.startswith("1 rows left out: ")


def test_columns_of_tokens_are_given_back_with_labels(
    tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "tokens": ["fly", "to", "Oslo"]}\n{"id": 2, "tokens": []}\n')
    first, second = map(json.loads, answered(capsys, "predict", tagger, path).splitlines())
    assert (first["id"], len(first["prediction"]), len(first["probability"])) == (1, 3, 3)
    assert first["intent"]
    assert second["prediction"] == []
    shown = answered(capsys, "predict", tagger, path, "--format", "conll", "--fallback", "1")
    assert "# intent = \n" in shown
    assert shown.splitlines()[3].split("\t")[0] == "fly"
    monkeypatch.setattr("sys.stdin", io.StringIO("fly to Rome!\n"))
    assert [line.split("\t")[0] for line in answered(capsys, "predict", tagger).splitlines() if "\t" in line] == [
        "fly", "to", "Rome", "!"
    ]  # fmt: skip


def test_evaluate_says_how_good_a_run_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = reviews(30, seed=4)
    path = tmp_path / "a.tsv"
    rows = zip(data["text"], data["label"], strict=True)
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    assert answered(capsys, "evaluate", folder, path).startswith("texts ")
    found = json.loads(answered(capsys, "evaluate", folder, path, "--json"))
    assert found["methods"]["recurrent"]["accuracy"] > 0.6
    assert main(["evaluate", str(folder), str(path), "--dynamic"]) == 2
    assert "does not use --dynamic" in capsys.readouterr().err
    assert main(["generate", str(folder)]) == 2
    assert "writes no text" in capsys.readouterr().err


def test_inspect_shows_a_run_neighbours_and_writes_vectors(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = answered(capsys, "inspect", folder)
    assert "classify" in shown
    assert "accuracy, recurrent" in shown
    near = answered(capsys, "inspect", folder, "--neighbours", "good", "--top", 3).splitlines()
    assert len(near) == 3
    out = tmp_path / "a.vec"
    answered(capsys, "inspect", folder, "--export", out)
    assert out.read_text().splitlines()[0].split()[1] == "8"
    assert main(["inspect", str(folder), "--neighbours", "two words"]) == 2


def test_inspect_shows_what_a_tagger_is_and_which_words_it_holds_alike(
    tagger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = answered(capsys, "inspect", tagger)
    assert "entity F1" in shown
    assert "intent" in shown
    assert len(answered(capsys, "inspect", tagger, "--neighbours", "to", "--top", 2).splitlines()) == 2


def test_a_sample_is_trained_on_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unrolled.cli import samples

    monkeypatch.chdir(tmp_path)
    small = {**SMALL, "epochs": 1, "baselines": False}
    monkeypatch.setitem(samples.PRESETS, "reviews", (small, ("a fine film",)))
    shown = answered(capsys, "sample", "reviews", "a dull film")
    assert "a dull film: " in shown
    assert (tmp_path / "runs" / "reviews.tsv").is_file()
    assert (tmp_path / "runs" / "reviews" / "report.html").is_file()
    assert main(["sample", "hangul"]) == 2
    assert "no task yet" in capsys.readouterr().err
