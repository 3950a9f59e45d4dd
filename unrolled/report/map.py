"""A map of words: those whose vectors are alike stand near each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unrolled.report.svg import COLOURS, WIDE, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 640
# Of a letter of the map, in its pixels: a syllable of Korean, any other letter, a line.
_WIDE_LETTER, _LETTER, _LINE = 11.5, 6.5, 14.0
_SIZE = 10
_NEIGHBOURS = 12.0


def word_map(words: Sequence[str], vectors: NDArray[np.float32], sides: Sequence[int], label: str) -> str:
    """The words as SVG, those that would cover an earlier one left out.

    sides    of each word: 1 and -1 have a colour each, 0 is plain
    label    what it shows, for those who do not see it

    Source   van der Maaten & Hinton 2008, t-SNE, by scikit-learn; without that, the two principal components
    """
    places = _scaled(flat(vectors))
    taken: list[tuple[float, float, float, float]] = []
    shown = []
    for place, word in enumerate(words):
        x, y = places[place] * (WIDE - 120, HEIGHT - 80)
        width = sum(_WIDE_LETTER if ord(letter) > 0x10FF else _LETTER for letter in word)
        box = (x - width / 2, y - _LINE / 2, x + width / 2, y + _LINE / 2)
        if all(_apart(box, other) for other in taken):
            taken.append(box)
            shown.append((x, y, word, sides[place]))

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.set_xlim(0, WIDE - 120)
        axes.set_ylim(0, HEIGHT - 80)
        for x, y, word, side in shown:
            colour = {1: "training", -1: "held-out", 0: "ink"}[side]
            axes.text(x, y, word, ha="center", va="center", fontsize=_SIZE, color=COLOURS[colour])

    return svg("word-map", label, draw, WIDE, HEIGHT)


def flat(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Two numbers for each vector, so that those that are alike in direction come near each other.

    Shapes   (words, size) to (words, 2)
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.maximum(lengths, 1e-12)
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        centred = units - units.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return np.array(centred @ axes[:2].T, np.float64)
    perplexity = min(_NEIGHBOURS, (len(units) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", metric="cosine", random_state=0)
    return np.asarray(made.fit_transform(units), np.float64)


def _scaled(places: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = places.min(0), places.max(0)
    scaled: NDArray[np.float64] = (places - low) / np.maximum(high - low, 1e-12)
    return scaled


def _apart(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1]
