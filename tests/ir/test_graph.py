from __future__ import annotations

import pytest

from unrolled.errors import CellError, ShapeError
from unrolled.ir.graph import Graph, Node, copy_into, listing, reachable, users, verify


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture
def h(graph: Graph) -> Node:
    return graph.leaf("state", "h", ("hidden",))


def test_equal_expressions_are_one_node(graph, h):
    assert graph.add("tanh", h) is graph.add("tanh", h)
    assert graph.add("tanh", h) is not graph.add("sigmoid", h)
    assert len(graph.nodes) == 3


def test_nodes_that_differ_in_an_attribute_only_are_two(graph, h):
    assert graph.add("layer_norm", h, epsilon=1e-5) is not graph.add("layer_norm", h, epsilon=1e-6)


def test_zero_and_minus_zero_are_one_constant(graph):
    assert graph.constant(-0.0) is graph.constant(0.0)


def test_a_node_looks_up_its_attributes_by_name(graph, h):
    assert h["name"] == "h"
    with pytest.raises(KeyError):
        h["axis"]


def test_adding_with_the_wrong_number_of_arguments_is_refused(graph, h):
    with pytest.raises(CellError, match="mul takes 2 values, not 1"):
        graph.add("mul", h)


def test_adding_unequal_axes_is_refused(graph, h):
    with pytest.raises(ShapeError):
        graph.add("add", h, graph.leaf("sequence", "x", ("input",)))


def test_reachable_gives_arguments_first_and_nothing_unused(graph, h):
    unused = graph.add("exp", h)
    root = graph.add("mul", graph.add("tanh", h), graph.add("sigmoid", h))
    order = reachable([root])
    assert unused not in order
    assert order[-1] is root
    assert all(order.index(arg) < order.index(node) for node in order for arg in node.args)


def test_reachable_walks_deep_graphs_without_recursion(graph, h):
    node = h
    for _ in range(5000):
        node = graph.add("add", node, h)
    assert len(reachable([node])) == 5001


def test_users_lists_each_use(graph, h):
    square = graph.add("mul", h, h)
    assert users(graph.nodes)[h] == [square, square]


def test_a_copy_into_another_graph_drops_what_is_dead(graph, h):
    graph.add("exp", h)
    root = graph.add("tanh", h)
    other = Graph()
    image = copy_into(other, [root])
    assert [node.op for node in other.nodes] == ["state", "tanh"]
    assert image[root] is other.nodes[-1]


def test_the_verifier_accepts_what_graphs_build(graph, h):
    graph.add("sum", graph.add("mul", h, graph.constant(2)))
    verify(graph.nodes)


def _node(op: str, *args: Node, shape: tuple[str, ...] = ("hidden",), index: int = 9, **attributes: object) -> Node:
    return Node(op, args, shape, tuple(sorted(attributes.items())), index)


@pytest.mark.parametrize(
    ("malformed", "message"),
    [
        (lambda h: _node("sinh", h), "unknown operation 'sinh'"),
        (lambda h: _node("add", h), "add takes 2 values, not 1"),
        (lambda h: _node("tanh", h, index=0), "stands before one of its arguments"),
        (lambda h: _node("tanh", h, shape=("input",)), r"has axes \('input',\), its operation gives \('hidden',\)"),
        (lambda h: _node("sum", h, shape=("hidden",)), "its operation gives"),
        (lambda h: _node("add", h, _node("sequence", shape=("input",), index=1, name="x")), "unequal axes"),
        (lambda h: _node("product", h, h), "needs a map on its left"),
        (lambda h: _node("repeat", h), "lacks its attribute axis"),
        (lambda h: _node("state", name="c"), "lacks its attribute shape"),
    ],
    ids=["operation", "arity", "order", "axes", "reduction", "unequal", "product of vectors", "axis", "leaf"],
)
def test_the_verifier_catches_a_malformed_node(h, malformed, message):
    with pytest.raises(CellError, match=message):
        verify([h, malformed(h)])


def test_the_listing_prints_operation_arguments_axes_and_name(graph, h):
    node = graph.add("mul", h, graph.constant(0.5))
    assert listing([node], {node: "half"}) == "%2 mul(%0, %1): (hidden)   # half"
