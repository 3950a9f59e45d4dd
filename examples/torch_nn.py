"""A script written for torch.nn: the import is all that changes, and its checkpoints go both ways."""

import torch

from unrolled import nn


class Reader(nn.Module):
    """Says for each sequence which of its two halves holds more."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        """Scores of the two halves, from the last step."""
        _, (h, _) = self.lstm(x)
        return self.head(h[-1])


torch.manual_seed(0)
torch.set_num_threads(1)
reader = Reader()
optimiser = torch.optim.Adam(reader.parameters(), lr=0.02)
for _ in range(150):
    x = torch.rand(64, 12, 1)
    target = (x[:, 6:].sum((1, 2)) > x[:, :6].sum((1, 2))).long()
    optimiser.zero_grad()
    nn.functional.cross_entropy(reader(x), target).backward()
    optimiser.step()
right = (reader(x).argmax(1) == target).float().mean().item()
print(f"{right:.0%} of the last batch right")

theirs = torch.nn.LSTM(1, 16, batch_first=True)
theirs.load_state_dict(reader.lstm.state_dict())
difference = (theirs(x)[0] - reader.lstm(x)[0]).abs().max().item()
print(f"torch.nn.LSTM with these weights differs by at most {difference:.0e}")
