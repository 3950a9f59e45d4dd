"""Options as a file: TOML with a table for the data, the model and the training."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from textwrap import wrap
from typing import Any

from unrolled.errors import UsageError, did_you_mean
from unrolled.options import tables_of

# What a run's own config.toml has beside the options; it says what was found and sets nothing.
FOUND = ("format", "version", "recorded")
WIDTH = 96


def commented(task: str) -> str:
    """A file of every option of a task, with what it does and its default.

    Raises   UsageError for a task that is not there
    """
    lines = [f"# Options of: unrolled train {task} FILE… --config THIS_FILE", f'task = "{task}"']
    for table, kind in tables_of(task).items():
        lines += ["", f"[{table}]"]
        for option in fields(kind):
            lines += [f"# {line}" for line in wrap(option.metadata["about"], WIDTH)]
            if option.default is None:
                lines.append(f"# {option.name} = …")
            else:
                lines.append(f"{option.name} = {_toml(option.default)}")
    return "\n".join(lines) + "\n"


def read_configuration(path: Path, task: str) -> dict[str, Any]:
    """The options that a file gives. That of a run serves as well: its equations are found beside it.

    Raises   UsageError when it cannot be read, is for another task, or has a table or key that is unknown
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{path} is no TOML file: {error}") from None
    if content.get("task", task) != task:
        raise UsageError(f"{path} is for the task {content['task']!r}, not for {task}")
    options = options_in(content, task, str(path))
    beside = path.parent / str(options.get("cell", ""))
    if isinstance(options.get("cell"), str) and beside.is_file():
        options["cell"] = str(beside)
    return options


def options_in(content: Mapping[str, Any], task: Any, where: str) -> dict[str, Any]:
    """The options in the tables of a configuration, by name.

    where   the file that it stands in, for errors

    Raises   UsageError for a task, table or key that is unknown
    """
    tables = tables_of(task)
    home = {option.name: table for table, kind in tables.items() for option in fields(kind)}
    options = {}
    for name, value in content.items():
        if name == "task" or name in FOUND:
            continue
        if name not in tables:
            hint = f" It stands in [{home[name]}]." if name in home else did_you_mean(name, tables)
            raise UsageError(f"{where} has {name!r}, which is unknown there.{hint}")
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} has {name!r}, which must be a table: [{name}]")
        for key, setting in value.items():
            if home.get(key) != name:
                hint = f" It stands in [{home[key]}]." if key in home else did_you_mean(key, home)
                raise UsageError(f"{where} has {key!r} in [{name}], which is unknown there.{hint}")
            options[key] = setting
    return options


def _toml(value: Any) -> str:
    # What JSON writes of texts and truth values is TOML.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)
