"""A program in short, for tables and for the reader: its parameters as a formula of the axes, and its stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import gcd, lcm

from unrolled.errors import ShapeError
from unrolled.ir.graph import Node, reachable
from unrolled.ir.plan import Group, Plan, make_plan
from unrolled.ir.program import Program, bind
from unrolled.ir.show import INFIX, Scope, Unnamed, expression
from unrolled.ir.structure import Structure

Monomial = tuple[str, ...]


class Formula:
    """A polynomial in the sizes of axes, such as 4·hidden·(input + hidden + 1)."""

    def __init__(self, terms: Mapping[Monomial, Fraction]):
        self.terms = {monomial: number for monomial, number in terms.items() if number}

    @classmethod
    def axis(cls, name: str) -> Formula:
        """The size of one axis."""
        return cls({(name,): Fraction(1)})

    def __add__(self, other: Formula | int) -> Formula:
        total = dict(self.terms)
        for monomial, number in _lift(other).terms.items():
            total[monomial] = total.get(monomial, Fraction(0)) + number
        return Formula(total)

    def __mul__(self, other: Formula | Fraction | int) -> Formula:
        total = Formula({})
        for monomial, number in _lift(other).terms.items():
            total += Formula({tuple(sorted(m + monomial)): n * number for m, n in self.terms.items()})
        return total

    def at(self, sizes: Mapping[str, int]) -> int:
        """The count at these sizes."""
        total = Fraction(0)
        for monomial, number in self.terms.items():
            for name in monomial:
                number *= sizes[name]
            total += number
        assert total.denominator == 1
        return int(total)

    def __str__(self) -> str:
        rest = dict(self.terms)
        parts = []
        for name in sorted({name for monomial in rest for name in monomial}, key=lambda name: (name != "hidden", name)):
            inside = {monomial: rest.pop(monomial) for monomial in list(rest) if name in monomial}
            if inside:
                parts.append(_factored(inside))
        return " + ".join([*parts, *(str(number) for number in rest.values())]) or "0"


def _lift(value: Formula | Fraction | int) -> Formula:
    return value if isinstance(value, Formula) else Formula({(): Fraction(value)})


def _factored(terms: Mapping[Monomial, Fraction]) -> str:
    """The terms with their greatest common factor before a bracket: 3·hidden·(input + 1)/2."""
    common, *others = map(list, terms)
    for monomial in others:
        common = [name for name in dict.fromkeys(common) for _ in range(min(common.count(name), monomial.count(name)))]
    content = Fraction(
        gcd(*(number.numerator for number in terms.values())), lcm(*(number.denominator for number in terms.values()))
    )
    inside = [(_without(monomial, common), number / content) for monomial, number in terms.items()]
    inside.sort(key=lambda term: (-len(term[0]), [(name != "input", name != "hidden") for name in term[0]]))
    bracket = "".join(
        f"{(' + ' if number > 0 else ' - ') if place else ''}{_monomial(abs(number), monomial)}"
        for place, (monomial, number) in enumerate(inside)
    )
    whole = _monomial(Fraction(content.numerator), common)
    over = f"/{content.denominator}" if content.denominator > 1 else ""
    return f"{whole}·({bracket}){over}" if len(terms) > 1 else f"{whole}{over}"


def _without(monomial: Monomial, common: Iterable[str]) -> Monomial:
    left = list(monomial)
    for name in common:
        left.remove(name)
    return tuple(left)


def _monomial(number: Fraction, names: Iterable[str]) -> str:
    names = list(names)
    powers = [name + {1: "", 2: "²"}.get(names.count(name), f"^{names.count(name)}") for name in dict.fromkeys(names)]
    return "·".join([str(number), *powers] if number != 1 or not powers else powers)


# Structure -> its free entries, given the formulas of its two sizes.
ENTRIES: dict[str, Callable[[Structure, Formula, Formula], Formula]] = {
    "dense": lambda structure, out, into: out * into,
    "diagonal": lambda structure, out, into: out,
    "block_diagonal": lambda structure, out, into: out * into * Fraction(1, structure.number()),
    "block_triangular": lambda structure, out, into: (
        out * out * Fraction(len(structure.periods()) + 1, 2 * len(structure.periods()))
    ),
    "antisymmetric": lambda structure, out, into: out * (out + -1) * Fraction(1, 2),
    "low_rank": lambda structure, out, into: (out + into) * structure.number(),
}


_MOVES = ("raw", "repeat", "spread")


def group_formula(group: Group) -> Formula:
    """The number of entries that one stacked parameter stores."""
    axes = [Formula.axis(name) for name in group.shape]
    if len(axes) == 2:
        return ENTRIES[group.structure.name](group.structure, *axes) * len(group.names)
    return (axes[0] if axes else _lift(1)) * len(group.names)


def parameter_formula(plan: Plan) -> Formula:
    """The number of parameters of a cell, structured maps counted as what they store."""
    total = Formula({})
    for group in plan.groups:
        total += group_formula(group)
    return total


def flop_formula(plan: Plan) -> Formula:
    """The operations of one step: two for each entry of a map that is multiplied, else one for each unit.

    What depends on no sequence and no state is computed once a call and not counted, nor is what only moves units. All
    modules of a clock are taken as due.
    """
    total = Formula({})
    for node in (*plan.hoisted, *plan.step_nodes):
        if node.op == "product":
            structure = node.args[0]["structure"]
            entries = ENTRIES[structure.name](structure, *(Formula.axis(name) for name in node.args[0].shape))
            total += entries * (4 if structure.name == "antisymmetric" else 2)  # each entry stands twice in the map
        elif node.op not in _MOVES:
            axes = [axis for each in (node, *node.args) for axis in each.shape[:1]]
            total += Formula.axis(axes[0]) if axes else 1
    return total


def unit_of(program: Program) -> int:
    """What divides the sizes of all axes when every structure, repeat and clock of a program fits."""
    divisors = list(program.axes.values())
    for node in program.nodes:
        if node.op == "tick":
            divisors.append(len(node["periods"]))
        elif node.op == "parameter" and len(node.shape) == 2:
            divisors += [a if isinstance(a, int) else len(a) for a in node["structure"].arguments]
    return lcm(*divisors)


def typical_plan(program: Program) -> Plan:
    """The plan at sizes that show everything: the axes differ, and every structure, repeat and clock fits."""
    unit = unit_of(program)
    try:
        return make_plan(bind(program, {**program.axes, "input": 3 * unit, "hidden": 2 * unit}))
    except ShapeError:  # a square structure on an input map: the cell needs equal sizes
        return make_plan(bind(program, {**program.axes, "input": 2 * unit, "hidden": 2 * unit}))


def summary(program: Program) -> str:
    """States, parameters with what each map is applied to and when, and stages, one a line."""
    plan = typical_plan(program)
    operands = _operands(plan.origin)
    when = dict.fromkeys(operands, "over all time")
    for number, stage in enumerate(plan.stages, 1):
        when |= {node.symbol: f"stage {number}" for product in stage.products for node in product.maps}
    rows = []
    for group in plan.groups:
        symbols = [f"{group.family}.{name}" for name in group.names]
        operand = f" @ {operands[symbols[0]]}" if symbols[0] in operands else ""
        stages = dict.fromkeys(when[symbol] for symbol in symbols if symbol in when)
        written = f"{group.family}[{', '.join(group.names)}]{operand}"
        rows.append((written, str(group_formula(group)), ", ".join(stages)))
    widths = [max([0, *(len(row[column]) for row in rows)]) for column in (0, 1)]
    states = ", ".join(f"{name} ({', '.join(shape) or 'a number'})" for name, shape in program.states)
    lines = [f"states      {states}", f"parameters  {parameter_formula(plan)}"]
    lines += [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    lines.append(f"stages      {len(plan.stages)}")
    if plan.delays:
        lines.append(f"delays      {', '.join(plan.delays)}")
    if plan.linear:
        lines.append(f"linear      in {', '.join(plan.linear)}")
    return "\n".join(lines)


def _operands(program: Program) -> dict[str, str]:
    """Symbol of a map -> what it is applied to, as the equations write it."""
    found: dict[str, str] = {}
    scope = Scope.of(program)
    for name, node in [*program.equations, *(("", node) for node in program.results)]:
        for product in reachable([node]):
            if product.op == "product" and product.args[0].symbol not in found:
                found[product.args[0].symbol] = _operand(product.args[1], scope)
        if name:
            scope.bind(name, node)
    return found


def _operand(node: Node, scope: Scope) -> str:
    try:
        text = expression(node, scope)
    except Unnamed:
        return "…"
    compound = scope.name(node) is None and (node.op in INFIX or node.op == "neg")
    return f"({text})" if compound else text
