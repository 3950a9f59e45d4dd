"""Checkpoints: all that a training is made of, as named tensors and a few numbers. Reading one executes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unrolled.errors import UsageError
from unrolled.run import replace_file

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands: numbers by name, and tensors by part and name, as `weights.head.bias`."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, by their own names."""
        start = f"{name}."
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}

    def write(self, folder: Path) -> None:
        """Write the file; it is complete or not there.

        Raises   UnrolledError when it cannot be written
        """
        tensors = {name: value.contiguous().cpu() for name, value in self.tensors.items()}
        replace_file(folder / FILE, save(tensors, {"facts": json.dumps(self.facts)}))


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a run folder.

    Raises   UsageError when there is none, or it is damaged
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(
            f"{folder} has no checkpoint: its training came to its end, or never got to one; "
            f"a new training goes on from its weights with --start-from {folder}"
        )
    try:
        # Copies: what is still mapped could not be written over everywhere.
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return Checkpoint(facts, {name: file.get_tensor(name).clone() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def within(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the name of their part."""
    return {f"{part}.{name}": value for name, value in tensors.items()}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter: `3.exp_avg` is that of the fourth."""
    return {
        f"{index}.{name}": value
        for index, remembered in optimiser.state_dict()["state"].items()
        for name, value in remembered.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
