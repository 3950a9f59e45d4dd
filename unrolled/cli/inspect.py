"""The command that looks into a run: what it is, and which words it holds alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unrolled.cli.common import print_table
from unrolled.errors import UsageError


def inspect(
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    neighbours: Annotated[
        str, typer.Option("--neighbours", help="The words whose vectors are nearest to that of this one.")
    ] = "",
    top: Annotated[int, typer.Option("--top", help="How many neighbours.", min=1)] = 10,
    export: Annotated[
        str, typer.Option("--export", help="A new file for the words' vectors, in the text form of word2vec.")
    ] = "",
) -> None:
    """Show what a run is; its words' neighbours, or write their vectors."""
    from unrolled.tasks import load

    opened = load(run)
    if not (neighbours or export):
        print_table([*opened.facts(), *opened.assessed()])
        return
    if not hasattr(opened, "neighbours"):
        raise UsageError(f"a run of {opened.task} has no vectors of words")
    if neighbours:
        print_table([(word, f"{cosine:.3f}") for word, cosine in opened.neighbours(neighbours, top)])
    if export:
        from unrolled.data.vectors import write_vectors

        words, vectors = opened.vectors()
        write_vectors(Path(export), words, vectors)
        print(f"{len(words):,} words of {vectors.shape[1]} values written to {export}")
