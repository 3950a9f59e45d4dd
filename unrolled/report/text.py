"""Text of any origin made fit for a page, and numbers as a reader wants them."""

from __future__ import annotations

import math
import re

# What no page may hold, or what nobody sees: lone surrogates, the second block of control characters, non-characters.
_UNFIT = re.compile("[\x80-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "\u2421"}


def clean(value: object) -> str:
    """A value as text in which each character can be shown: control characters become their pictures, such as ␀."""
    return _UNFIT.sub("\ufffd", str(value).replace("\r\n", "\n").translate(_PICTURES))


def count(number: float) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,.0f}"


def measured(value: float) -> str:
    """A measured number, with the digits that say something."""
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def bits(nats: float) -> float:
    """Nats as bits."""
    return nats / math.log(2)


def losses(nats: float) -> str:
    """A loss in nats and in bits."""
    if not math.isfinite(nats):
        return "not finite"
    return f"{measured(nats)} nats ({measured(bits(nats))} bits)"


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{count(minutes // 60)} h {minutes % 60} min"
