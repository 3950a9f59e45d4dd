"""What the generated code may use: the processor's instructions, and the number and width of its vectors."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache

from unrolled.errors import UsageError

# What LLVM's names for the generations of x86-64 stand for. The generation gives the timings; LLVM's name of the very
# processor may be wrong in a virtual machine, and may bring instructions that the system has switched off.
BASELINE = frozenset({"64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})
AVX2 = BASELINE | {"avx", "avx2", "bmi", "bmi2", "crc32", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf"}
AVX2 |= {"sse3", "sse4.1", "sse4.2", "ssse3", "xsave"}
AVX512 = AVX2 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
# The values of UNROLLED_LLVM_VECTOR, from narrow to wide.
VECTORS = ("generic", "avx2", "avx512")


@dataclass(frozen=True)
class Machine:
    """A processor to generate code for.

    triple        LLVM's name of architecture and system
    cpu           LLVM's name of the processor or its generation, which decides nothing but timings
    features      the instructions it has, by LLVM's names
    vector_bytes  the width of a vector
    registers     the number of vector registers
    """

    triple: str
    cpu: str
    features: frozenset[str]
    vector_bytes: int
    registers: int

    @property
    def x86(self) -> bool:
        """Whether x86 intrinsics may be used."""
        return self.triple.startswith("x86_64")

    @property
    def feature_string(self) -> str:
        """The features as LLVM reads them."""
        return ",".join(f"+{feature}" for feature in sorted(self.features))

    def lanes(self, double: bool) -> int:
        """The numbers of one vector."""
        return self.vector_bytes // (8 if double else 4)


def unavailable() -> str:
    """'' if code can be generated for this processor, else the reason why not."""
    return _unavailable() or _too_narrow(host())


@cache
def _unavailable() -> str:
    try:
        import llvmlite.binding as llvm
    except (ImportError, OSError) as error:
        return f"llvmlite cannot be loaded ({error})"
    if platform.machine() not in ("aarch64", "arm64", "x86_64", "AMD64"):
        return f"no kernels are generated for {platform.machine()}"
    try:
        llvm.check_jit_execution()
    except OSError as error:
        return f"the system lets no program make code ({error})"
    return ""


def _too_narrow(machine: Machine) -> str:
    """The reason why kernels are not worth it: multiply-add would call the C library for each number."""
    if not machine.x86 or {"avx2", "fma"} <= machine.features:
        return ""
    if {"avx2", "fma"} <= _found().features:
        return f"UNROLLED_LLVM_VECTOR={os.environ.get('UNROLLED_LLVM_VECTOR')} leaves no AVX2"
    return "the processor has no AVX2 and FMA"


def host() -> Machine:
    """The processor that this process runs on; the environment variable UNROLLED_LLVM_VECTOR narrows its vectors.

    Raises   UsageError for a value that there is not, or that the processor cannot do
    """
    vector = os.environ.get("UNROLLED_LLVM_VECTOR")
    return _narrowed(vector) if vector else _found()


@cache
def _found() -> Machine:
    import llvmlite.binding as llvm

    # LLVM counts AVX and AVX-512 only where the system saves their registers (it asks xgetbv).
    features = frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
    return make(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


@cache
def _narrowed(vector: str) -> Machine:
    machine = _found()
    if vector not in VECTORS:
        raise UsageError(f"UNROLLED_LLVM_VECTOR is '{vector}'; it can be {', '.join(VECTORS)}")
    most = _vector(machine.features)
    if VECTORS.index(vector) > VECTORS.index(most):
        raise UsageError(f"UNROLLED_LLVM_VECTOR is '{vector}', but this processor has no more than '{most}'")
    if not machine.x86 or vector == most:
        return machine
    if vector == "generic":
        return make(machine.triple, machine.cpu, BASELINE & machine.features)
    wide = ("avx512", "avx10", "amx")
    return make(machine.triple, machine.cpu, frozenset(f for f in machine.features if not f.startswith(wide)))


def _vector(features: frozenset[str]) -> str:
    return "avx512" if features >= AVX512 else "avx2" if "avx2" in features else "generic"


def make(triple: str, cpu: str, features: frozenset[str]) -> Machine:
    """The machine of these features; on x86-64 they decide the name `cpu` too."""
    if not triple.startswith("x86_64"):
        return Machine(triple, cpu, features, 16, 32)
    vector = _vector(features)
    if vector == "avx512":
        return Machine(triple, "x86-64-v4", features, 64, 32)
    cpu = "x86-64-v3" if features >= AVX2 else "x86-64"
    return Machine(triple, cpu, features, 32 if vector == "avx2" else 16, 16)
