"""A generator of well-formed cells as text, for hypothesis: every operation, map and structure, one to four states.

Values stay of ordinary size (logarithms, roots and quotients are kept from their poles), so that backends can be held
against each other on them. At sizes divisible by six every structure and `repeat` fits.
"""

from __future__ import annotations

from hypothesis import strategies as st

BOUNDED = ("sigmoid", "tanh", "relu", "abs", "softplus", "hard_sigmoid", "silu")
OVER_UNITS = ("layer_norm", "softmax", "cumsum", "cumax")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
STRUCTURES = ("diagonal()", "antisymmetric()", "low_rank(2)", "block_diagonal(2)", "block_triangular((1, 2, 4))")
NAMES = ("a", "q", "r", "v")
NUMBERS = ("0", "1", "2", "0.5", "-1", "-0.25", "1e-3", "3.25", "1 / size()")
TO_A_NUMBER = ("mean", "sum")


class _Writer:
    """Writes one cell; each symbol gets a name of its own, so that none is used at two shapes."""

    def __init__(self, draw: st.DrawFn):
        self.draw = draw
        self.states = ("h", "c", "n", "m")[: draw(st.integers(1, 4))]
        self.below = draw(st.booleans())
        self.interval = draw(st.booleans())
        self.chunk = draw(st.booleans())
        self.level = draw(st.booleans())  # a state of one number
        self.short = self.chunk and draw(st.booleans())  # a state on the shorter axis
        self.alpha = draw(st.booleans())
        self.vectors = [*self.states, *(["below"] if self.below else [])]
        self.scalars = [*(["dt"] if self.interval else []), *(["alpha"] if self.alpha else [])]
        self.scalars += ["level"] if self.level else []
        self.structures: dict[str, str] = {}
        self.axes: dict[str, str] = {}
        self.symbols = 0

    def choose(self, options: tuple[str, ...] | list[str]) -> str:
        return self.draw(st.sampled_from(options))

    def symbol(self, family: str) -> str:
        self.symbols += 1
        subscript = self.choose(["", "", "[0]", "[1]"])
        return f"{family}.m{self.symbols}{subscript}"

    def number(self) -> str:
        kind = self.draw(st.integers(0, 3))
        if kind == 0 and self.scalars:
            return self.choose(self.scalars)
        if kind == 1:
            return self.symbol("s")
        if kind == 2 and self.scalars:
            return f"tanh({self.choose(self.scalars)} * {self.choose(NUMBERS)})"
        return self.choose(NUMBERS)

    def recurrent(self, depth: int) -> str:
        """A product with a map of the units."""
        symbol = self.symbol("U")
        if self.draw(st.integers(0, 2)) == 0:
            self.structures[symbol] = self.choose(STRUCTURES)
        return f"{symbol} @ ({self.vector(depth - 1)})"

    def chunked(self, depth: int) -> str:
        """Units of a shorter axis, written out again to all."""
        symbol = self.symbol("V")
        self.axes[symbol] = "chunk"
        inner = self.choose(["tanh", "softmax", "cumax", "sigmoid"])
        return f"repeat({inner}({symbol} @ ({self.vector(depth - 1)})))"

    def inner(self, depth: int) -> str:
        return self.vector(depth - 1)

    def vector(self, depth: int) -> str:
        """An expression over the units."""
        if depth <= 0:
            return self.choose(self.vectors)
        kind = self.draw(st.integers(0, 18))
        if kind == 0:
            symbol = self.symbol("W")
            if self.draw(st.integers(0, 3)) == 0:
                self.structures[symbol] = "low_rank(2)"
            return f"{symbol} @ x"
        if kind == 1:
            return self.recurrent(depth)
        if kind == 2:
            return f"{self.symbol('V')} @ (x * {self.number()})"
        if kind == 3:
            return f"{self.choose(BOUNDED)}({self.inner(depth)})"
        if kind == 4:
            return f"{self.choose(OVER_UNITS)}({self.inner(depth)})"
        if kind == 5:
            return f"({self.inner(depth)}) {self.choose(['+', '-', '*'])} ({self.inner(depth)})"
        if kind == 6:
            return f"({self.inner(depth)}) / (1 + abs({self.inner(depth)}))"
        if kind == 7:
            other = self.number() if self.draw(st.booleans()) else self.inner(depth)
            return f"{self.choose(['minimum', 'maximum'])}({self.inner(depth)}, {other})"
        if kind == 8:
            condition = f"({self.inner(depth)}) {self.choose(COMPARISONS)} {self.number()}"
            return f"where({condition}, {self.inner(depth)}, {self.number()})"
        if kind == 9:
            return f"exp(minimum({self.inner(depth)}, 1))"
        if kind == 10:
            return f"log(1.5 + abs({self.inner(depth)}))"
        if kind == 11:
            return f"sqrt(1 + abs({self.inner(depth)}))"
        if kind == 12:
            return f"{self.symbol(self.choose(['b', 'p']))} {self.choose(['+', '*', '-'])} ({self.inner(depth)})"
        if kind == 13:
            return f"-({self.inner(depth)})"
        if kind == 14:
            return f"({self.number()}) * ({self.inner(depth)}) - {self.number()}"
        if kind == 15:
            return f"tick((1, 2, 3)) * ({self.inner(depth)})"
        if kind == 16:
            return self.chunked(depth) if self.chunk else "raw(x)"
        if kind == 17:
            return f"({self.inner(depth)}) - tanh({self.choose(TO_A_NUMBER)}({self.inner(depth)}))"
        return f"({self.inner(depth)}) - ({self.inner(depth)})"

    def text(self) -> str:
        lines = ["q = W.first @ x"]
        self.vectors.append("q")
        for _ in range(self.draw(st.integers(1, 5))):
            name = self.choose([*NAMES, *self.states])
            lines.append(f"{name} = {self.vector(self.draw(st.integers(1, 3)))}")
            if name not in self.vectors:
                self.vectors.append(name)
        if self.draw(st.booleans()):
            lines.append(f"for k in range({self.draw(st.integers(1, 3))}):")
            lines.append("    v = tanh(U.loop[k] @ q + b.loop[k])")
            lines.append("    q = q + v")
            self.vectors.append("v")
        for used in (*(["below"] if self.below else []), *(f"{name} * 0.5" for name in self.scalars)):
            lines.append(f"q = q + {used}")
        if self.chunk:
            self.axes["V.spread"] = "chunk"
            lines.append("q = q * repeat(sigmoid(V.spread @ q))")
        if self.short:
            self.axes["V.gathered"] = "chunk"
            lines += ["q = q + repeat(short)", "short_next = tanh(V.gathered @ q) - 0.5 * short"]
        if self.level:
            lines.append(f"level_next = 0.5 * level + tanh({self.number()})")
        lines += [f"{name}_old = {name}" for name in self.states]
        lines += [f"{name}_next = tanh({self.vector(2)}) + 0.5 * {name}_old * q" for name in self.states]
        body = "\n".join(f"    {line}" for line in [*self._used_states(), *lines])
        return f"{self._decorator()}\ndef made({self._signature()}):\n{body}\n    return {self._returned()}\n"

    def _used_states(self) -> list[str]:
        # Names may be given to other values below, so each state is read first.
        return [f"{name}_read = 0.5 * {name}" for name in self.states]

    def _returned(self) -> str:
        more = [*(["level_next"] if self.level else []), *(["short_next"] if self.short else [])]
        return ", ".join([*(f"{name}_next + {name}_read" for name in self.states), *more])

    def _signature(self) -> str:
        parts = ["x", *self.states]
        parts += ["level: State[()]"] if self.level else []
        parts += ["short: State['chunk']"] if self.short else []
        parts += ["below: Input['hidden']"] if self.below else []
        parts += ["dt: Input[()]"] if self.interval else []
        keywords = [*(["chunk=3"] if self.chunk else []), *(["alpha=0.75"] if self.alpha else [])]
        return ", ".join([*parts, *(["*", *keywords] if keywords else [])])

    def _decorator(self) -> str:
        options = ["source='made at random'"]
        if self.draw(st.booleans()):
            options.append(f"initial={{{self.choose(self.states)!r}: 0.5}}")
        if self.draw(st.booleans()):
            recurrent = any(symbol[0] == "U" for symbol in self.structures)
            options.append("init={'W.first': 'orthogonal', 'U': 0.25}" if recurrent else "init={'W': 0.5}")
        if self.axes:
            options.append(f"axes={self.axes!r}")
        if self.structures:
            inside = ", ".join(f"{symbol!r}: {structure}" for symbol, structure in self.structures.items())
            options.append(f"structure={{{inside}}}")
        return f"@cell({', '.join(options)})"


@st.composite
def cell_texts(draw: st.DrawFn) -> str:
    """The text of a well-formed cell called `made`."""
    return _Writer(draw).text()
