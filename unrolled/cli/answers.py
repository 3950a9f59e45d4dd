"""What `predict` gives of each kind of run: the new columns of a row, and what is said to who asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import typer

from unrolled.cli.common import refuse
from unrolled.errors import UsageError

if TYPE_CHECKING:
    from unrolled.data.unlabelled import Unlabelled
    from unrolled.tasks import ClassifyRun, TagRun
    from unrolled.tasks.classify import Prediction
    from unrolled.tasks.tag import Tagged

DIGITS = 6


class Answers(Protocol):
    """How a run answers."""

    formats: Sequence[str]

    def rows(self, data: Any, *, column: str, encoding: str, skip_bad: bool) -> Unlabelled:
        """The rows of files."""

    def row(self, text: str) -> Mapping[str, Any]:
        """The row that a line makes."""

    def form_of(self, name: str) -> str:
        """The form in which rows of a file of this name are written; of standard input, without a name."""

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The new columns of rows."""

    def told(self, text: str) -> str:
        """What is said of a text."""

    def explain(self, row: Mapping[str, Any]) -> None:
        """Show what the answer goes by."""


def answers_of(run: Any, context: typer.Context, *, top: int, fallback: float) -> Answers:
    """How a run answers.

    Raises   UsageError for options of another kind of run
    """
    if run.task == "classify":
        refuse(context, "a run of classify", ("fallback",))
        return Classified(run, top)
    refuse(context, f"a run of {run.task}", ("top", "explain"))
    if run.intents is None:
        refuse(context, "a run without intents", ("fallback",))
    return Labelled(run, fallback)


class Classified:
    """Texts with a label, or several."""

    formats: Sequence[str] = ("csv", "tsv", "jsonl")

    def __init__(self, run: ClassifyRun, top: int):
        self.run, self.top = run, top
        self.columns: Sequence[str] = ("text",)

    def rows(self, data: Any, *, column: str, encoding: str, skip_bad: bool) -> Unlabelled:
        """The rows of files."""
        read = self.run.rows(data, column=column, encoding=encoding, skip_bad=skip_bad)
        self.columns = read.columns
        return read

    def row(self, text: str) -> Mapping[str, Any]:
        """The row that a line makes."""
        return {"text": text}

    def form_of(self, name: str) -> str:
        """JSON lines for such, a table for the rest."""
        plain = name.removesuffix(".gz")
        if plain.endswith((".jsonl", ".ndjson")):
            return "jsonl"
        return "tsv" if plain.endswith((".tsv", ".txt")) else "csv"

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Prediction and probability; nothing of a row without a text."""
        texts = [self._texts(row) for row in rows]
        there = [any(part.strip() for part in text) for text in texts]
        found = iter(self.run.predict([text for text, is_there in zip(texts, there, strict=True) if is_there]))
        return [self._columns_of(next(found)) if is_there else self._columns_of(None) for is_there in there]

    def _texts(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        values = (row[name] for name in self.columns)
        return tuple(" ".join(value) if isinstance(value, list) else value or "" for value in values)

    def _columns_of(self, found: Prediction | None) -> dict[str, Any]:
        new: dict[str, Any] = {}
        likely = self._likely(found) if found is not None else [("", None)] * self.top
        for place, (label, probability) in enumerate(likely, 1):
            mark = f"_{place}" if place > 1 else ""
            new[f"prediction{mark}"] = label
            new[f"probability{mark}"] = round(probability, DIGITS) if probability is not None else ""
        return new

    def _likely(self, found: Prediction) -> list[tuple[str, float]]:
        if self.top == 1:
            return [(found.label, found.probability)]
        return sorted(found.probabilities.items(), key=lambda pair: -pair[1])[: self.top]

    def told(self, text: str) -> str:
        """The labels that are likely."""
        likely = self._likely(self.run.predict([text])[0])
        return "  ".join(f"{label or 'none'} {probability:.1%}" for label, probability in likely)

    def explain(self, row: Mapping[str, Any]) -> None:
        """The text in the colours of what each part does for its label: blue for it, orange against it."""
        from rich.console import Console
        from rich.text import Text

        texts = self._texts(row)
        found, parts = self.run.predict([texts])[0], self.run.explain(texts)
        most = max((abs(nats) for _, nats in parts), default=0) or 1
        line = Text(f"{found.label or 'none'} {found.probability:.1%}  ")
        for part, nats in parts:
            depth = abs(nats) / most
            colour = "blue" if nats > 0 else "dark_orange3"
            line.append(
                part, style=f"{'bold ' if depth > 0.66 else ''}{colour if depth > 0.15 else ''}".strip() or None
            )
            line.append(" ")
        Console(highlight=False).print(line, soft_wrap=True)
        strongest = sorted(parts, key=lambda each: -abs(each.nats))[:3]
        print("    " + ", ".join(f"{each.part} {each.nats:+.2f}" for each in strongest))


class Labelled:
    """Sentences whose tokens have labels."""

    formats: Sequence[str] = ("conll", "jsonl")

    def __init__(self, run: TagRun, fallback: float):
        self.run, self.fallback = run, fallback
        self.column = "tokens"

    def rows(self, data: Any, *, column: str, encoding: str, skip_bad: bool) -> Unlabelled:
        """The rows of files."""
        read = self.run.rows(data, column=column, encoding=encoding, skip_bad=skip_bad)
        (self.column,) = read.columns
        return read

    def row(self, text: str) -> Mapping[str, Any]:
        """The tokens of a line."""
        return {self.column: self.run.split(text)}

    def form_of(self, name: str) -> str:
        """JSON lines for such and for tables, columns of tokens for the rest."""
        tables = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
        return "jsonl" if name.removesuffix(".gz").lower().endswith(tables) else "conll"

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The labels of the tokens and how likely they are; the tokens, where the row has a text; the intent."""
        given = [row[self.column] for row in rows]
        # As it was in training: a cell of a table has its tokens between blanks.
        tokens = [value.split() if isinstance(value, str) else list(value or []) for value in given]
        there = [each for each in tokens if each]
        found = iter(self.run.predict(there, fallback=self.fallback) if there else [])
        return [
            self._columns_of(next(found) if each else None, isinstance(value, str))
            for each, value in zip(tokens, given, strict=True)
        ]

    def _columns_of(self, found: Tagged | None, of_text: bool) -> dict[str, Any]:
        if found is None:
            return {"prediction": [], "probability": []}
        new: dict[str, Any] = {"tokens": list(found.tokens)} if of_text else {}
        new |= {"prediction": list(found.labels), "probability": [round(p, DIGITS) for p in found.probabilities]}
        if self.run.intents is not None:
            new |= {"intent": found.intent, "intent_probability": round(found.intent_probability, DIGITS)}
        return new

    def told(self, text: str) -> str:
        """The tokens with their labels."""
        found: Tagged = self.run.predict(text, fallback=self.fallback)
        line = " ".join(f"{token}/{label}" for token, label in zip(found.tokens, found.labels, strict=True))
        return f"{line}  [{found.intent or 'none'} {found.intent_probability:.1%}]" if self.run.intents else line

    def explain(self, row: Mapping[str, Any]) -> None:
        """There is nothing that a label of one token alone goes by."""
        raise UsageError("--explain is of classify")
