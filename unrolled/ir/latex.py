"""A program typeset: one aligned line an equation, in the project's letters or in those of the lecture notes."""

from __future__ import annotations

from collections.abc import Callable

from unrolled.errors import UsageError, did_you_mean
from unrolled.ir.graph import Node
from unrolled.ir.program import Program
from unrolled.ir.show import averaged, number

# Operation -> how it is written, given its arguments' text. {0} is put in brackets where it is compound.
ROWS: dict[str, str] = {
    "neg": "-{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": r"{0} \odot {1}",
    "div": r"\frac{{{0}}}{{{1}}}",
    "minimum": r"\min({0}, {1})",
    "maximum": r"\max({0}, {1})",
    "less": r"[{0} < {1}]",
    "less_equal": r"[{0} \le {1}]",
    "equal": r"[{0} = {1}]",
    "where": r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
    "relu": r"\mathrm{{relu}}({0})",
    "abs": r"\lvert {0} \rvert",
    "sign": r"\mathrm{{sign}}({0})",
    "sigmoid": r"\sigma({0})",
    "tanh": r"\tanh({0})",
    "exp": r"\exp({0})",
    "log": r"\log({0})",
    "sqrt": r"\sqrt{{{0}}}",
    "softplus": r"\mathrm{{softplus}}({0})",
    "layer_norm": r"\mathrm{{LN}}({0})",
    "inverse_deviation": r"\mathrm{{sd}}({0})^{{-1}}",
    "softmax": r"\mathrm{{softmax}}({0})",
    "cumsum": r"\mathrm{{cumsum}}({0})",
    "cumsum_reversed": r"\mathrm{{cumsum}}^\top({0})",
    "sum": r"\mathbf{{1}}^\top {0}",
    "spread": r"{0}\,\mathbf{{1}}",
    "repeat": r"\mathrm{{repeat}}({0})",
    "fold": r"\mathrm{{repeat}}^\top({0})",
    "raw": "{0}",
    "product": r"{0}\, {1}",
    "transposed_product": r"{0}^\top {1}",
    "outer": r"{0}\, {1}^\top",
}
# Binding strengths: a compound argument is bracketed where it binds less than the operation needs.
_STRENGTH = {
    **{"where": 0, "add": 1, "sub": 1, "neg": 1, "mul": 2},
    **{"product": 3, "transposed_product": 3, "outer": 3, "spread": 3, "sum": 3},
}
_NEEDS = {
    "sub": (1, 2),
    "add": (1, 1),
    "neg": (2,),
    "mul": (2, 2),
    "product": (4, 4),
    "transposed_product": (4, 4),
    "outer": (4, 4),
    "sum": (4,),
    "spread": (4,),
}
GREEK = {
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "chi",
    "psi",
    "omega",
}
_LECTURE_FAMILY = {"W": "U", "U": "W"}
_LECTURE_GATE = {"i": "u", "z": "u", "f": "f", "o": "o", "r": "r"}


def latex(program: Program, notation: str = "unrolled") -> str:
    """The equations as an aligned block.

    notation   "unrolled", or "lecture": U maps the input, W the state, gates are Γ, the memory C, the hidden state s
    Raises     UsageError for another notation
    """
    if notation not in NOTATIONS:
        raise UsageError(f"there is no notation {notation!r}.{did_you_mean(notation, NOTATIONS)}")
    return _Typesetter(program, NOTATIONS[notation]).block()


class _Plain:
    """The project's own letters."""

    def __init__(self, program: Program):
        self.program = program

    def value(self, name: str) -> str:
        return _word(name)

    def family(self, family: str) -> str:
        return family

    def subscript(self, name: str) -> str:
        return _word(name) if "_" in name else name


class _Lecture(_Plain):
    """The lecture notes' letters."""

    def value(self, name: str) -> str:
        if name in _LECTURE_GATE and self._is_gate(name):
            return rf"\Gamma_{{{_LECTURE_GATE[name]}}}"
        memory = "c" in dict(self.program.states)
        known = {"h": "s", "c": "C", "g": r"\tilde{C}" if memory else r"\tilde{s}"}
        return known.get(name) or _word(name)

    def family(self, family: str) -> str:
        return _LECTURE_FAMILY.get(family, family)

    def subscript(self, name: str) -> str:
        memory = "c" in dict(self.program.states)
        return {**_LECTURE_GATE, "g": "c" if memory else "s", "h": "s"}.get(name) or super().subscript(name)

    def _is_gate(self, name: str) -> bool:
        node = self.program.names.get(name)
        return node is not None and node.op in ("sigmoid", "sub")


NOTATIONS: dict[str, Callable[[Program], _Plain]] = {"unrolled": _Plain, "lecture": _Lecture}


class _Typesetter:
    def __init__(self, program: Program, letters: Callable[[Program], _Plain]):
        self.program = program
        self.letters = letters(program)
        self.named: dict[Node, str] = {}

    def block(self) -> str:
        program = self.program
        times: dict[str, int] = {}
        for name, _ in program.equations:
            times[name] = times.get(name, 0) + 1
        seen: dict[str, int] = {}
        lines = []
        for name, node in program.equations:
            seen[name] = seen.get(name, 0) + 1
            last = seen[name] == times[name]
            written = self._stamped(name, "t", None if last else seen[name])
            lines.append(f"{written} &= {self.text(node)}")
            self.named.setdefault(node, written)
        for (name, _), node in zip(program.states, program.results, strict=True):
            written = self._stamped(name, "t", None)
            if self.text(node) != written:
                lines.append(f"{written} &= {self.text(node)}")
        body = " \\\\\n".join(lines)
        return "\\begin{aligned}\n" + body + "\n\\end{aligned}"

    def _stamped(self, name: str, time: str, number: int | None) -> str:
        letter = self.letters.value(name)
        if number is not None:
            letter = rf"{{{letter}}}^{{({number})}}"
        base, _, subscript = letter.partition("_") if letter.startswith(r"\Gamma_") else (letter, "", "")
        return rf"{base}_{{{subscript.strip('{}')},{time}}}" if subscript else rf"{base}_{{{time}}}"

    def text(self, node: Node) -> str:
        return self._text(node)[0]

    def _text(self, node: Node) -> tuple[str, int]:
        if node in self.named:
            return self.named[node], 5
        if node.op in ("sequence", "state"):
            return self._stamped(node["name"], "t" if node.op == "sequence" else "t-1", None), 5
        if node.op in ("scalar", "row"):
            return _word(node["name"]), 5
        if node.op == "constant":
            return _number(node["value"]), 5 if node["value"] >= 0 else 1
        if node.op == "parameter":
            name, _, index = node["name"].partition("[")
            subscript = self.letters.subscript(name) + (f",{index[:-1].replace('][', ',')}" if index else "")
            return f"{self.letters.family(node['family'])}_{{{subscript}}}", 5
        if node.op == "tick":
            return rf"\mathbb{{1}}[t \bmod {_periods(node['periods'])} = 0]", 4
        if node.op == "size":
            return rf"n_{{\mathrm{{{node['axis']}}}}}", 5
        if node.op == "raw":
            return self._text(node.args[0])
        vector = averaged(node)
        if vector is not None:
            return rf"\mathrm{{mean}}({self.text(vector)})", 5
        needs = _NEEDS.get(node.op, (0,) * len(node.args))
        if node.op == "add" and _begins_with_minus(node.args[1]):
            needs = (1, 2)
        parts = []
        for arg, needed in zip(node.args, needs, strict=True):
            written, strength = self._text(arg)
            parts.append(rf"\left({written}\right)" if strength < needed else written)
        row = ROWS[node.op]
        if node.op == "mul" and any(not arg.shape for arg in node.args):
            row = r"{0}\, {1}"
        return row.format(*parts), _STRENGTH.get(node.op, 5)


def _number(value: float) -> str:
    """A constant, a power of ten as such."""
    mantissa, _, exponent = number(value).partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}".removeprefix(r"1 \cdot ") if exponent else mantissa


def _begins_with_minus(node: Node) -> bool:
    return node.op == "neg" or (node.op == "constant" and node["value"] < 0)


def _periods(periods: tuple[int, ...]) -> str:
    return rf"({', '.join(map(str, periods))})"


def _word(name: str) -> str:
    if name in GREEK:
        return "\\" + name
    base, _, rest = name.partition("_")
    word = base if len(base) == 1 else rf"\mathrm{{{base}}}"
    escaped = rest.replace("_", r"\_")
    return rf"{word}^{{\mathrm{{{escaped}}}}}" if rest else word
