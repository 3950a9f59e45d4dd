"""What a gate does, step by step: the activations of every named value are there for the asking, as taps."""

import torch

from unrolled.layers import Recurrent

BARS = " ▁▂▃▄▅▆▇█"

torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.zeros(24, 1, 1)
x[[3, 11, 12, 19]] = 4.0
layer = Recurrent("gru", input_size=1, hidden_size=4)
y, state, taps = layer(x, taps=("r", "z"))

print("input", "".join("█" if value else " " for value in x[:, 0, 0].tolist()))
for name, values in taps.items():
    for unit in range(layer.hidden_size):
        bars = "".join(BARS[round(value * 8)] for value in values[:, 0, unit].tolist())
        print(f"{name}[{unit}]  {bars}  mean {values[:, 0, unit].mean().item():.2f}")
