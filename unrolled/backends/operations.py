"""Every operation in torch: the living definition. Works on every device and type, and differentiates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from unrolled.ir.graph import Node

Run = Callable[..., Tensor]
Sizes = Mapping[str, int]


def _zero_one(compare: Callable[[Tensor, Tensor], Tensor]) -> Run:
    return lambda a, b: compare(a, b).to(torch.promote_types(a.dtype, b.dtype))


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition != 0, a, b)


def _softplus(x: Tensor) -> Tensor:
    # torch's own softplus is the identity from 20 on, which is not the function in float64.
    return torch.logaddexp(x, torch.zeros_like(x))


def _layer_norm(node: Node, _: Sizes) -> Run:
    epsilon = node["epsilon"]
    return lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:], eps=epsilon)


def _inverse_deviation(node: Node, _: Sizes) -> Run:
    epsilon = node["epsilon"]
    # Written out: torch's var warns about a batch of no rows.
    return lambda x: ((x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True) + epsilon).rsqrt()


def _spread(node: Node, sizes: Sizes) -> Run:
    size = sizes[node["axis"]]
    return lambda x: x.reshape(1).expand(size) if x.dim() == 0 else x.expand(*x.shape[:-1], size)


def _repeat(node: Node, sizes: Sizes) -> Run:
    times = sizes[node["axis"]] // sizes[node.args[0].shape[0]]
    return lambda x: x.repeat_interleave(times, dim=-1)


def _fold(node: Node, sizes: Sizes) -> Run:
    size = sizes[node["axis"]]
    return lambda x: x.unflatten(-1, (size, -1)).sum(-1)


def _plain(run: Run) -> Callable[[Node, Sizes], Run]:
    return lambda node, sizes: run


# Operation -> the function of its arguments, made for a node and the sizes of the axes. Products with maps are not
# here: they have a structure, see maps.py; nor are leaves, which the caller sets.
OPERATIONS: dict[str, Callable[[Node, Sizes], Run]] = {
    "neg": _plain(torch.neg),
    "add": _plain(torch.add),
    "sub": _plain(torch.sub),
    "mul": _plain(torch.mul),
    "div": _plain(torch.div),
    "minimum": _plain(torch.minimum),
    "maximum": _plain(torch.maximum),
    "less": _plain(_zero_one(torch.lt)),
    "less_equal": _plain(_zero_one(torch.le)),
    "equal": _plain(_zero_one(torch.eq)),
    "where": _plain(_where),
    "relu": _plain(torch.relu),
    "abs": _plain(torch.abs),
    "sign": _plain(torch.sign),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "sqrt": _plain(torch.sqrt),
    "softplus": _plain(_softplus),
    "layer_norm": _layer_norm,
    "inverse_deviation": _inverse_deviation,
    "softmax": _plain(lambda x: torch.softmax(x, -1)),
    "cumsum": _plain(lambda x: torch.cumsum(x, -1)),
    "cumsum_reversed": _plain(lambda x: torch.cumsum(x.flip(-1), -1).flip(-1)),
    "sum": _plain(lambda x: x.sum(-1, keepdim=True)),
    "spread": _spread,
    "repeat": _repeat,
    "fold": _fold,
    "raw": _plain(lambda x: x),
}
