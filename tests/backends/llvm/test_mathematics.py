"""The functions on vectors are accurate over their whole range, for every type, width and instruction set."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from unrolled.backends.llvm.machine import Machine, host, make, unavailable

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

import llvmlite.binding as llvm
from llvmlite import ir

from unrolled.backends.llvm.mathematics import Mathematics
from unrolled.backends.operations import OPERATIONS as REFERENCE

Function = Callable[..., ir.Value]
FUNCTIONS: dict[str, Function] = {
    "exp": Mathematics.exp,
    "log": Mathematics.log,
    "sigmoid": Mathematics.sigmoid,
    "softplus": Mathematics.softplus,
    "sqrt": Mathematics.sqrt,
    "tanh": Mathematics.tanh,
}
REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {name: REFERENCE[name](None, {}) for name in FUNCTIONS}  # type: ignore[arg-type]
TOLERANCE = {torch.float32: 3e-7, torch.float64: 2e-15}


@dataclass(frozen=True)
class Target:
    """A machine, and a vector type that need not be its widest."""

    name: str
    machine: Machine
    dtype: torch.dtype
    vector_bytes: int

    @property
    def vector(self) -> ir.VectorType:
        if self.dtype == torch.float64:
            return ir.VectorType(ir.DoubleType(), self.vector_bytes // 8)
        return ir.VectorType(ir.FloatType(), self.vector_bytes // 4)


def targets() -> Iterator[Target]:
    machines = {"host": host()}
    if "avx512f" in host().features:
        older = frozenset(name for name in host().features if not name.startswith(("avx512", "avx10", "amx")))
        machines["avx2"] = make(host().triple, "haswell", older)
    for name, machine in machines.items():
        for dtype in (torch.float32, torch.float64):
            for size in (64, 32, 16):
                if size <= machine.vector_bytes:
                    yield Target(f"{name}-{str(dtype)[6:]}-{size}", machine, dtype, size)


def source(target: Target, functions: dict[str, Function], arity: Callable[[str], int]) -> str:
    """A loop over vectors for each function."""
    module = ir.Module()
    module.triple = target.machine.triple
    integer, vector = ir.IntType(64), target.vector
    for name, function in functions.items():
        kind = ir.FunctionType(ir.VoidType(), [integer] + [ir.PointerType()] * (arity(name) + 1))
        kernel = ir.Function(module, kind, name)
        count, *inputs, output = kernel.args
        builder = ir.IRBuilder(kernel.append_basic_block())
        entry, loop, end = builder.block, kernel.append_basic_block(), kernel.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(integer)
        places = [builder.gep(pointer, [index], source_etype=vector) for pointer in (*inputs, output)]
        values = [builder.load(place, typ=vector, align=8) for place in places[:-1]]
        builder.store(function(Mathematics(builder), *values), places[-1], align=8)
        following = builder.add(index, integer(1))
        index.add_incoming(integer(0), entry)
        index.add_incoming(following, loop)
        builder.cbranch(builder.icmp_unsigned("<", following, count), loop, end)
        builder.position_at_end(end)
        builder.ret_void()
    return str(module)


class Kernels:
    """Functions compiled for a target, called with tensors."""

    def __init__(self, target: Target, functions: dict[str, Function], arity: Callable[[str], int]) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(source(target, functions, arity))
        module.verify()
        self.target = target
        self.engine = llvm.create_mcjit_compiler(module, target_machine(target.machine))
        self.engine.finalize_object()

    def __call__(self, name: str, *arguments: Tensor) -> Tensor:
        lanes = self.target.vector.count
        size = len(arguments[0])
        vectors = -(-size // lanes)
        padded = [torch.nn.functional.pad(argument, (0, vectors * lanes - size)) for argument in arguments]
        output = torch.empty_like(padded[0])
        types = [ctypes.c_int64] + [ctypes.c_void_p] * (len(padded) + 1)
        function = ctypes.CFUNCTYPE(None, *types)(self.engine.get_function_address(name))
        function(vectors, *(tensor.data_ptr() for tensor in (*padded, output)))
        return output[:size]


def target_machine(machine: Machine) -> Any:
    target = llvm.Target.from_triple(machine.triple)
    return target.create_target_machine(cpu=machine.cpu, features=machine.feature_string, opt=3)


@pytest.fixture(scope="module", params=targets(), ids=lambda target: target.name)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return Kernels(request.param, FUNCTIONS | {"reciprocal": Mathematics.reciprocal}, lambda _: 1)


def sweep(name: str, dtype: torch.dtype) -> Tensor:
    """Numbers of every size, and close ones where the function has its turns."""
    torch.manual_seed(0)
    largest = 88.7 if dtype == torch.float32 else 709.7
    magnitudes = 10 ** (torch.rand(100_000, dtype=torch.float64) * 32 - 30)
    parts = [torch.linspace(-30, 30, 100_001, dtype=torch.float64), magnitudes, -magnitudes]
    parts.append(torch.linspace(-largest, largest, 100_001, dtype=torch.float64))
    if name in ("log", "sqrt"):
        parts = [part.abs() for part in parts] + [torch.linspace(0.4, 2.6, 100_000, dtype=torch.float64)]
        parts += [magnitudes * 1e30, magnitudes * 1e-6]
    return torch.cat(parts).to(dtype)


def specials(dtype: torch.dtype) -> Tensor:
    infinity = float("inf")
    finite = [0.0, 1.0, 0.5, 1e-30, 17.0, 20.0, 44.0, 60.0, 100.0, 104.0, 709.0, 720.0, 750.0, 1e10, 1e30]
    positive = torch.tensor([*finite, infinity], dtype=dtype)
    return torch.cat((positive, -positive, torch.tensor([float("nan")], dtype=dtype)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_accurate_over_its_range(kernels: Kernels, name: str) -> None:
    dtype = kernels.target.dtype
    x = sweep(name, dtype)
    expected = REFERENCES[name](x.double())
    # Four times the smallest normal number: what is below may come out as zero.
    normal = (expected.abs() > 4 * torch.finfo(dtype).tiny) & (expected.abs() <= torch.finfo(dtype).max)
    error = (kernels(name, x).double()[normal] / expected[normal] - 1).abs()
    assert error.max() <= TOLERANCE[dtype], f"{error.max():.2e} at {x[normal][error.argmax()]}"
    small = kernels(name, x)[~normal & (expected.abs() <= 1)]
    assert bool((small.abs() <= 5 * torch.finfo(dtype).tiny).all())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_infinities_zeros_nan_and_saturation_are_those_of_torch(kernels: Kernels, name: str) -> None:
    dtype = kernels.target.dtype
    x = specials(dtype)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        kernels(name, x), REFERENCES[name](x), equal_nan=True, rtol=tolerance, atol=4 * torch.finfo(dtype).tiny
    )


def test_the_gates_have_exact_values_where_it_matters(kernels: Kernels) -> None:
    dtype = kernels.target.dtype
    infinity = float("inf")
    x = torch.tensor([0.0, -0.0, infinity, -infinity], dtype=dtype)
    assert kernels("sigmoid", x).tolist() == [0.5, 0.5, 1.0, 0.0]
    assert kernels("exp", x).tolist() == [1.0, 1.0, infinity, 0.0]
    assert kernels("tanh", x).tolist() == [0.0, 0.0, 1.0, -1.0]
    assert kernels("reciprocal", x).tolist() == [infinity, -infinity, 0.0, 0.0]
    assert torch.signbit(kernels("tanh", x)).tolist() == [False, True, False, True]
    assert 0 <= kernels("sigmoid", torch.full_like(x, -100.0))[0] <= 1e-38


def test_gates_stay_within_their_range_and_tanh_is_odd(kernels: Kernels) -> None:
    x = torch.cat((sweep("tanh", kernels.target.dtype), torch.linspace(5, 25, 200_000, dtype=kernels.target.dtype)))
    tanh, sigmoid = kernels("tanh", x), kernels("sigmoid", x)
    assert torch.equal(kernels("tanh", -x), -tanh)
    assert tanh.abs().max() == 1
    assert sigmoid.min() >= 0
    assert sigmoid.max() == 1
