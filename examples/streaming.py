"""One step at a time: a frozen layer reads a signal as it arrives, without torch where it runs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from unrolled.layers import Recurrent, Stacked

READER = """
import sys
import numpy as np
from unrolled.backends.llvm.stream import load_stream
stream = load_stream(sys.argv[1])
print("without torch:", stream.step(np.ones(64, np.float32))[:3].round(4).tolist(), "torch" in sys.modules)
"""

torch.manual_seed(0)
layer = Stacked(Recurrent("lstm", 64, 64), Recurrent("gru", 64, 32)).eval()
x = torch.randn(100, 1, 64)
y, state = layer(x)

stream = layer.stream()
# What a step gives is written over by the next one: .clone() keeps it.
steps = torch.stack([stream.step(each).clone() for each in x])
print(f"the largest difference to the whole sequence: {(steps - y).abs().max():.1e}")
print(f"what the LSTM remembers: {sorted(stream.state[0])} of {stream.state[0]['c'].shape}")

array = x[0, 0].numpy()
times = []
for _ in range(2000):
    start = time.perf_counter()
    stream.step(array)
    times.append(time.perf_counter() - start)
print(f"a step of both layers: {1e6 * np.median(times):.1f} microseconds")

stream.state = state
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "reader.safetensors"
    stream.save(path)
    print("here:         ", stream.step(np.ones(64, np.float32))[:3].round(4).tolist())
    subprocess.run([sys.executable, "-c", READER, str(path)], check=True)
