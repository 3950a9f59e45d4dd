from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import unrolled
from unrolled.errors import CellError, UnrolledError, UsageError

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 12
FILES = (
    "config.toml",
    "cell.txt",
    "vocabulary.json",
    "metrics.jsonl",
    "model.safetensors",
    "report.html",
    "README.md",
)
SMALL: dict[str, Any] = {"hidden_size": 8, "batch_size": 4, "window": 16, "epochs": 1}
MINE = """\
@cell(init={"b.f": 1.0})
def mine(x, h):
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    h = f * h + (1 - f) * tanh(W.g @ x + b.g)
    return h
"""


@unrolled.cell
def decorated(x, h):  # type: ignore[no-untyped-def]
    from unrolled.language import U, W, tanh

    h = tanh(W.h @ x + U.h @ h)
    return h


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("original")
    (folder / "text.txt").write_text(TEXT)
    (folder / "mine.py").write_text(MINE)
    unrolled.train("language-model", folder / "text.txt", out=folder / "run", cell=f"{folder}/mine.py", **SMALL)
    (folder / "mine.py").unlink()
    return folder / "run"


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def elsewhere(code: str, *arguments: str, before: Any = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, preexec_fn=before, check=False
    )


def test_a_run_of_a_cell_file_loads_in_a_process_where_the_file_is_gone(original: Path) -> None:
    code = (
        "import sys, unrolled; run = unrolled.load(sys.argv[1]); "
        "print(run.cell.name, run.generate('the ', length=40, seed=5))"
    )
    done = elsewhere(code, str(original))
    assert done.stderr == ""
    assert done.stdout == f"mine {unrolled.load(original).generate('the ', length=40, seed=5)}\n"


def test_a_loaded_run_has_the_weights_configuration_and_metrics_of_the_trained_one(text: Path, tmp_path: Path) -> None:
    trained = unrolled.train("language-model", text, out=tmp_path / "run", cell=MINE, seed=3, **SMALL)
    loaded = unrolled.load(tmp_path / "run")
    assert loaded.cell == trained.cell
    assert loaded.vocabulary.symbols == trained.vocabulary.symbols
    assert loaded.config == trained.config
    assert loaded.metrics == trained.metrics
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)
    assert loaded.evaluate([TEXT]) == trained.evaluate([TEXT])
    assert not loaded.model.training


def test_a_decorated_function_trains_and_its_run_keeps_the_equations(text: Path, tmp_path: Path) -> None:
    unrolled.train("language-model", text, out=tmp_path / "run", cell=decorated, **SMALL)
    assert unrolled.load(tmp_path / "run").cell == decorated


def test_a_saved_run_that_is_loaded_and_saved_again_is_the_same(original: Path, tmp_path: Path) -> None:
    unrolled.load(original).save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (original / name).read_bytes()


def test_two_runs_of_one_seed_give_the_same_numbers_and_another_seed_others(text: Path) -> None:
    def losses(seed: int) -> list[float]:
        run = unrolled.train("language-model", text, seed=seed, dropout=0.3, **SMALL)
        return [row["loss"] for row in run.metrics if row["event"] in ("step", "evaluation")]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_every_option_is_in_the_configuration(original: Path) -> None:
    from dataclasses import fields

    from unrolled.options import TABLES

    config = tomllib.loads((original / "config.toml").read_text())
    assert config["format"] == 1
    assert config["task"] == "language-model"
    for table, kind in TABLES["language-model"].items():
        # TOML has no word for nothing.
        nothing = {"minutes", "symbols"}
        assert set(config[table]) | nothing == {option.name for option in fields(kind)} | nothing


def test_the_configuration_keeps_a_hash_of_every_data_file_and_the_number_of_steps(original: Path) -> None:
    recorded = tomllib.loads((original / "config.toml").read_text())["recorded"]
    (file,) = recorded["files"]
    assert Path(file["path"]).name == "text.txt"
    assert file["sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert file["size"] == len(TEXT)
    assert recorded["steps"] == 9
    assert recorded["characters"] == len(TEXT)


def test_nothing_in_the_package_reads_or_writes_what_could_execute_code() -> None:
    code = r"(import|from) (pickle|dill|joblib|shelve|marshal)\b|torch\.(load|save)\(|\b(eval|exec)\("
    package = Path(unrolled.__file__).parent
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(code, line) and "model.eval()" not in line and ".eval()" not in line
    ]
    assert found == []


def test_the_equations_of_a_run_are_never_executed(run: Path, tmp_path: Path) -> None:
    for code in (f"open({str(tmp_path / 'trace')!r}, 'w')\n" + MINE, MINE.replace("tanh", "__import__('os').getpid")):
        (run / "cell.txt").write_text(code)
        with pytest.raises(CellError):
            unrolled.load(run)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", FILES[:5])
def test_a_missing_file_is_named(name: str, run: Path) -> None:
    (run / name).unlink()
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        unrolled.load(run)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_weight_file_is_named(keep: int, run: Path) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"model\.safetensors is damaged"):
        unrolled.load(run)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocabulary.json", b"[", "is damaged"),
        ("vocabulary.json", b"[]", "is damaged"),
        ("vocabulary.json", b"[" * 100_000, "is damaged"),
        ("vocabulary.json", b'{"unit": "characters", "end": false, "symbols": ["a", "a"]}', "is damaged"),
        ("vocabulary.json", b'{"unit": "characters", "end": false, "symbols": ["a", "b"]}', "do not fit together"),
        ("metrics.jsonl", b"{\n", "is damaged"),
        ("config.toml", b"= 1", "is damaged"),
        ("config.toml", b"\xff", "is damaged"),
        ("config.toml", b"", "has format None; this version of unrolled reads format 1"),
        ("config.toml", b"format = 2", "has format 2"),
        ("config.toml", b"format = 1", "there is no task ''"),
        ("config.toml", b"format = 1\ntask = []", "there is no task"),
        ("config.toml", b'format = 1\ntask = "language-model"', r"has no table \[data\]"),
        ("config.toml", b'format = 1\ntask = "language-modle"', r"Did you mean language-model\?"),
        ("cell.txt", b"\xff", "is damaged"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, message: str, run: Path) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        unrolled.load(run)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("hidden_size = 8", "hiden_size = 8", r"has 'hiden_size' in \[model\], .* Did you mean hidden_size\?"),
        ("hidden_size = 8", 'hidden_size = "8"', "hidden_size must be a whole number, not '8'"),
        ("hidden_size = 8", "hidden_size = true", "hidden_size must be a whole number"),
        ("hidden_size = 8", "hidden_size = 9", "do not fit together"),
        ("layers = 1", "layers = 2", "do not fit together"),
        ("dropout = 0.2", "dropout = nan", "dropout must be at least 0"),
        ("clip = 1.0", "clup = 1.0", r"has 'clup' in \[training\], .* Did you mean clip\?"),
        ("[training]", "[trianing]", r"has 'trianing', which is unknown there. Did you mean training\?"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_named(before: str, after: str, message: str, run: Path) -> None:
    path = run / "config.toml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(UsageError, match=message):
        unrolled.load(run)


def test_weights_that_are_not_finite_or_not_all_there_are_refused(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, run / "model.safetensors")
    with pytest.raises(UsageError, match="not a finite number"):
        unrolled.load(run)
    save_file({key: value for key, value in weights.items() if key != name}, run / "model.safetensors")
    with pytest.raises(UsageError, match="do not fit together"):
        unrolled.load(run)


def test_what_is_no_run_is_said(tmp_path: Path, text: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere"):
        unrolled.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="there is no folder"):
        unrolled.load(text)
    with pytest.raises(UsageError, match=r"is no run: it has no config\.toml"):
        unrolled.load(tmp_path)


def test_nothing_is_written_over(run: Path, text: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for out in (run, text):
        with pytest.raises(UsageError, match="is there already"):
            unrolled.train("language-model", text, out=out, **SMALL)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert text.read_text() == TEXT


def test_missing_parent_folders_are_made_and_links_followed(text: Path, tmp_path: Path) -> None:
    unrolled.train("language-model", text, out=tmp_path / "ä" / "한" / "run", **SMALL)
    assert unrolled.load(tmp_path / "ä" / "한" / "run").cell.name == "lstm"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    unrolled.train("language-model", text, out=tmp_path / "link", **SMALL)
    assert (tmp_path / "elsewhere" / "config.toml").is_file()


@pytest.mark.parametrize(
    "options",
    [{"learning_rate": 0}, {"hidden_sise": 3}, {"cell": "lst"}, {"backend": "warp"}, {"tied": True}],
    ids=str,
)
def test_wrong_input_leaves_no_folder_behind(options: dict[str, Any], text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        unrolled.train("language-model", text, out=tmp_path / "a" / "run", **{**SMALL, **options})
    assert not (tmp_path / "a").exists()


def test_an_option_or_task_that_is_not_there_suggests_the_nearest(text: Path) -> None:
    with pytest.raises(UsageError, match=r"language-model has no option 'hiden_size'. Did you mean hidden_size\?"):
        unrolled.train("language-model", text, hiden_size=3)
    with pytest.raises(UsageError, match=r"there is no task 'language-modle'. Did you mean language-model\?"):
        unrolled.train("language-modle", text)


def test_metrics_are_json_that_every_reader_takes(text: Path, tmp_path: Path) -> None:
    run = unrolled.train("language-model", text, **SMALL)
    run.metrics.append({"event": "step", "loss": float("nan"), "skipped": True})
    run.save(tmp_path / "run")
    *_, last = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(last) == {"event": "step", "loss": None, "skipped": True}


def test_a_full_disk_is_a_failure_in_one_line_and_leaves_nothing_that_looks_like_a_run(
    text: Path, tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    code = "import sys; from unrolled.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["train", "language-model", str(text), "--out", str(tmp_path / "run"), "--hidden-size", "8"]
    done = elsewhere(code, *arguments, "--batch-size", "4", "--epochs", "1", before=limit)
    assert done.returncode == 1
    assert "model.safetensors cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "config.toml").exists()
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_a_disk_that_fills_up_in_training_leaves_the_last_checkpoint_whole(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = os.fsync, tmp_path / "run"
    left = 12

    def full_in_a_while(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_in_a_while)
    options = {**SMALL, "epochs": 5, "evaluations": 40, "patience": 0}
    with pytest.raises(UnrolledError, match="cannot be written: No space left on device"):
        unrolled.train("language-model", text, out=out, quiet=True, **options)
    monkeypatch.undo()
    run = unrolled.load(out)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert run.generate("the ", length=5).startswith("the ")
    resumed = unrolled.train(resume=out, quiet=True)
    whole = unrolled.train("language-model", text, quiet=True, **options)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_before_training(text: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        unrolled.train("language-model", text, out=tmp_path / "closed", **SMALL)


def test_saving_writes_over_nothing(text: Path, tmp_path: Path) -> None:
    run = unrolled.train("language-model", text, out=tmp_path / "run", quiet=True, **SMALL)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError, match="is there already; nothing is written over"):
        run.save(tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
