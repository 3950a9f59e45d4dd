"""The functions that equations may call: the closed set, and names composed of it."""

from __future__ import annotations

from collections.abc import Sequence

from unrolled.errors import ShapeError
from unrolled.ir.ops import LAYER_NORM_EPSILON
from unrolled.language.signature import axes_text
from unrolled.language.values import Value, active


def _elementwise(name: str, *operands: object) -> Value:
    return active(name).elementwise(name, name, *operands)


def _over_units(name: str, value: object, **attributes: object) -> Value:
    trace = active(name)
    trace.observe()
    node = trace.lift(value, None, name)
    if len(node.shape) != 1:
        trace.fail(f"{name} works over the units; {trace.text(node)} is {axes_text(node.shape)}", ShapeError)
    return trace.record(name, node, **attributes)


def sigmoid(x: object) -> Value:
    """1 / (1 + exp(-x))."""
    return _elementwise("sigmoid", x)


def tanh(x: object) -> Value:
    """The hyperbolic tangent."""
    return _elementwise("tanh", x)


def relu(x: object) -> Value:
    """x where it is above zero, else 0; its slope at zero is 0."""
    return _elementwise("relu", x)


def exp(x: object) -> Value:
    """e to the x."""
    return _elementwise("exp", x)


def log(x: object) -> Value:
    """The natural logarithm."""
    return _elementwise("log", x)


def sqrt(x: object) -> Value:
    """The square root."""
    return _elementwise("sqrt", x)


def abs(x: object) -> Value:
    """The magnitude; its slope at zero is 0."""
    return _elementwise("abs", x)


def softplus(x: object) -> Value:
    """log(1 + exp(x)), without overflow."""
    return _elementwise("softplus", x)


def minimum(a: object, b: object) -> Value:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    return _elementwise("minimum", a, b)


def maximum(a: object, b: object) -> Value:
    """The larger of the two; where they are equal each gets half of the gradient."""
    return _elementwise("maximum", a, b)


def where(condition: object, a: object, b: object) -> Value:
    """a where the condition holds (is not zero), else b."""
    return _elementwise("where", condition, a, b)


def layer_norm(x: object, epsilon: float = LAYER_NORM_EPSILON) -> Value:
    """x less its mean over the units, over their deviation (Ba 2016). Gain and bias are the cell's: p.g * … + b.g."""
    if not isinstance(epsilon, float | int) or not 0 < epsilon < 1:
        active("layer_norm").fail(f"layer_norm: epsilon is a small positive number, not {epsilon!r}")
    return _over_units("layer_norm", x, epsilon=float(epsilon))


def softmax(x: object) -> Value:
    """exp(x) over its sum over the units."""
    return _over_units("softmax", x)


def cumsum(x: object) -> Value:
    """The running sum over the units."""
    return _over_units("cumsum", x)


def sum(x: object) -> Value:
    """The sum of all units: a number."""
    return _over_units("sum", x)


def mean(x: object) -> Value:
    """The mean of all units: a number."""
    total = sum(x)
    (vector,) = total.node.args
    return total / size(vector.shape[0])


def size(axis: str = "hidden") -> Value:
    """The number of units of an axis."""
    trace = active("size")
    _check_axis("size", axis)
    return Value(trace, trace.graph.add("size", axis=axis, shape=()))


def repeat(x: object, axis: str = "hidden") -> Value:
    """Each unit of x written side by side as often as the longer `axis` has room for."""
    trace = active("repeat")
    _check_axis("repeat", axis)
    node = trace.lift(x, None, "repeat")
    if node.shape == (axis,):
        trace.fail(f"repeat writes a shorter axis out to ({axis}); {trace.text(node)} is ({axis}) already", ShapeError)
    return _over_units("repeat", x, axis=axis)


def raw(x: object, axis: str = "hidden") -> Value:
    """x itself on another axis: the same numbers where the sizes agree, a bias-free map (W.raw) otherwise."""
    trace = active("raw")
    _check_axis("raw", axis)
    node = trace.lift(x, None, "raw")
    return Value(trace, node) if node.shape == (axis,) else _over_units("raw", x, axis=axis)


def tick(periods: Sequence[int]) -> Value:
    """The 0/1 vector of the units due at this step: equal modules, each due when its period divides the clock.

    Source   Koutnik 2014
    """
    trace = active("tick")
    trace.observe()
    kept = tuple(periods) if isinstance(periods, Sequence) else ()
    if not kept or any(not isinstance(period, int) or period < 1 for period in kept):
        trace.fail(f"tick takes a tuple of periods, positive integers, not {periods!r}")
    return Value(trace, trace.graph.add("tick", periods=kept, shape=("hidden",)))


def _check_axis(name: str, axis: str) -> None:
    trace = active(name)
    known = {"input", "hidden", *trace.axes}
    if axis not in known:
        trace.fail(f"{name}: there is no axis {axis!r}; the cell has {', '.join(sorted(known))}", ShapeError)


def hard_sigmoid(x: object) -> Value:
    """A sigmoid of three straight lines: x / 6 + 1/2 between 0 and 1."""
    return minimum(maximum(x / 6 + 0.5, 0), 1)  # type: ignore[operator]


def silu(x: object) -> Value:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def cumax(x: object) -> Value:
    """The running sum of the softmax: a soft step from 0 to 1 over the units (Shen 2019)."""
    return cumsum(softmax(x))


FUNCTIONS = {
    function.__name__: function
    for function in (
        *(sigmoid, tanh, relu, exp, log, sqrt, abs, softplus, minimum, maximum, where),
        *(layer_norm, softmax, cumsum, sum, mean, size, repeat, raw, tick, hard_sigmoid, silu, cumax),
    )
}
