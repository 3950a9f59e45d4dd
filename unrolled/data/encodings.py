"""Which encoding a file may be in, when it is not in the one that was said."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from unrolled.errors import UsageError, did_you_mean

# What is tried; of equally good guesses the earlier one is taken.
LIKELY = ("cp949", "shift_jis", "euc_jp", "gb18030", "big5", "cp1252", "cp1250", "cp1251", "koi8_r")
COMMON = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "ascii", "euc_kr", "gbk", *LIKELY)
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decoder_of(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    """What makes a decoder of an encoding; a byte order mark at the beginning is no part of the text.

    Raises   UsageError when there is no such encoding of text
    """
    try:
        " ".encode(encoding)
        name = codecs.lookup(encoding).name
        return codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)
    # ValueError is what a name with a zero byte in it ends in, and a codec for no text at all.
    except (LookupError, ValueError):
        raise UsageError(f"there is no encoding {encoding!r}.{did_you_mean(encoding, COMMON)}") from None


def likely_encoding(sample: bytes) -> str | None:
    """The encoding that a sample of a file is likely to be in; None if none suits."""
    for mark, name in _MARKS.items():
        if sample.startswith(mark) and _decodes(sample, name):
            return name
    if b"\0" in sample:
        return next((name for name in ("utf-16-le", "utf-16-be") if _is_text_in(sample, name)), None)
    if _decodes(sample, "utf-8"):
        return "utf-8"
    return _best_guess(sample)


def mostly_utf8(sample: bytes) -> bool:
    """Whether a sample with wrong bytes is UTF-8 all the same, but damaged: most characters beyond ASCII are right."""
    beyond = [character for character in sample.decode("utf-8", "replace") if not character.isascii()]
    return len(beyond) > 4 * beyond.count("\ufffd")


def _best_guess(sample: bytes) -> str | None:
    # It is wanted only when something is wrong, and takes a while to load.
    from charset_normalizer import from_bytes

    # Lines in ASCII say nothing, and the guess looks at a few places only.
    telling = b"\n".join(line for line in sample.split(b"\n") if not line.isascii())
    possible = [name for name in LIKELY if _decodes(sample, name)]
    for name in ("shift_jis", "euc_jp"):
        if name in possible and _is_japanese(telling.decode(name, "replace")):
            return name
    # Less strict than is usual there: lines of a few words, as reviews are, look odd to it in any encoding.
    matches = from_bytes(telling, cp_isolation=possible, threshold=0.5) if possible else None
    best = matches.best() if matches else None
    if matches is None or best is None:
        return None
    as_good = {
        name
        for match in matches
        if (match.chaos, match.coherence) == (best.chaos, best.coherence)
        for name in match.could_be_from_charset
    }
    return next((name for name in possible if name in as_good), None)


def _is_japanese(text: str) -> bool:
    """Whether many characters are hiragana, and of many kinds: what a wrong encoding does not make of other text."""
    beyond = [character for character in text if not character.isascii()]
    hiragana = [character for character in beyond if "\u3041" <= character <= "\u3096"]
    return len(hiragana) > len(beyond) / 4 and len(set(hiragana)) >= 10


def _decodes(sample: bytes, encoding: str) -> bool:
    """Whether a sample is in an encoding, but for a last character that is cut off."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeError:
        return False
    return True


def _is_text_in(sample: bytes, encoding: str) -> bool:
    """Whether a sample with zero bytes reads as text: no zero, no other control character, some white space."""
    if not _decodes(sample, encoding):
        return False
    text = codecs.getincrementaldecoder(encoding)().decode(sample)
    return not re.search(r"[\x00-\x08\x0e-\x1f\ufffe\uffff]", text) and bool(re.search(r"[ \n]", text))
