"""What the report, the model card and the command line show of a tagger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unrolled.data.entities import Entity, entities, scheme_of
from unrolled.report import Section

NAMES = {
    "entity_f1": "entity F1",
    "entity_precision": "precision",
    "entity_recall": "recall",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "unknown_accuracy": "accuracy on unknown words",
    "intent_accuracy": "accuracy of intents",
}
SCORES = ("count", "precision", "recall", "F1")
# Sentences that are shown, and what is wrong with one.
COLOURED, ERRORS = 12, 6


def sections(found: Mapping[str, Any] | None) -> list[Section]:
    """The assessment of the held-out sentences, label by label, and the sentences that are most wrong."""
    if found is None:
        return [Section.text("Held-out sentences", "None were assessed.")]
    shown = [Section.table("Held-out sentences", *methods(found["methods"]))]
    unknown = found["unknown_tokens"] / max(1, found["tokens"])
    told = f"{found['tokens']:,} tokens in {found['sentences']:,} sentences; {unknown:.2%} are unknown words."
    if found["known_again"]:
        told += f" {found['known_again']:,} of the sentences were trained on, too."
    shown.append(Section.text("What was measured", told))
    if "without_known" in found:
        shown.append(Section.table("Held-out sentences that were not seen", *methods(found["without_known"])))
    if "by_entity" in found:
        shown.append(Section.table("Entities, kind by kind", _scores(found["by_entity"]), ("kind", *SCORES)))
    shown.append(Section.table("Label by label", _scores(found["by_label"]), ("label", *SCORES)))
    if found["mistaken"]:
        rows = [(label, given, f"{count:,}") for label, given, count in found["mistaken"]]
        shown.append(Section.table("Most often mistaken", rows, ("label", "given", "tokens")))
    if found["worst"]:
        texts = [coloured(each) for each in found["worst"][:COLOURED]]
        shown.append(Section.coloured("The worst errors: what is wrong, the surer the deeper", texts))
    return shown


def methods(found: Mapping[str, Mapping[str, float]]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Rows and header of a table of methods and their figures."""
    names = list(next(iter(found.values())))
    rows = [
        (method, *(f"{values[name]:.2%}" if name in values else "" for name in names))
        for method, values in found.items()
    ]
    return rows, ("method", *(NAMES[name] for name in names))


def _scores(found: Mapping[str, Sequence[float]]) -> list[tuple[str, ...]]:
    return [(name, f"{count:,}", *(f"{part:.2%}" for part in parts)) for name, (count, *parts) in found.items()]


def coloured(each: Mapping[str, Any]) -> tuple[str, list[tuple[str, float]]]:
    """A sentence whose wrong tokens are coloured by how sure the model was; what is wrong stands above it."""
    rows = list(zip(each["tokens"], each["labels"], each["given"], each["probabilities"], strict=True))
    parts = [(f"{token} ", 0.0 if label == given else -p) for token, label, given, p in rows]
    scheme = scheme_of([*each["labels"], *each["given"]])
    wrong = [f"{token}: {label}, given {given}" for token, label, given, _ in rows if label != given]
    if scheme:
        stand, found = (set(entities(each[name], scheme)) for name in ("labels", "given"))
        wrong = [_told(entity, each["tokens"], "missed") for entity in sorted(stand - found)]
        wrong += [_told(entity, each["tokens"], "given") for entity in sorted(found - stand)]
    more = [f"and {len(wrong) - ERRORS} more"] if len(wrong) > ERRORS else []
    return "; ".join([*wrong[:ERRORS], *more]), parts


def _told(entity: Entity, tokens: Sequence[str], what: str) -> str:
    return f"{what}: {' '.join(tokens[entity.start : entity.stop])}, {entity.kind}"


def card_figures(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The figures of the model card."""
    if found is None:
        return [("held-out sentences", "none")]
    return [
        (f"{NAMES[name]}, {method}", f"{value:.2%}")
        for method, values in found["methods"].items()
        for name, value in values.items()
    ]


def told(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an evaluation has measured."""
    model = next(iter(found["methods"].values()))
    rows = [("sentences", f"{found['sentences']:,}"), ("tokens", f"{found['tokens']:,}")]
    rows += [(NAMES[name], f"{value:.2%}") for name, value in model.items()]
    if "without_known" in found:
        without = next(iter(found["without_known"].values()))
        rows.append(("seen in training", f"{found['known_again']:,} sentences; without them:"))
        rows += [(NAMES[name], f"{value:.2%}") for name, value in without.items()]
    rows += [(f"entities {kind}", f"{f1:.2%} F1 of {count:,}") for kind, (count, _, _, f1) in
             found.get("by_entity", {}).items()]  # fmt: skip
    return [*rows, *(("note", notice) for notice in found.get("notices", []))]
