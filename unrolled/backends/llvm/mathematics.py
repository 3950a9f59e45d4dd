"""The functions of the gates on vectors of float or double, written as LLVM instructions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

# Past this the sigmoid is 1 in either type.
_SATURATED = 44.0


@dataclass(frozen=True)
class _Format:
    """What a floating point type is made of, and the polynomials that are as accurate as it is.

    element        LLVM's type of one number
    integer        the integer type of the same width
    mantissa       the bits behind the leading one
    bias           what is added to an exponent before it is stored
    ln2            the logarithm of two as a pair of numbers, whose sum is more accurate than the type
    exponential    (exp(r) - 1) / r for |r| up to ln(2) / 2, lowest power first, so that exp is accurate
    growth         the same, so that exp(r) - 1 is accurate
    logarithm      log((1 + z) / (1 - z)) / z in powers of the square of z, for |z| up to 1/3
    """

    element: ir.Type
    integer: ir.IntType
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    exponential: Sequence[float]
    growth: Sequence[float]
    logarithm: Sequence[float]


_SINGLE_LN2 = 0.693147182464599609375
_SINGLE = _Format(
    ir.FloatType(),
    ir.IntType(32),
    mantissa=23,
    bias=127,
    ln2=(_SINGLE_LN2, math.log(2) - _SINGLE_LN2),
    # Minimax polynomials by Remez' exchange, rounded to float32: the relative errors of exp(r) and of exp(r) - 1 are
    # at most 9.3e-8 and 2.3e-8. One more term in the first would cost each sigmoid an instruction.
    exponential=(0.9999997019767761, 0.4999914765357971, 0.1666763871908188, 0.04189816117286682, 0.008290272206068039),
    growth=(
        1.0,
        0.4999999701976776,
        0.16666506230831146,
        0.041667137295007706,
        0.008369104005396366,
        0.0013888872927054763,
    ),
    logarithm=[2 / (2 * k + 1) for k in range(7)],
)
# Taylor's series: in float64 the shortest polynomials are not worth their digits here.
_DOUBLE_GROWTH = [1 / math.factorial(k + 1) for k in range(12)]
_DOUBLE = _Format(
    ir.DoubleType(),
    ir.IntType(64),
    mantissa=52,
    bias=1023,
    ln2=(math.log(2), 2.3190468138462996e-17),
    exponential=_DOUBLE_GROWTH,
    growth=_DOUBLE_GROWTH,
    logarithm=[2 / (2 * k + 1) for k in range(15)],
)
_FORMATS = {form.element: form for form in (_SINGLE, _DOUBLE)}


class Mathematics:
    """Elementary functions on vectors, appended to a builder's block; a comparison is 1.0 or 0.0."""

    # They divide: with AVX-512 the estimate of a reciprocal and its Newton steps took as long (for the gates of an
    # LSTM 19.5 ns a vector of float32, against 19.0), so nothing here depends on the processor.

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def constant(self, like: ir.Value, value: float) -> ir.Value:
        """The number in every lane of a vector of the other's type."""
        return _splat(like.type, ir.Constant(like.type.element, value))

    def neg(self, a: ir.Value) -> ir.Value:
        """Minus a."""
        return self.builder.fneg(a)

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The sum."""
        return self.builder.fadd(a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The difference."""
        return self.builder.fsub(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The product."""
        return self.builder.fmul(a, b)

    def div(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The quotient."""
        return self.builder.fdiv(a, b)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """The product of the first two plus the third, rounded once."""
        return self._intrinsic("fma", a, b, c)

    def reciprocal(self, a: ir.Value) -> ir.Value:
        """One over a."""
        return self.div(self.constant(a, 1.0), a)

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The smaller one, or NaN if either is."""
        return self._intrinsic("minimum", a, b)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger one, or NaN if either is."""
        return self._intrinsic("maximum", a, b)

    def less(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Whether a < b."""
        return self._zero_one("<", a, b)

    def less_equal(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Whether a <= b."""
        return self._zero_one("<=", a, b)

    def equal(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Whether a = b."""
        return self._zero_one("==", a, b)

    def where(self, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        """The first value where the condition is not zero, else the second one."""
        chosen = self.builder.fcmp_unordered("!=", condition, self.constant(condition, 0.0))
        return self.builder.select(chosen, a, b)

    def relu(self, a: ir.Value) -> ir.Value:
        """The value where it is positive, else zero, and NaN where it is NaN."""
        return self._at_least(a, 0.0)

    def abs(self, a: ir.Value) -> ir.Value:
        """The absolute value."""
        return self._intrinsic("fabs", a)

    def sign(self, a: ir.Value) -> ir.Value:
        """One, minus one or zero, and zero for NaN as in torch."""
        zero = self.constant(a, 0.0)
        return self.sub(self.less(zero, a), self.less(a, zero))

    def sqrt(self, a: ir.Value) -> ir.Value:
        """The square root."""
        return self._intrinsic("sqrt", a)

    def exp(self, x: ir.Value) -> ir.Value:
        """The exponential function."""
        return self._exponential(x, _FORMATS[x.type.element].exponential)

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """The logistic function 1 / (1 + exp(-x))."""
        form = _FORMATS[x.type.element]
        # At the lower end the power is zero, and so is the sigmoid.
        x = self._at_most(self._at_least(x, -(form.bias + 0.25) * math.log(2)), _SATURATED)
        # exp(-x) = exp(-r) / power
        power, r = self._power_of_two(x, 1, form.bias)
        growth = self._polynomial(r, _scaled(form.exponential, -1))
        return self.div(power, self.fma(growth, r, self.add(power, self.constant(x, 1.0))))

    def tanh(self, x: ir.Value) -> ir.Value:
        """The hyperbolic tangent, odd to the last bit."""
        form = _FORMATS[x.type.element]
        one = self.constant(x, 1.0)
        a = self._at_most(self.abs(x), _SATURATED / 2)
        # exp(2 a) = exp(2 r) / power, and tanh(a) = (exp(2 r) - power) / (exp(2 r) + power). For small a the power is
        # one, and its difference to the other one exact.
        power, r = self._power_of_two(a, -2, form.bias, far=False)
        numerator = self.fma(self._polynomial(r, _scaled(form.growth, 2)), r, self.sub(one, power))
        denominator = self.fma(power, self.constant(x, 2.0), numerator)
        return self._intrinsic("copysign", self.div(numerator, denominator), x)

    def log(self, x: ir.Value) -> ir.Value:
        """The natural logarithm; of numbers too small for a full mantissa it is that of zero."""
        builder = self.builder
        form = _FORMATS[x.type.element]
        integers = ir.VectorType(form.integer, x.type.count)

        def integer(value: int) -> ir.Value:
            return _splat(integers, ir.Constant(form.integer, value))

        # x = 2^exponent m, with m from the root of a half to the root of two.
        root = int(math.sqrt(0.5) * 2 ** (form.mantissa + 1)) - 2**form.mantissa
        lowest = ((form.bias - 1) << form.mantissa) + root
        bits = builder.add(builder.bitcast(x, integers), integer((form.bias << form.mantissa) - lowest))
        exponent = builder.sitofp(builder.lshr(bits, integer(form.mantissa)), x.type)
        exponent = self.sub(exponent, self.constant(x, form.bias))
        rest = builder.add(builder.and_(bits, integer((1 << form.mantissa) - 1)), integer(lowest))
        m = builder.bitcast(rest, x.type)
        one = self.constant(x, 1.0)
        z = self.div(self.sub(m, one), self.add(m, one))
        series = self._polynomial(self.mul(z, z), form.logarithm)
        value = self.fma(exponent, self.constant(x, form.ln2[0]), self.mul(z, series))
        tiny = builder.fcmp_ordered("<", x, self.constant(x, 2.0 ** (1 - form.bias)))
        value = builder.select(tiny, self.constant(x, -math.inf), value)
        negative = builder.fcmp_ordered("<", x, self.constant(x, 0.0))
        value = builder.select(negative, self.constant(x, math.nan), value)
        finite = builder.fcmp_ordered("<", x, self.constant(x, math.inf))
        return builder.select(finite, value, x)

    def softplus(self, x: ir.Value) -> ir.Value:
        """The logarithm of 1 + exp(x)."""
        # max(x, 0) + log(1 + e) for e = exp(-|x|), which is (1 + z) / (1 - z) for z = e / (2 + e).
        form = _FORMATS[x.type.element]
        e = self._exponential(self.neg(self.abs(x)), form.growth)
        z = self.div(e, self.add(e, self.constant(x, 2.0)))
        return self.fma(z, self._polynomial(self.mul(z, z), form.logarithm), self.relu(x))

    def _exponential(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """The exponential function by these coefficients of (exp(r) - 1) / r."""
        form = _FORMATS[x.type.element]
        # Half the power: of the largest results the power itself would overflow. At the lower end it is zero.
        x = self._at_most(self._at_least(x, -(form.bias - 0.75) * math.log(2)), (form.bias + 1.25) * math.log(2))
        half, r = self._power_of_two(x, 1, form.bias - 1)
        factor = self.fma(self._polynomial(r, coefficients), r, self.constant(x, 1.0))
        return self.mul(self.add(factor, factor), half)

    def _power_of_two(self, x: ir.Value, rate: int, bias: int, far: bool = True) -> tuple[ir.Value, ir.Value]:
        """2^(n + bias - format's bias) and x - n ln(2) / rate, where n = rate x / ln(2), rounded; far: of any size."""
        form = _FORMATS[x.type.element]
        # A number of this size has its unit in its last bit: adding it rounds, and leaves the exponent there.
        shift = self.constant(x, 1.5 * 2.0**form.mantissa + bias)
        shifted = self.fma(x, self.constant(x, rate / math.log(2)), shift)
        n = self.sub(shifted, shift)
        for part in form.ln2[: 2 if far else 1]:
            x = self.fma(n, self.constant(x, -part / rate), x)
        integers = ir.VectorType(form.integer, x.type.count)
        places = _splat(integers, ir.Constant(form.integer, form.mantissa))
        return self.builder.bitcast(self.builder.shl(self.builder.bitcast(shifted, integers), places), x.type), x

    def _polynomial(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """The polynomial with these coefficients, lowest power first."""
        value = self.constant(x, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.fma(value, x, self.constant(x, coefficient))
        return value

    def _at_least(self, x: ir.Value, bound: float) -> ir.Value:
        """The bound where x is below, else x: so NaN stays."""
        limit = self.constant(x, bound)
        return self.builder.select(self.builder.fcmp_ordered("<", x, limit), limit, x)

    def _at_most(self, x: ir.Value, bound: float) -> ir.Value:
        """The bound where x is above, else x: so NaN stays."""
        limit = self.constant(x, bound)
        return self.builder.select(self.builder.fcmp_ordered(">", x, limit), limit, x)

    def _zero_one(self, comparison: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """One where the comparison holds, else zero."""
        holds = self.builder.fcmp_ordered(comparison, a, b)
        return self.builder.select(holds, self.constant(a, 1.0), self.constant(a, 0.0))

    def _intrinsic(self, name: str, *arguments: ir.Value) -> ir.Value:
        """LLVM's function of that name."""
        kind = arguments[0].type
        suffix = f"v{kind.count}f{_FORMATS[kind.element].integer.width}"
        signature = ir.FunctionType(kind, [kind] * len(arguments))
        function = self.builder.module.declare_intrinsic(f"llvm.{name}.{suffix}", fnty=signature)
        # Which of two zeros is the smaller one does not matter to torch either, and would cost instructions.
        return self.builder.call(function, arguments, fastmath=("nsz",) if name in ("minimum", "maximum") else ())


def _splat(kind: ir.VectorType, element: ir.Constant) -> ir.Value:
    """The vector constant with this number in every lane."""
    # The text names the number once: made as a vector, the constant would repeat it for every lane.
    value = ir.FormattedConstant(element.type, f"splat ({element.type} {element.get_reference()})")
    value.type = kind
    return value


def _scaled(coefficients: Sequence[float], scale: int) -> Sequence[float]:
    """The coefficients of (exp(scale r) - 1) / r."""
    return [coefficient * scale ** (k + 1) for k, coefficient in enumerate(coefficients)]
