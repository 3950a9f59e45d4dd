"""A batch of trees is each tree by recursion, as the paper has it; trees are read from lists and from text."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close
from unrolled.cells import get
from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Recurrent, TreeLSTM, Trees, read_tree
from unrolled.layers.tree import n_ary

KINDS: list[str | int] = ["sum", 1, 2, 4]
IDS = [f"children-{kind}" for kind in KINDS]


def layer_of(children: str | int, input_size: int = 3, hidden_size: int = 5) -> TreeLSTM:
    """A layer in float64 whose weights, biases too, are random."""
    layer = TreeLSTM(input_size, hidden_size, children, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.6 * torch.randn_like(parameter))
    return layer


def random_tree(numbers: random.Random, most: int, depth: int = 4) -> Any:
    """A random tree of which each node has a vector of its own, in front of up to `most` children."""
    vector = torch.tensor([numbers.gauss(0, 1) for _ in range(3)], dtype=torch.float64)
    count = numbers.randint(0, most) if depth else 0
    return [vector, *(random_tree(numbers, most, depth - 1) for _ in range(count))]


def child_sum(layer: TreeLSTM, x: Tensor, children: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Tai 2015, equations 2 to 8."""
    node, edge = layer.node, layer.edge
    assert edge is not None
    h = sum((h for h, _ in children), x.new_zeros(layer.hidden_size))
    i, g, o = (node.W[gate] @ x + node.U[gate] @ h + node.b[gate] for gate in "igo")
    c = torch.sigmoid(i) * torch.tanh(g)
    for h_k, c_k in children:
        c = c + torch.sigmoid(edge.W["f"] @ x + edge.U["f"] @ h_k + edge.b["f"]) * c_k
    return torch.sigmoid(o) * torch.tanh(c), c


def several(layer: TreeLSTM, x: Tensor, children: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Tai 2015, equations 9 to 14."""
    node = layer.node

    def net(gate: str, maps: str) -> Tensor:
        read = (node.U[f"{maps}[{place}]"] @ h for place, (h, _) in enumerate(children, 1))
        return sum(read, node.W[gate] @ x + node.b[gate])

    i, g, o = (net(gate, gate) for gate in "igo")
    c = torch.sigmoid(i) * torch.tanh(g)
    for k, (_, c_k) in enumerate(children, 1):
        c = c + torch.sigmoid(net("f", f"f{k}")) * c_k
    return torch.sigmoid(o) * torch.tanh(c), c


def by_recursion(layer: TreeLSTM, tree: Any, found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The state of a tree's root; `found` takes the input and h of every node."""
    x, *below = tree
    children = [by_recursion(layer, child, found) for child in below]
    h, c = (child_sum if layer.edge is not None else several)(layer, x, children)
    found.append((x, h))
    return h, c


@pytest.mark.parametrize("children", KINDS, ids=IDS)
def test_a_batch_of_trees_is_each_tree_by_recursion(children: str | int) -> None:
    layer = layer_of(children)
    numbers = random.Random(1)
    most = 3 if children == "sum" else int(children)
    trees = [random_tree(numbers, most) for _ in range(6)] + [[torch.ones(3, dtype=torch.float64)]]
    batch = Trees(trees, first="input")
    assert batch.most == most
    x = batch.vectors().requires_grad_()
    h, roots = layer(x, batch)
    found: list[tuple[Tensor, Tensor]] = []
    order = {id(vector): place for place, vector in enumerate(batch.symbols)}
    expected_roots = torch.stack([by_recursion(layer, tree, found)[0] for tree in trees])
    expected = torch.stack([h for _, h in sorted(found, key=lambda pair: order[id(pair[0])])])
    assert_close([h, roots], [expected, expected_roots], 1e-12)


@pytest.mark.parametrize("children", KINDS, ids=IDS)
def test_the_gradient_of_a_batch_of_trees_is_that_of_the_recursion(children: str | int) -> None:
    layer = layer_of(children)
    trees = [random_tree(random.Random(seed), 3 if children == "sum" else int(children), 3) for seed in (1, 2, 3)]
    batch = Trees(trees, first="input")
    inputs = [vector.requires_grad_() for vector in batch.symbols]
    weight = torch.randn(3, 5, dtype=torch.float64)
    _, roots = layer(torch.stack(inputs), batch)
    expected = torch.stack([by_recursion(layer, tree, [])[0] for tree in trees])
    wanted = [*inputs, *layer.parameters()]
    got, right = (
        torch.autograd.grad((result * weight).sum(), wanted, allow_unused=True, materialize_grads=True)
        for result in (roots, expected)
    )
    assert_close(got, right)


@pytest.mark.parametrize("children", ["sum", 1], ids=["children-sum", "children-1"])
def test_a_chain_is_an_lstm_over_the_sequence_from_its_leaf_on(children: str | int) -> None:
    layer, lstm = layer_of(children), Recurrent("lstm", 3, 5, dtype=torch.float64)
    with torch.no_grad():
        for gate in "ifgo":
            source = layer.edge if gate == "f" and layer.edge is not None else layer.node
            recurrent = source.U[gate] if children == "sum" else source.U["f1[1]" if gate == "f" else f"{gate}[1]"]
            lstm.W[gate].copy_(source.W[gate])
            lstm.U[gate].copy_(recurrent)
            lstm.b[gate].copy_(source.b[gate])
    x = torch.randn(7, 3, dtype=torch.float64)
    chain: Any = [x[0]]
    for vector in x[1:]:
        chain = [vector, chain]
    batch = Trees([chain], first="input")
    h, _ = layer(batch.vectors(), batch)
    assert_close([h], [lstm(x[:, None])[0][:, 0]], 1e-12)


def test_the_order_of_children_counts_in_the_n_ary_form_alone() -> None:
    tree = ["a", ["b", "c", "d"], "e"]
    turned = ["a", "e", ["b", "d", "c"]]
    table = dict(zip("abcde", range(5), strict=True))
    for children, same in (("sum", True), (2, False)):
        layer = layer_of(children, 5)
        first, second = (
            layer(batch.numbers(table), batch)[1] for batch in (Trees([each], first="input") for each in (tree, turned))
        )
        assert torch.allclose(first, second, rtol=1e-12) == same


def test_a_batch_takes_as_many_steps_as_its_tallest_tree_has_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, steps = layer_of(2, 4), []
    run = layer.node.run
    monkeypatch.setattr(layer.node, "run", lambda x, *rest, **more: steps.append(x.shape[1]) or run(x, *rest, **more))
    batch = Trees([[1, [2, 3]], [[1, 2], 3], 3])
    layer(batch.numbers({1: 1, 2: 2, 3: 3}), batch)
    assert steps == [4, 4, 3]


def test_whole_numbers_stand_for_one_hot_vectors_of_nodes() -> None:
    batch = Trees(["(0 (1 2 3) 1)"], first="input")
    numbers = batch.numbers({"0": 0, "1": 1, "2": 2, "3": 3})
    for children in ("sum", 2):
        layer = layer_of(children, 4)
        vectors = torch.nn.functional.one_hot(numbers, 4).double()
        assert_close(layer(numbers, batch), layer(vectors, batch), 1e-12)


def test_the_n_ary_cell_of_two_children_is_the_binary_one() -> None:
    assert n_ary(2).text.split("    ")[1:] == [
        line for line in get("binary-tree-lstm").text.split("    ")[1:] if not line.startswith('"""')
    ]


def test_the_forget_gates_of_trees_begin_open() -> None:
    edge = TreeLSTM(3, 4).edge
    assert edge is not None
    assert torch.equal(edge.b["f"], torch.ones(4))
    assert torch.equal(TreeLSTM(3, 4, 3).node.b["f"], torch.ones(4))


def test_brackets_and_lists_say_the_same_tree() -> None:
    assert read_tree("(3 (2 good) (4 film))") == ["3", ["2", "good"], ["4", "film"]]
    assert read_tree(" [MAX 2 9 [MIN 4 7 ] 0 ]\n") == ["MAX", "2", "9", ["MIN", "4", "7"], "0"]
    assert read_tree("word") == "word"
    text, lists = Trees(["((a b) c)"]), Trees([(("a", "b"), "c")])
    assert text.symbols == lists.symbols == ["a", "b", None, "c", None]


def test_a_list_begins_with_a_child_the_node_s_input_or_its_label() -> None:
    plain = Trees([[["a", "b"], "c"], "d"])
    assert plain.symbols == ["a", "b", None, "c", None, "d"]
    assert plain.labels == [None] * 6
    labelled = Trees(["(3 (2 good) (4 film))"], first="label")
    assert labelled.symbols == ["good", "film", None]
    assert labelled.labels == ["2", "4", "3"]
    operators = Trees(["[MAX 2 [MIN 4 7]]"], first="input")
    assert operators.symbols == ["4", "7", "2", "MIN", "MAX"]
    assert operators.numbers({"MAX": 1, "MIN": 2, "2": 3}, unknown=9).tolist() == [9, 9, 3, 2, 1]
    assert plain.numbers({"a": 1, "b": 2, "c": 3, "d": 4}).tolist() == [1, 2, 0, 3, 0, 4]
    vectors = Trees([[torch.ones(2), [torch.zeros(2), 2 * torch.ones(2)]]]).vectors()
    assert vectors.tolist() == [[0, 0], [2, 2], [1, 1], [0, 0], [0, 0]]


def test_a_tree_may_be_deeper_than_python_s_stack() -> None:
    depth = 1500
    deep = Trees(["(" * depth + "a" + ")" * depth])
    assert len(deep.levels) == depth + 1
    layer = TreeLSTM(1, 2, 1)
    with torch.no_grad():
        assert torch.isfinite(layer(deep.numbers({"a": 0}), deep)[1]).all()


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "empty-text": (lambda: read_tree("  "), UsageError, "the text of a tree is empty"),
    "nothing-inside": (lambda: read_tree("(a ())"), UsageError, "the bracket at character 4 holds nothing"),
    "open": (lambda: read_tree("(a (b c)"), UsageError, r"'\(' at character 1 is never closed"),
    "closed": (lambda: read_tree(") a"), UsageError, r"'\)' at character 1 closes nothing"),
    "crossed": (lambda: read_tree("(a [b) c]"), UsageError, r"'\)' at character 6 closes '\[' at character 4"),
    "two-trees": (lambda: read_tree("(a) (b)"), UsageError, r"has ended before '\(' at character 5: a text is"),
    "too-many-ends": (lambda: read_tree("(a))"), UsageError, r"has ended before '\)' at character 4"),
    "empty-list": (lambda: Trees(["a", [["b"], []]]), UsageError, "tree 1 has an empty list"),
    "no-trees": (lambda: Trees([]), UsageError, "a list of one tree or more"),
    "one-text": (lambda: Trees("(a b)"), UsageError, "a list of one tree or more"),
    "first": (lambda: Trees(["a"], first="head"), UsageError, "first is child, input or label, not 'head'"),
    "headless": (lambda: Trees([[["a"], "b"]], first="input"), UsageError, "tree 0 has a list that begins with a list"),
    "label-alone": (lambda: Trees(["(3)"], first="label"), UsageError, "tree 0 has the label '3' over nothing"),
    "unknown": (lambda: Trees(["(good)"]).numbers({"god": 1}), UsageError, r"no symbol 'good'\. Did you mean god\?"),
    "words": (lambda: Trees(["(a b)"]).vectors(), ShapeError, "vectors of one size, not such as 'a'"),
    "ragged": (
        lambda: Trees([[torch.ones(2), torch.ones(3)]]).vectors(), ShapeError, "not such as tensor",
    ),
    "kind": (lambda: TreeLSTM(3, 4, "mean"), UsageError, "children is 'sum', or a whole number above 0, not 'mean'"),
    "children": (
        lambda: TreeLSTM(3, 4, 2)(torch.zeros(4, 3), Trees(["(a b c)"])), UsageError, "a node has 3 children, .* for 2",
    ),
    "nodes": (
        lambda: TreeLSTM(3, 4)(torch.zeros(2, 3), Trees(["(a b c)"])), ShapeError, r"have 4 nodes: .*\(4, input\)",
    ),
    "no-levels": (
        lambda: TreeLSTM(3, 4)(torch.zeros(3, 3), ["(a b)"]), ShapeError, r"trees is of type list; give Trees\(",
    ),
    "edge-alone": (
        lambda: Recurrent("child-sum-edge", 3, 4)(torch.zeros(2, 1, 3)), ShapeError, "h=… is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_tree_is_refused_in_words(what: str) -> None:
    make, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        make()
