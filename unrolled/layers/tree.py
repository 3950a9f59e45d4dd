"""Tree-LSTMs: a level of all trees of a batch is one step of a cell, without time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.errors import ShapeError, UsageError
from unrolled.language import Cell, parse
from unrolled.layers.given import check_tensor
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.trees import Level, Trees


class TreeLSTM(nn.Module):
    """An LSTM from the leaves of trees to their roots: the state of a node comes from its own input and its children.

    children   "sum", for any number of children without an order; or the largest number of children, each of which has
               maps and a forget gate of its own: the N-ary form, in which one that is missing is zero
    others     those of `Recurrent`

    A batch takes as many steps as its tallest tree has levels.

    Raises   UsageError or ShapeError when children and sizes do not fit together
    Source   Tai, Socher & Manning 2015, arXiv 1503.00075. Departs: the bias of the forget gates begins at 1
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        children: str | int = "sum",
        *,
        bias: bool = True,
        backend: str = "",
        precision: str = "",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if children != "sum" and (type(children) is not int or children < 1):
            raise UsageError(f"children is 'sum', or a whole number above 0, not {children!r}")
        options: dict[str, Any] = {
            "bias": bias, "backend": backend, "precision": precision, "device": device, "dtype": dtype
        }  # fmt: skip
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.slots = children if isinstance(children, int) else 0
        self.edge: Recurrent | None = None
        if isinstance(children, int):
            self.node = Recurrent(n_ary(children), input_size, hidden_size, **options)
        else:
            self.node = Recurrent("child-sum-node", input_size, hidden_size, **options)
            self.edge = Recurrent("child-sum-edge", input_size, hidden_size, **options)

    def forward(self, x: Tensor, trees: Trees) -> tuple[Tensor, Tensor]:
        """Run over a batch of trees, the deepest level first.

        Shapes   x (nodes, input) in the order of `trees`, or whole numbers (nodes,) for one-hot vectors; returns h
                 (nodes, hidden), and that of the roots (trees, hidden)
        Raises   ShapeError when x does not fit the trees; UsageError for more children than the layer has maps for
        """
        check_tensor("x", x)
        if not isinstance(trees, Trees):
            raise ShapeError(f"trees is of type {type(trees).__name__}; give Trees(…), which cuts them into levels")
        nodes = len(trees.symbols)
        if x.shape[:1] != (nodes,) or x.dim() != (2 if x.is_floating_point() else 1):
            raise ShapeError(f"x is {tuple(x.shape)}; the trees have {nodes} nodes: expected ({nodes}, input)")
        if self.edge is None and trees.most > self.slots:
            raise UsageError(
                f"a node has {trees.most} children, the layer has maps for {self.slots}: make it with "
                f'children={trees.most}, or children="sum" for any number'
            )
        join = self._picked if self.edge is None else self._summed
        state = self.node.initial_state(0)
        found = []
        for own, level in zip(x.split([level.size for level in trees.levels]), trees.levels, strict=True):
            state = join(own, state, level)
            found.append(state.h)
        h = torch.cat(found)
        return h, h[nodes - len(trees) :]

    def _summed(self, x: Tensor, below: Any, level: Level) -> Any:
        """The state of a level whose nodes read the sums over their children."""
        assert self.edge is not None
        h, c = self.node.initial_state(level.size)
        if len(below.h):
            parents = level.parents.to(x.device)
            kept, _ = self.edge(x[parents][None], (below.c,), h=below.h[None])
            h, c = h.index_add(0, parents, below.h), c.index_add(0, parents, kept[0])
        return self.node(x[None], (h, c))[1]

    def _picked(self, x: Tensor, below: Any, level: Level) -> Any:
        """The state of a level whose nodes read each child apart."""
        places = (level.ranks * level.size + level.parents).to(x.device)
        h, c = (
            none.index_copy(0, places, value).unflatten(0, (self.slots, level.size))
            for none, value in zip(self.node.initial_state(self.slots * level.size), below, strict=True)
        )
        others = {
            f"{name}{k + 1}": value[k][None] for name, value in (("h", h), ("c", c)) for k in range(1, self.slots)
        }
        return self.node(x[None], (h[0], c[0]), **others)[1]

    def extra_repr(self) -> str:
        """The sizes and the kind."""
        return f"{self.input_size} -> {self.hidden_size}, children={self.slots or 'sum'}"


def n_ary(children: int) -> Cell:
    """The node of an N-ary Tree-LSTM: what `binary-tree-lstm` is for two children, for as many."""
    others = range(2, children + 1)
    read = dict(enumerate(("h", *(f"h{k}" for k in others)), 1))

    def maps(name: str) -> str:
        return " + ".join(f"U.{name}[{k}] @ {h}" for k, h in read.items())

    arguments = ["x", "h", "c", *(f'{name}{k}: Input["hidden"]' for name in "hc" for k in others)]
    lines = [
        f"i = sigmoid(W.i @ x + {maps('i')} + b.i)",
        *(f"f{k} = sigmoid(W.f @ x + {maps(f'f{k}')} + b.f)" for k in read),
        f"g = tanh(W.g @ x + {maps('g')} + b.g)",
        f"o = sigmoid(W.o @ x + {maps('o')} + b.o)",
        " + ".join(("c = i * g + f1 * c", *(f"f{k} * c{k}" for k in others))),
        "h = o * tanh(c)",
        "return h, c",
    ]
    head = '@cell(source="Tai, Socher & Manning 2015, arXiv 1503.00075: N-ary, equations 9 to 14", init={"b.f": 1.0})'
    return parse("\n    ".join([f"{head}\ndef tree_lstm_of_{children}({', '.join(arguments)}):", *lines]))
