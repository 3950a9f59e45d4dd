"""Every element-wise operation of the generated code has the value of the reference, NaN and infinities included."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from unrolled.backends.llvm.machine import Machine, unavailable
from unrolled.backends.operations import OPERATIONS as REFERENCE
from unrolled.ir.ops import OPERATIONS as ALL

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

import llvmlite.binding as llvm

from tests.backends.llvm.test_mathematics import Kernels, Target, source, target_machine, targets
from unrolled.backends.llvm.operations import OPERATIONS

IDENTITIES = {"spread", "raw"}
NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 7.0, -1e-3, 1e20, float("inf"), -float("inf"), float("nan")]


def arity(name: str) -> int:
    return ALL[name].arity


def arguments(name: str, dtype: torch.dtype) -> list[Tensor]:
    """All tuples of the numbers, for as many arguments as the operation has."""
    return list(torch.tensor(list(product(NUMBERS, repeat=arity(name))), dtype=dtype).T.contiguous())


@pytest.fixture(scope="module", params=targets(), ids=lambda target: target.name)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return Kernels(request.param, OPERATIONS, arity)


def test_the_table_has_a_row_for_every_elementwise_operation() -> None:
    assert set(OPERATIONS) == {name for name, row in ALL.items() if row.kind == "elementwise"}


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - IDENTITIES))
def test_an_operation_is_the_reference(kernels: Kernels, name: str) -> None:
    values = arguments(name, kernels.target.dtype)
    expected = REFERENCE[name](None, {})(*values)  # type: ignore[arg-type]
    tolerance = 3e-7 if kernels.target.dtype == torch.float32 else 1e-14
    torch.testing.assert_close(kernels(name, *values), expected, equal_nan=True, rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", ["neg", "abs", "relu", "tanh", "mul", "div", "where", "add", "sub"])
def test_zeros_have_the_sign_that_the_reference_gives_them(kernels: Kernels, name: str) -> None:
    values = arguments(name, kernels.target.dtype)
    expected = REFERENCE[name](None, {})(*values)  # type: ignore[arg-type]
    zero = expected == 0
    assert torch.equal(kernels(name, *values)[zero].signbit(), expected[zero].signbit())


@pytest.mark.parametrize("name", sorted(IDENTITIES))
def test_names_of_axes_change_no_value(kernels: Kernels, name: str) -> None:
    values = arguments(name, kernels.target.dtype)
    assert torch.equal(kernels(name, *values).nan_to_num(5), values[0].nan_to_num(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_operation_compiles_for_a_processor_of_another_kind(dtype: torch.dtype) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = Machine("aarch64-unknown-linux-gnu", "generic", frozenset({"neon"}), 16, 32)
    try:
        llvm.Target.from_triple(machine.triple)
    except RuntimeError as error:
        pytest.skip(f"this LLVM has no such target: {error}")
    module = llvm.parse_assembly(source(Target("", machine, dtype, 16), OPERATIONS, arity))
    assembly = target_machine(machine).emit_assembly(module)
    assert all(f"\n{name}:" in assembly for name in OPERATIONS)
    # A function of a library would be called where an instruction is missing.
    assert "\tbl\t" not in assembly
