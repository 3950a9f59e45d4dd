"""A plan for a reader: what `unrolled show --plan` prints.

A value goes by the name that its author gave it, else by its number: %12 in the step, &12 in the backward step. A state
before the step is h_before; d_h is the cotangent of h that comes into the reverse loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from unrolled.ir.backward import Contribution, Item
from unrolled.ir.graph import Node
from unrolled.ir.ops import Shape
from unrolled.ir.plan import Plan, Product
from unrolled.ir.show import Scope, expression
from unrolled.ir.structure import DENSE


def plan_text(plan: Plan) -> str:
    """Both directions of the plan."""
    return "\n".join([*_Forward(plan).lines(), "", *_Backward(plan).lines()]) + "\n"


class _Forward:
    def __init__(self, plan: Plan):
        self.plan = plan
        self.scope = Scope()
        for node in plan.program.nodes:
            if node.op in ("sequence", "row", "scalar"):
                self.scope.bind(node["name"], node)
            elif node.op == "state":
                self.scope.bind(f"{node['name']}_before", node)

    def lines(self) -> list[str]:
        plan, lines = self.plan, ["parameters"]
        for group in plan.groups:
            structure = "" if group.structure == DENSE else f"  {group.structure}"
            lines.append(f"  {group.family}.{group.key}  {_stacked(group.names, group.shape)}{structure}")
        if plan.delays:
            lines.append(f"delays  {', '.join(plan.delays)}")
        lines += self.section("once", (), plan.once)
        lines += self.section("over all time", plan.hoisted_products, plan.hoisted)
        lines += self.section("with the states", (), plan.prelude)
        for number, stage in enumerate(plan.stages, 1):
            lines += self.section(f"stage {number}", stage.products, (*stage.reductions, *stage.elementwise))
        lines.append(f"linear in {', '.join(plan.linear)}" if plan.linear else "not linear")
        return lines

    def section(self, title: str, products: Iterable[Product], nodes: Iterable[Node]) -> list[str]:
        rows = [self.product(product) for product in products]
        rows += [self.row(node) for node in nodes if node.op != "product"]
        return [title, *(f"  {row}" for row in rows)] if rows else []

    def row(self, node: Node) -> str:
        written = expression(node, self.scope, whole=True)
        return f"{self.bind(node)} = {written}"

    def product(self, product: Product) -> str:
        written = f"[{', '.join(node.symbol for node in product.maps)}] @ {expression(product.operand, self.scope)}"
        return f"{', '.join(self.bind(node) for node in product.outputs)} = {written}"

    def bind(self, node: Node) -> str:
        name = label(self.plan, node)
        self.scope.bind(name, node)
        return name


class _Backward:
    def __init__(self, plan: Plan):
        self.plan = plan
        self.scope = Scope()
        backward = plan.backward
        for node, original in backward.origin.items():
            if node.op in ("sequence", "row", "scalar"):
                self.scope.bind(node["name"], node)
            elif node.op == "state":
                self.scope.bind(f"{node['name']}_before", node)
            elif node.args:
                self.scope.bind(label(plan, original), node)
        for seed in backward.seeds.values():
            self.scope.bind(seed["name"], seed)

    def lines(self) -> list[str]:
        backward = self.plan.backward
        saved = [label(self.plan, original) for _, original in backward.saved]
        lines = [f"saved  {', '.join(saved) or 'nothing'}; states {', '.join(backward.kept_states) or 'none'}"]
        lines += self.section("before the loop", backward.before)
        for number, stage in enumerate(backward.loop):
            lines += self.section(f"reverse stage {number}" if number else "reverse loop", stage.items)
        lines += self.section("after it", backward.after)
        lines.append("cotangents")
        lines += [f"  d_{name}_before = {expression(node, self.scope)}" for name, node in backward.carried.items()]
        for leaf, node in backward.results.items():
            if leaf.op != "parameter":
                lines.append(f"  d_{leaf['name']} = {expression(node, self.scope)}")
        for group, parts in zip(self.plan.groups, backward.groups, strict=True):
            lines += [f"  d_{group.family}.{group.key} += {self.contribution(part)}" for part in parts]
        return lines

    def section(self, title: str, items: Iterable[Item]) -> list[str]:
        rows = [f"  {self.row(item)}" for item in items]
        return [title, *rows] if rows else []

    def contribution(self, part: Contribution) -> str:
        stacked = ", ".join("0" if node is None else expression(node, self.scope) for node in part.cotangents)
        return f"[{stacked}]" if part.operand is None else f"outer([{stacked}], {expression(part.operand, self.scope)})"

    def row(self, item: Item) -> str:
        if isinstance(item, Node):
            written, node = expression(item, self.scope, whole=True), item
        else:
            maps = ", ".join(symbol.symbol for symbol in item.maps)
            inside = ", ".join(expression(cotangent, self.scope) for cotangent in item.cotangents)
            rest = "".join(f" + {expression(term, self.scope)}" for term in item.rest)
            written, node = f"transpose([{maps}]) @ [{inside}]{rest}", item.node
        name = self.scope.name(node) if node in self.plan.backward.origin else None
        if name is None:
            name = f"&{node.index}"
            self.scope.bind(name, node)
        return f"{name} = {written}"


def label(plan: Plan, node: Node) -> str:
    """What a value of the step goes by."""
    return plan.names.get(node) or f"%{node.index}"


def _stacked(names: tuple[str, ...], shape: Shape) -> str:
    if not shape:
        return f"({len(names)})"
    first, *rest = shape
    return f"({' x '.join([f'{len(names)}·{first}' if len(names) > 1 else first, *rest])})"
