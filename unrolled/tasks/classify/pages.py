"""What the report and the model card show of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unrolled.data.splitting import SPELLED
from unrolled.report import Section
from unrolled.report.map import word_map
from unrolled.report.text import clean
from unrolled.tasks.reading import vectors_of

if TYPE_CHECKING:
    from unrolled.tasks.classify.run import ClassifyRun

NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "top_3": "among the three likeliest",
    "micro_f1": "micro F1",
    "calibration_error": "calibration error",
}
EXPLAINED = 6
# Of the worst errors, on the terminal.
TOLD = 5
# Words of a map, and of the fewest that make one; how likely a label is, of a word alone that has its colour.
MAPPED, FEWEST_MAPPED, SURE = 400, 30, 0.7
# Labels of a confusion matrix that is shown whole.
SHOWN_LABELS = 30


def sections(run: ClassifyRun) -> list[Section]:
    """The assessment of the held-out texts, the texts that are most wrong, and what the model goes by."""
    found = run.assessment
    if found is None:
        return [Section.text("Held-out texts", "None were assessed.")]
    shown = [
        Section.table("Held-out texts", *methods(found["methods"])),
        Section.text("What is beaten", verdict(found["methods"])),
    ]
    if found["known_again"]:
        again = f"{found['known_again']:,} of {found['texts']:,} texts were trained on, too. Without them:"
        shown.append(Section.text("Texts that were seen", again))
        if "without_known" in found:
            shown.append(Section.table("Held-out texts that were not seen", *methods(found["without_known"])))
    shown.append(
        Section.table(
            "Is it as sure as it is right?",
            [(f"{count:,}", f"{sure:.1%}", f"{right:.1%}") for count, sure, right in found["calibration"]],
            ("texts", "probability", "right"),
        )
    )
    if "by_label" in found:
        by_label = [(name, f"{count:,}", f"{f1:.1%}") for name, (count, f1) in found["by_label"].items()]
        shown.append(Section.table("Label by label", by_label, ("label", "texts", "F1")))
    elif len(run.labels.names) <= SHOWN_LABELS:
        rows = [
            (name, *(f"{count:,}" for count in row))
            for name, row in zip(run.labels.names, found["confusion"], strict=True)
        ]
        shown.append(Section.table("Which label was given for which", rows, ("label", *run.labels.names)))
    else:
        shown.append(Section.table("Most often mistaken", mistaken(found["confusion"], run.labels.names),
                                   ("label", "given", "texts")))  # fmt: skip
    worst = found["worst"]
    if worst:
        wrong = [(each["text"], each["label"], each["given"] or "none", f"{each['probability']:.1%}") for each in worst]
        shown.append(Section.table("The worst errors", wrong, ("text", "label", "given", "probability")))
        labelled = [each for each in worst if each["given"]][:EXPLAINED]
        shown.append(Section.coloured("What it went by there", [explained(run, each) for each in labelled]))
    words = [word for word in run.reader.lexicon.words if any(map(str.isalpha, word))][:MAPPED]
    if run.config["data"]["unit"] in SPELLED and len(words) >= FEWEST_MAPPED:
        shown.append(mapped(run, words))
    return shown


def mapped(run: ClassifyRun, words: list[str]) -> Section:
    """The most frequent words on a map, in the colour of the label that each has alone, where there are two."""
    vectors = vectors_of(run.model.vectors, run.reader, words)
    caption = "The most frequent words; those stand near each other whose vectors point the same way."
    sides = [0] * len(words)
    if run.labels.is_binary and len(run.config["recorded"]["columns"]) == 1:
        sides = [1 if p > SURE else -1 if p < 1 - SURE else 0 for p in run.probabilities(words)[:, 1]]
        caption += f" Blue are words that alone are likely {run.labels.names[1]}, orange {run.labels.names[0]}."
    return Section.figure("A map of words", word_map(words, vectors, sides, "A map of words"), caption)


def told(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an evaluation has measured, for the terminal."""
    ((_, values),) = measured["methods"].items()
    rows = [("texts", f"{measured['texts']:,}"), *_values(values)]
    if measured.get("skipped"):
        rows.insert(1, ("left out", f"{measured['skipped']:,} rows that cannot be used"))
    if "without_known" in measured:
        ((_, others),) = measured["without_known"].items()
        rows.append(("", f"without {measured['known_again']:,} texts that were trained on, too:"))
        rows += _values(others)
    rows += [
        (f"wrong: {each['given'] or 'none'}, {each['probability']:.1%}", f"{in_a_line(each['text'])} ({each['label']})")
        for each in measured["worst"][:TOLD]
    ]
    return rows


def _values(values: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(NAMES[name], f"{value:.3f}" if "error" in name else f"{value:.2%}") for name, value in values.items()]


def methods(found: Mapping[str, Mapping[str, float]]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Rows and header of a table of methods and their figures."""
    names = list(next(iter(found.values())))
    rows = [
        (method, *(f"{values[name]:.3f}" if "error" in name else f"{values[name]:.2%}" for name in names))
        for method, values in found.items()
    ]
    return rows, ("method", *(NAMES[name] for name in names))


def verdict(found: Mapping[str, Mapping[str, float]]) -> str:
    """Which of the others the model, the first, beats, and which not."""
    model, *others = found
    if not others:
        return "Nothing was measured beside it."
    beaten = [name for name in others if found[model]["accuracy"] > found[name]["accuracy"]]
    ahead = [name for name in others if name not in beaten]
    told = [f"The model beats: {', '.join(beaten)}." if beaten else "The model beats none of them."]
    if ahead:
        told.append(f"It does not beat: {', '.join(ahead)}; these are simpler, so take one of them.")
    return " ".join(told)


def mistaken(confusion: Sequence[Sequence[int]], names: Sequence[str], most: int = 20) -> list[tuple[str, str, str]]:
    """The pairs of labels that are mistaken most often."""
    pairs = [
        (count, names[row], names[column])
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return [(label, given, f"{count:,}") for count, label, given in sorted(pairs, reverse=True)[:most]]


def explained(run: ClassifyRun, each: Mapping[str, Any]) -> tuple[str, list[tuple[str, float]]]:
    """A text that was wrong, with what each part did for the label that was given."""
    found = run.explain(each["columns"], each["given"])
    return f"given {each['given']}, labelled {each['label'] or 'none'}", [(part, nats) for part, nats in found]


def card_figures(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The figures of the model card."""
    if found is None:
        return [("held-out texts", "none")]
    return [
        (f"{NAMES[name]}, {method}", f"{value:.3f}" if "error" in name else f"{value:.2%}")
        for method, values in found["methods"].items()
        for name, value in values.items()
    ]


def in_a_line(text: str) -> str:
    """A text as a terminal can show it: in one line, without what steers it."""
    return " ".join(clean(text).split())
