"""Keywords that the recurrent layers of other libraries take, and what does the same here."""

from __future__ import annotations

from collections.abc import Iterable

from unrolled.errors import UsageError, did_you_mean
from unrolled.language import Cell

HABITS = {
    "num_layers": "stack layers, Stacked(Recurrent(…), Recurrent(…)), or use deep(…)",
    "bidirectional": "join two layers, Bidirectional(Recurrent(…), Recurrent(…, reverse=True))",
    "go_backwards": "give reverse=True",
    "dropout": "put it between layers, Stacked(Recurrent(…), torch.nn.Dropout(0.2), Recurrent(…)), or give "
    "recurrent_dropout",
    "return_sequences": "y always has every step, and state.h the last valid one: y, state = layer(x)",
    "return_state": "the state always comes with y: y, state = layer(x)",
    "stateful": "hand the state on from call to call: y, state = layer(x, state)",
    "batch_size": "leave it out, the batch is as large as that of x",
    "time_major": "time comes first unless batch_first=True",
    "use_bias": "give bias=False",
    "activation": "write it into the equations, as the cell 'elman-relu' does",
    "nonlinearity": "write it into the equations, as the cell 'elman-relu' does",
    "proj_size": "write it into the equations, with a state on an axis of its own",
}


def check_keywords(cell: Cell, keywords: Iterable[str], options: Iterable[str]) -> None:
    """Refuse keywords that are no hyperparameters of the cell.

    options  what the layer takes besides
    Raises   UsageError that says what does the same here, or is written nearly the same
    """
    for name in keywords:
        if name in cell.hyperparameters:
            continue
        if name in HABITS:
            raise UsageError(f"Recurrent takes no {name}: {HABITS[name]}")
        hint = did_you_mean(name, (*options, *cell.hyperparameters))
        raise UsageError(f"Recurrent has no option {name!r}, and cell '{cell.name}' no such hyperparameter.{hint}")
