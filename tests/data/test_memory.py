from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("resource")

MEGABYTES = 128
SCRIPT = """
import re, resource, sys
from itertools import islice
from pathlib import Path

from unrolled.data.corpus import corpus
from unrolled.data.numbering import texts
from unrolled.data.stream import SideBySide, stream
from unrolled.data.units import UNITS
from unrolled.data.vocabulary import Vocabulary

small, large, name, end_token, limit = sys.argv[1:]
unit = UNITS[name]


def read(path):
    some = corpus(path)
    vocabulary = Vocabulary.of(unit, texts(some, unit, end_token=end_token), end=end_token != "none")
    made = stream(some, vocabulary, end_token=end_token, cache=Path(small).parent)
    return made, [int(window.targets.sum()) for window in islice(SideBySide(made, 16).windows(32), 20)]


read(small)
in_use = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (in_use + int(limit), resource.RLIM_INFINITY))
made, _ = read(large)
assert made.path is not None and len(made.numbers) > 10**7 and made.unknown == 0
made.path.unlink()
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of words in lines."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(5000)]
    lines = "".join(" ".join(draw.choices(words, k=12)) + "\n" for _ in range(20_000))
    path = tmp_path_factory.mktemp("memory") / "large.txt"
    with path.open("w") as file:
        while file.tell() < MEGABYTES * 10**6:
            file.write(lines)
    yield path
    path.unlink()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what memory is in use")
@pytest.mark.parametrize(
    ("unit", "end_token"),
    [
        ("bytes", "document"),
        pytest.param("characters", "line", marks=pytest.mark.slow),
        pytest.param("words", "none", marks=pytest.mark.slow),
        pytest.param("words", "line", marks=pytest.mark.slow),
    ],
)
def test_a_file_is_read_with_memory_for_a_quarter_of_it(unit: str, end_token: str, large: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.txt"
    with large.open() as file:
        small.write_text(file.read(20_000))
    limit = large.stat().st_size // 4
    command = [sys.executable, "-c", SCRIPT, str(small), str(large), unit, end_token, str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


TRAINING = """
import re, resource, sys
from pathlib import Path

import torch

import unrolled

torch.set_num_threads(1)
small, large, limit = sys.argv[1:]
options = {"hidden_size": 16, "batch_size": 8, "minutes": 0.01, "quiet": True}
unrolled.train("language-model", small, **options)
in_use = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (in_use + int(limit), resource.RLIM_INFINITY))
run = unrolled.train("language-model", large, **options)
assert run.config["recorded"]["tokens"] > 10**8, run.config
assert run.held_out_loss is not None
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what memory is in use")
def test_a_model_trains_on_a_file_with_memory_for_a_quarter_of_it(large: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.txt"
    with large.open() as file:
        small.write_text(file.read(20_000))
    command = [sys.executable, "-c", TRAINING, str(small), str(large), str(large.stat().st_size // 4)]
    environment = {**os.environ, "UNROLLED_CACHE": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
