"""Subwords that are learned from texts: pieces of UTF-8 bytes, so that none is unknown and every text comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from unrolled.data.units import Unit, from_bytes, whole_characters
from unrolled.errors import MissingExtraError, UsageError, did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Kind -> what it is.
SUBWORDS = {
    "bpe": "Subwords are symbols, joined of the pairs that are most frequent: byte pair encoding (Sennrich 2016).",
    "unigram": "Subwords are symbols, kept for the likelihood of the text without order (Kudo 2018).",
}
_BYTES = 256
_DIGITS = 6


def _alphabet() -> dict[str, str]:
    """What the library writes for each byte -> the character of the byte's number."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [number for number in range(_BYTES) if number not in shown]
    pairs = [*((number, number) for number in shown), *((_BYTES + place, byte) for place, byte in enumerate(hidden))]
    return {chr(written): chr(byte) for written, byte in pairs}


_FROM = str.maketrans(_alphabet())
_TO = str.maketrans({byte: written for written, byte in _alphabet().items()})


def learn_subwords(kind: str, texts: Iterable[str], size: int) -> Unit:
    """The unit whose symbols are learned from texts.

    size   symbols, the 256 bytes among them; fewer are found in a small text

    Raises   UsageError for a kind that there is not, or too few symbols; MissingExtraError without tokenizers
    """
    _check(kind)
    if size <= _BYTES:
        raise UsageError(f"{kind} has a symbol for each of the {_BYTES} bytes: give more than {size} symbols")
    library = _library()
    tokenizer = _tokenizer(library.models.BPE() if kind == "bpe" else library.models.Unigram())
    options: dict[str, Any] = {
        "vocab_size": size, "show_progress": False, "initial_alphabet": library.pre_tokenizers.ByteLevel.alphabet()
    }  # fmt: skip
    trainer = library.trainers.BpeTrainer(**options) if kind == "bpe" else library.trainers.UnigramTrainer(**options)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if kind == "bpe":
        symbols = sorted(model["vocab"], key=model["vocab"].__getitem__)
        how: list[Any] = [[left.translate(_FROM), right.translate(_FROM)] for left, right in model["merges"]]
    else:
        symbols, how = _in_order({piece: round(score, _DIGITS) for piece, score in model["vocab"]})
    return subwords(kind, [symbol.translate(_FROM) for symbol in symbols], how)


def subwords(kind: str, symbols: Sequence[str], how: Sequence[Any]) -> Unit:
    """The unit of symbols that were learned, each byte the character of its number.

    how   of bpe the pairs that are joined, in their order; of unigram the log-probability of each symbol

    Raises   UsageError for a kind that there is not; ValueError, with the reason, where they do not make a unit;
             MissingExtraError without tokenizers
    """
    _check(kind)
    library = _library()
    written = [symbol.translate(_TO) for symbol in symbols]
    if not {chr(byte) for byte in range(_BYTES)} <= set(symbols):
        raise ValueError("a byte is missing among the symbols")
    if len(set(symbols)) < len(symbols):
        raise ValueError("a symbol stands twice in it")
    try:
        if kind == "bpe":
            pairs = [(left.translate(_TO), right.translate(_TO)) for left, right in how]
            model = library.models.BPE({symbol: place for place, symbol in enumerate(written)}, pairs)
        else:
            model = library.models.Unigram([(s, float(p)) for s, p in zip(written, how, strict=True)], None, False)
    # The library raises nothing more exact.
    except Exception as error:
        raise ValueError(f"the {kind} of it does not fit its symbols: {str(error).splitlines()[0]}") from None
    tokenizer = _tokenizer(model)
    bytes_of = dict(zip(written, symbols, strict=True))

    def split(text: str) -> list[str]:
        return [bytes_of[token] for token in tokenizer.encode(text).tokens]

    return Unit(
        kind,
        SUBWORDS[kind],
        split,
        from_bytes,
        whole_characters,
        tuple(symbols),
        learned=tuple(map(_frozen, how)),
        noun="subwords",
    )


def _in_order(scores: dict[str, float]) -> tuple[list[str], list[Any]]:
    """Pieces and their scores in the order that is the same in every run, though the library's is of chance.

    Bytes that the text does not need as such have the lowest scores, .0001 apart, in any order: here in their own.
    """
    lowest = min(scores.values()) + 1e-4 * _BYTES
    spare = sorted(piece for piece, score in scores.items() if len(piece) == 1 and score <= lowest)
    scores = {**scores, **dict(zip(spare, sorted((scores[piece] for piece in spare), reverse=True), strict=True))}
    pieces = sorted(scores, key=lambda piece: (-scores[piece], piece))
    return pieces, [scores[piece] for piece in pieces]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tokenizer(model: Any) -> Tokenizer:
    """Words, each with the blank before it, cut into subwords."""
    library = _library()
    made: Tokenizer = library.Tokenizer(model)
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def _check(kind: str) -> None:
    if kind not in SUBWORDS:
        raise UsageError(f"there are no subwords {kind!r}.{did_you_mean(kind, SUBWORDS)}")


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError("subwords are learned by tokenizers: pip install 'unrolled[subwords]'") from None
    return tokenizers
