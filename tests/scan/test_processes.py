"""The scan in several threads and processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conformance.networks import layer_of
from unrolled.layers import Recurrent


def test_threads_share_a_model() -> None:
    layer = layer_of("gru-cho")
    xs = [torch.randn(20, 2, 3, dtype=torch.float64) for _ in range(2)]
    expected = []
    for x in xs:
        given = x.clone().requires_grad_()
        expected.append(torch.autograd.grad(layer(given)[0].square().sum(), [given, *layer.parameters()]))
    layer._plans.clear()
    found: dict[int, list[Any]] = {0: [], 1: []}

    def work(index: int) -> None:
        for _ in range(10):
            given = xs[index].clone().requires_grad_()
            found[index].append(torch.autograd.grad(layer(given)[0].square().sum(), [given, *layer.parameters()]))

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        assert len(found[index]) == 10
        for each in found[index]:
            assert all(torch.equal(a, b) for a, b in zip(each, expected[index], strict=True))


LOAD = """
import pickle, sys, torch
layer, x, expected = pickle.load(open(sys.argv[1], "rb"))
y, state, taps = layer(x, taps=("a",))
assert torch.equal(y, expected[0]) and torch.equal(state.n, expected[1].n), "other numbers"
assert torch.equal(taps["a"], expected[2]["a"])
assert type(expected[1])._fields == type(state)._fields == ("h", "n", "m")
y.sum().backward()
"""


def test_a_pickled_layer_of_a_users_own_cell_runs_in_another_process(tmp_path: Path) -> None:
    text = """
@cell(initial={"n": 1.0})
def own(x, h, n, m):
    a = W.a @ x + U.a @ h
    n = 0.5 * n + a
    m = tanh(n) * m
    h = sigmoid(n + m)
    return h, n, m
"""
    layer = Recurrent(text, 3, 4)
    x = torch.randn(5, 2, 3)
    results = layer(x, taps=("a",))
    detached = (results[0].detach(), type(results[1])(*(v.detach() for v in results[1])), results[2])
    detached[2]["a"] = detached[2]["a"].detach()
    file = tmp_path / "layer.pickle"
    file.write_bytes(pickle.dumps((layer, x, detached)))
    done = subprocess.run([sys.executable, "-c", LOAD, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PARALLEL = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from unrolled.layers import Recurrent, Stacked

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = Stacked(Recurrent("lstm", 3, 5), Recurrent("gru", 5, 4))

    def forward(self, x, lengths):
        y, state = self.layers(x, None, lengths)
        return y

def main(rank, file):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(1)
    x, lengths = torch.randn(6, 4, 3), torch.tensor([6, 0, 3, 5])
    model = DistributedDataParallel(Model())
    rows = slice(2 * rank, 2 * rank + 2)
    (model(x[:, rows], lengths[rows]).square().sum() / 2).backward()
    alone = Model()
    (alone(x, lengths).square().sum() / 4).backward()
    for (name, a), b in zip(model.module.named_parameters(), alone.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    dist.destroy_process_group()

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_the_joined_batch(tmp_path: Path) -> None:
    script, meeting = tmp_path / "parallel.py", tmp_path / "meeting"
    script.write_text(PARALLEL)
    commands = [[sys.executable, str(script), str(rank), str(meeting)] for rank in (0, 1)]
    started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)
