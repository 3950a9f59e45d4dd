"""How far back a gradient reaches: its parts by the distance in time that they travel, for three cells."""

import torch

from unrolled.layers import Recurrent, gradient_by_step

STEPS = 30

torch.manual_seed(0)
torch.set_num_threads(1)
x = torch.randn(STEPS, 8, 4)


def last_step(y):
    return y[-1].square().sum()


distances = (1, 2, 4, 8, 16, 28)
print("norm of the part of d loss / d U that comes from so many steps before the end, relative to the nearest")
print("cell".ljust(8), *(f"{distance:>8}" for distance in distances))
for cell, init in (("elman", {}), ("lstm", {"b.f": 0.0}), ("lstm", {"b.f": 3.0})):
    layer = Recurrent(cell, input_size=4, hidden_size=16, init=init)
    name = next(name for name, _ in layer.named_parameters() if name.startswith("U"))
    parts = gradient_by_step(layer, x, last_step, name)
    norms = parts.flatten(1).norm(dim=1)
    bias = f" b.f={init['b.f']:.0f}" if init else ""
    print(f"{cell}{bias}".ljust(10), *(f"{(norms[d] / norms[1]).item():8.1e}" for d in distances))
