"""A script written for torch.nn, run as it is and with the import changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

CLASSIFIER = """
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence

torch.manual_seed(3)


class Classifier(nn.Module):
    def __init__(self, vocabulary, width, hidden, classes):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(2 * hidden, classes)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.linear(self.dropout(torch.cat([h[-2], h[-1]], dim=1)))


model = Classifier(vocabulary=50, width=12, hidden=16, classes=3)
initial = {name: value.clone() for name, value in model.state_dict().items()}
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
losses = []
for step in range(20):
    lengths = torch.randint(1, 11, (8,))
    tokens = torch.randint(1, 50, (8, int(lengths.max())))
    labels = tokens[:, 0] % 3
    optimizer.zero_grad()
    loss = criterion(model(tokens, lengths), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    losses.append(loss.item())
"""

LANGUAGE_MODEL = """
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(4)


class Model(nn.Module):
    def __init__(self, vocabulary, hidden, kind):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.network = getattr(nn, kind)(hidden, hidden, 2)
        self.cell = nn.GRUCell(hidden, hidden)
        self.head = nn.Linear(hidden, vocabulary)
        self.head.weight = self.embedding.weight

    def forward(self, tokens, state):
        x, state = self.network(self.embedding(tokens), state)
        h = torch.zeros(x.size(1), x.size(2))
        outputs = []
        for step in x:
            h = self.cell(step, h)
            outputs.append(h)
        return self.head(torch.stack(outputs)), state


def detached(state):
    return state.detach() if isinstance(state, torch.Tensor) else tuple(each.detach() for each in state)


losses, initial = [], {}
for kind in ("RNN", "LSTM", "GRU"):
    model = Model(20, 10, kind)
    initial.update({f"{kind}.{name}": value.clone() for name, value in model.state_dict().items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    text = torch.randint(0, 20, (41, 4))
    state = None
    for start in range(0, 40, 10):
        scores, state = model(text[start : start + 10], state)
        state = detached(state)
        loss = F.cross_entropy(scores.flatten(0, 1), text[start + 1 : start + 11].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
"""


@pytest.mark.parametrize("script", [CLASSIFIER, LANGUAGE_MODEL], ids=["classifier", "language-model"])
@pytest.mark.parametrize("imports", ["the module", "every name"])
def test_a_script_with_the_import_changed_trains_to_the_same_weights(script: str, imports: str) -> None:
    old, new = (
        ("import torch.nn as", "import unrolled.nn as") if imports == "the module" else ("torch.nn", "unrolled.nn")
    )
    changed = script.replace(old, new)
    assert changed != script
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    exec(script, theirs)
    exec(changed, ours)
    networks = {type(each).__module__ for each in ours["model"].modules() if "RNN" in str(type(each).__mro__)}
    assert networks <= {"unrolled.nn.layers", "unrolled.nn.cells"}
    assert networks
    for name, value in theirs["initial"].items():
        assert torch.equal(ours["initial"][name], value)
    assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-5)
    for name, value in theirs["model"].state_dict().items():
        torch.testing.assert_close(ours["model"].state_dict()[name], value, atol=1e-5, rtol=0)
