from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import unrolled.nn as nn

OURS = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")


def test_every_other_public_name_is_that_of_torch() -> None:
    for name in dir(torch.nn):
        if not name.startswith("_"):
            assert (getattr(nn, name) is getattr(torch.nn, name)) == (name not in OURS)


def test_all_names_are_listed() -> None:
    assert {name for name in dir(torch.nn) if not name.startswith("_")} <= set(dir(nn))


def test_every_way_to_import_finds_what_it_names() -> None:
    found: dict[str, object] = {}
    source = """
from unrolled.nn import GRU, Linear, Module, functional
from unrolled.nn.utils.rnn import pad_sequence
from unrolled.nn.parameter import Parameter
import unrolled.nn.functional as F
import unrolled.nn.init as init
import unrolled.nn as nn
relu = nn.functional.relu
pack = nn.utils.rnn.pack_sequence
"""
    exec(source, found)
    assert found["Linear"] is torch.nn.Linear
    assert found["Module"] is torch.nn.Module
    assert found["functional"] is found["F"] is torch.nn.functional
    assert found["init"] is torch.nn.init
    assert found["Parameter"] is torch.nn.Parameter
    assert found["pad_sequence"] is torch.nn.utils.rnn.pad_sequence
    assert found["pack"] is torch.nn.utils.rnn.pack_sequence
    assert found["GRU"] is nn.GRU
    everything: dict[str, object] = {}
    exec("from unrolled.nn import *", everything)
    assert everything["LSTM"] is nn.LSTM
    assert everything["Linear"] is torch.nn.Linear


def test_a_name_that_torch_does_not_have_is_no_name_of_ours() -> None:
    with pytest.raises(AttributeError, match="'LSTN'"):
        _ = nn.LSTN
    with pytest.raises(ImportError):
        exec("from unrolled.nn import LSTN", {})


def test_networks_are_recurrent_to_whoever_asks_torch() -> None:
    for name in ("RNN", "LSTM", "GRU"):
        assert isinstance(getattr(nn, name)(3, 4), torch.nn.RNNBase)
    for name in ("RNNCell", "LSTMCell", "GRUCell"):
        assert isinstance(getattr(nn, name)(3, 4), torch.nn.RNNCellBase)


@pytest.mark.slow
def test_a_type_checker_sees_our_networks_and_the_rest_of_torch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import unrolled.nn as nn\n"
        "from unrolled.nn import Linear\n"
        "reveal_type(nn.LSTM(3, 4, backend='reference'))\n"
        "reveal_type(nn.GRUCell(3, 4))\n"
        "reveal_type(Linear(3, 4))\n"
        "reveal_type(nn.utils.rnn.pack_sequence)\n"
    )
    options = ["--follow-imports=silent", "--config-file=", "--cache-dir", str(tmp_path)]
    command = [sys.executable, "-m", "mypy", *options, str(script)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "unrolled.nn.layers.LSTM" in shown
    assert "unrolled.nn.cells.GRUCell" in shown
    assert "torch.nn.modules.linear.Linear" in shown
    assert "PackedSequence" in shown
    assert "error" not in shown
