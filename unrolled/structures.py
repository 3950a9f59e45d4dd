"""The structures by name: what is made of layers, where it is and how one gets it. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Structure:
    """A way to combine layers.

    home      the class or function, in unrolled.layers
    sentence  what it does and when to choose it
    source    author and year
    use       how it is written, and what of it the commands take
    """

    home: str
    sentence: str
    source: str
    use: str


STRUCTURES: dict[str, Structure] = {
    "deep": Structure(
        "deep",
        "Layers upon each other, each reading what the one below gives: more work at every step of time.",
        "Schmidhuber 1992; Graves 2013",
        "--layers, or deep(lambda index, size: Recurrent('lstm', size, 64), 32, layers=3)",
    ),
    "residual": Structure(
        "Residual",
        "Each layer adds to what it reads, so that gradients find a short way down: for stacks of many layers.",
        "He 2015, arXiv 1512.03385; on recurrent layers: Wu 2016, arXiv 1609.08144",
        "--structure residual, or Residual(Recurrent('lstm', 64, 64))",
    ),
    "tied": Structure(
        "Tied",
        "Layers upon each other with the same weights: depth without its parameters.",
        "Kalchbrenner 2015, arXiv 1507.01526",
        "--structure tied, or Tied(Recurrent('lstm', 64, 64), 4)",
    ),
    "bidirectional": Structure(
        "Bidirectional",
        "One layer reads forward, one backward; their outputs stand side by side: where the whole sequence is known.",
        "Schuster & Paliwal 1997",
        "Bidirectional(Recurrent('gru', 32, 64), Recurrent('gru', 32, 64, reverse=True)); no language model, since it "
        "reads what is to be predicted",
    ),
    "sliced": Structure(
        "Sliced",
        "Slices of the sequence are read side by side; their last states are a sequence again, and so on: long "
        "sequences in few steps.",
        "Yu & Liu 2018, arXiv 1807.02291",
        "sliced(lambda level, size: Recurrent('gru', size, 50), 200, parts=8, times=2); it gives one vector a "
        "sequence, so it is no language model",
    ),
    "grid-lstm": Structure(
        "GridLSTM",
        "An LSTM along time and one along depth in every block, both with a memory: depth that trains as time does.",
        "Kalchbrenner, Danihelka & Graves 2015, arXiv 1507.01526",
        "--cell grid-block, of which layers make a grid, or GridLSTM(32, 64, layers=3); DepthLSTM has no time",
    ),
    "tree-lstm": Structure(
        "TreeLSTM",
        "A step reads the states of its children, not of the step before: where the structure of the input is known.",
        "Tai, Socher & Manning 2015, arXiv 1503.00075",
        "TreeLSTM(32, 64); it reads trees, not sequences",
    ),
    "window-mlp": Structure(
        "WindowMLP",
        "The last so many inputs through one hidden layer, no state between: what a recurrent network has to beat.",
        "Bengio, Ducharme, Vincent & Jauvin 2003",
        "WindowMLP(32, 64, window=5); a run keeps a network as its equations, and a window has none",
    ),
    "attention": Structure(
        "make_attention",
        "A weighted mean of a memory, by how well each place of it answers a query: to look back at will.",
        "Bahdanau 2015; Luong 2015; Vaswani 2017",
        "make_attention('additive', query_size=64, memory_size=64)",
    ),
    "pooling": Structure(
        "make_pooling",
        "A sequence as one vector, by its last step, mean, maximum or attention, whatever the padding: to classify it.",
        "Lin 2017, arXiv 1703.03130, for attention",
        "make_pooling('mean', size=64)",
    ),
}
