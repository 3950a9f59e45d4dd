"""torch.nn with its recurrent layers replaced: change the import, keep the script and the checkpoint.

`RNN`, `LSTM`, `GRU` and their cells take torch's arguments, draw torch's initial values, keep torch's state-dict keys
and run as scans. Every other name is torch.nn's own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch.nn

from unrolled.nn.cells import GRUCell as GRUCell
from unrolled.nn.cells import LSTMCell as LSTMCell
from unrolled.nn.cells import RNNCell as RNNCell
from unrolled.nn.layers import GRU as GRU
from unrolled.nn.layers import LSTM as LSTM
from unrolled.nn.layers import RNN as RNN

if TYPE_CHECKING:
    from torch.nn import *  # type: ignore[assignment]  # noqa: F403
else:
    __all__ = sorted(name for name in dir(torch.nn) if not name.startswith("_"))

# For `import unrolled.nn.functional as F` and `from unrolled.nn.utils.rnn import …`.
for _name, _module in list(sys.modules.items()):
    if _name.startswith("torch.nn."):
        sys.modules.setdefault("unrolled" + _name.removeprefix("torch"), _module)


def __getattr__(name: str) -> Any:
    try:
        return getattr(torch.nn, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has torch.nn") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(torch.nn)})
