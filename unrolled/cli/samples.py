"""The command for data that are made out of what is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unrolled.cli.common import new_folder, print_table
from unrolled.errors import MissingExtraError, UsageError

# Sample -> options that suit it; texts to show what was learned by.
PRESETS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "languages": (
        {"unit": "characters", "hidden_size": 192, "embedding_size": 64, "epochs": 5, "learning_rate": 0.004,
         "min_count": 1, "word_dropout": 0.0, "baselines": False},
        ("대한민국", "Suomi", "Deutschland", "Éire", "Ελλάδα"),
    ),
    "reviews": ({"epochs": 4}, ("a moving and beautifully acted film", "dull , predictable and far too long")),
    "tokens": ({"epochs": 4}, ()),
}  # fmt: skip


def sample(
    name: Annotated[str, typer.Argument(help="Which one; --list says which there are.", show_default=False)] = "",
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts of one's own, to ask the model of.", show_default=False)
    ] = None,
    as_list: Annotated[bool, typer.Option("--list", help="List the samples, and what each is made of.")] = False,
    write: Annotated[
        str, typer.Option("--write", help="The file that the data are written to; it must be new.", show_default=False)
    ] = "",
    out: Annotated[
        str, typer.Option("--out", help="The folder of the run; it must be new. runs/NAME if not given.")
    ] = "",
    epochs: Annotated[
        int, typer.Option("--epochs", help="Readings of the data; as suits the sample if not given.", min=0)
    ] = 0,
) -> None:
    """Train a model on data that are made out of what is installed, and ask it: nothing is downloaded."""
    if as_list:
        if name or write or texts:
            raise UsageError("--list shows all samples: leave out the rest")
        _list()
    elif not name:
        raise UsageError("name a sample, as in: unrolled sample languages; unrolled sample --list shows all")
    elif write:
        if texts or out or epochs:
            raise UsageError("--write only writes the data: leave out the rest")
        _write(name, Path(write))
    else:
        _train(name, list(texts or ()), out, epochs)


def _train(name: str, texts: list[str], out: str, epochs: int) -> None:
    """Write the data beside the run, train, and say what the model thinks of some texts."""
    from unrolled.data.samples import sample as of_name

    chosen = of_name(name)
    if name not in PRESETS:
        raise UsageError(
            f"{name} is for {chosen.task}, which is no task yet: --write {name}{chosen.ending} writes the data"
        )
    options, asked = PRESETS[name]
    folder = Path(out) if out else new_folder(name)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is there already; nothing is written over: name another folder with --out")
    if texts and chosen.task != "classify":
        raise UsageError(f"{name} is for {chosen.task}: ask its run by unrolled predict {folder}")
    file = folder.with_name(folder.name + chosen.ending)
    if not file.exists():
        _write(name, file)
    elif file.read_text(encoding="utf-8") != chosen.text():
        raise UsageError(f"{file} is there already, and holds something else: name another folder with --out")
    from unrolled.training import train

    text, label = chosen.columns
    given = {**options, **({"epochs": epochs} if epochs else {})}
    run = train(chosen.task, file, out=folder, text=text, label=label, **given)
    print(f"written to {folder}")
    print_table(list(run.assessed()))
    for asking in texts or asked:
        likely = sorted(run.predict([asking])[0].probabilities.items(), key=lambda pair: -pair[1])[:3]
        print(f"{asking}: " + ", ".join(f"{label} {probability:.0%}" for label, probability in likely))
    more = " --top 3" if chosen.task == "classify" and len(run.labels.names) > 3 else ""
    print(f"Ask more: unrolled predict {folder}{more}, or look at {folder / 'report.html'}")


def _list() -> None:
    """Print a table of the samples; of one whose package is missing, what to install."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from unrolled.data.samples import SAMPLES

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "rows", "licence", "package", "what"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    missing = []
    for made in SAMPLES.values():
        try:
            count = f"{sum(1 for _ in made.rows()):,}"
        except MissingExtraError as error:
            count = "–"
            missing.append(f"{made.name}: {error}")
        table.add_row(made.name, count, made.licence, made.package, made.sentence)
    # What is piped has no width to keep to: each row stays on one line.
    console = Console(width=None if sys.stdout.isatty() else 500, highlight=False, markup=False)
    console.print(table)
    for line in missing:
        print(line)


def _write(name: str, path: Path) -> None:
    """Write the data of a sample to a new file."""
    from unrolled.data.samples import sample as of_name

    chosen = of_name(name)
    if path.suffix != chosen.ending:
        raise UsageError(f"{name} is read from a file that ends in {chosen.ending}: name one, not {path}")
    if path.exists():
        raise UsageError(f"{path} is there already; nothing is written over: name another file with --write")
    text = chosen.text()
    from unrolled.run import replace_file

    replace_file(path, text.encode())
    print(f"written to {path}")
