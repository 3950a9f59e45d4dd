"""Kernels on torch's own OpenMP team: threads of ours would fight its spinning workers for the cores."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from llvmlite import ir

from unrolled.backends.llvm.compiler import compiled, module_for
from unrolled.backends.llvm.machine import Machine, host

VOID, POINTER, INTEGER, WORD = ir.VoidType(), ir.PointerType(), ir.IntType(64), ir.IntType(32)
KERNEL = ir.FunctionType(VOID, [POINTER, INTEGER, INTEGER])

# Where torch's symbols are looked up, as its own library was linked: None is the whole process, in which a runtime that
# was loaded first takes the place of torch's. LLVM's libomp, which torch has on macOS, answers to the GNU names too.
SCOPES: dict[str, tuple[str | None, ...]] = {"linux": (None, "libtorch_cpu.so"), "darwin": ("libtorch_cpu.dylib",)}
ENTRIES = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")

# Results and operands: FTZ and DAZ of MXCSR; FZ of FPCR, which is both.
X86_FLUSH, AARCH64_FLUSH = 0x8040, 1 << 24
AARCH64_FULL = 15

# 24 us where a pause takes 12 ns, 90 us on older processors: longer than the members of a team are apart when they have
# the cores to themselves. Beyond, sleeping costs 55 us, but gives way to another process; sched_yield gives it a whole
# slice, and a step of 10 us then takes 600 us instead of 80 as soon as one other process is busy.
SPINS = 2000


def run(function: int, argument: int, threads: int) -> None:
    """Calls the kernel `function(argument, thread, team)` on up to `threads` threads, without the interpreter's lock.

    The team may be smaller than asked, and is one in a forked child or without a runtime. Denormal numbers are zero
    inside.
    """
    _launch(function, argument, threads)


def declare_barrier(module: ir.Module, machine: Machine) -> ir.Function:
    """The internal function `barrier(counter, target)`: counts its caller, then waits until the count is `target`.

    The counter only grows: in a team of n the k-th barrier waits for k * n. It is a 64-bit integer on a cache line of
    its own, zero at the launch.
    """
    if (known := module.globals.get("barrier")) is not None:
        return known
    barrier = ir.Function(module, ir.FunctionType(VOID, [POINTER, INTEGER]), "barrier")
    barrier.linkage = "internal"
    barrier.attributes.add("noinline")
    sleep = ir.Function(module, ir.FunctionType(WORD, [WORD]), "usleep")
    # Called through a table of addresses: LLVM's loader reserves no room for the stub of a plain call on x86.
    sleep.attributes.add("nonlazybind")
    counter, target = barrier.args

    entry, wait, late, spin, rest = (barrier.append_basic_block(name) for name in ("", "wait", "late", "spin", "rest"))
    done = barrier.append_basic_block("done")
    build = ir.IRBuilder(entry)
    build.atomic_rmw("add", counter, INTEGER(1), "acq_rel")
    build.branch(wait)

    build.position_at_end(wait)
    left = build.phi(INTEGER)
    left.add_incoming(INTEGER(SPINS), entry)
    arrived = build.load_atomic(counter, "acquire", 8, typ=INTEGER)
    build.cbranch(build.icmp_signed(">=", arrived, target), done, late)

    build.position_at_end(late)
    build.cbranch(build.icmp_signed(">", left, INTEGER(0)), spin, rest)

    build.position_at_end(spin)
    if machine.x86:
        build.call(ir.Function(module, ir.FunctionType(VOID, []), "llvm.x86.sse2.pause"), [])
    else:
        # The hint "yield" does nothing on most processors.
        build.call(ir.Function(module, ir.FunctionType(VOID, [WORD]), "llvm.aarch64.isb"), [WORD(AARCH64_FULL)])
    left.add_incoming(build.sub(left, INTEGER(1)), spin)
    build.branch(wait)

    build.position_at_end(rest)
    build.call(sleep, [WORD(1)])
    left.add_incoming(left, rest)
    build.branch(wait)

    build.position_at_end(done)
    build.ret_void()
    return barrier


def _first(function: int, argument: int, threads: int) -> None:
    """The launch that finds the runtime and puts the quick launch in its place, unless torch may still be loaded."""
    global _launch
    quick = partial(_launcher(), _runtime())
    if "torch" in sys.modules:
        _launch = quick
    quick(function, argument, threads)


_launch: Callable[[int, int, int], None] = _first
_forked = False


def _stay_serial() -> None:
    """In a forked child: the runtime believes in threads that are not there, and would wait for them."""
    global _launch, _forked
    _launch, _forked = _first, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stay_serial)


# The addresses of ENTRIES: the launch gets the table's own address, an integer being what ctypes passes fastest.
_table = (ctypes.c_void_p * len(ENTRIES))()


def _runtime() -> int | None:
    """The address of the table for the runtime that torch uses; None where a kernel has to run on one thread."""
    torch = sys.modules.get("torch")
    if _forked or torch is None:
        return None
    folder = Path(torch.__file__ or "").parent / "lib"
    for scope in SCOPES.get(sys.platform, ()):
        try:
            library = ctypes.CDLL(scope and str(folder / scope), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            _table[:] = [ctypes.cast(getattr(library, entry), ctypes.c_void_p).value for entry in ENTRIES]
        except (OSError, AttributeError):
            continue
        return ctypes.addressof(_table)
    return None


@cache
def _launcher() -> Callable[..., None]:
    """The function `launch(runtime, kernel, argument, threads)` of the generated module."""
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return prototype(compiled("team", "team", lambda: _module(host())).address("launch"))


def _module(machine: Machine) -> ir.Module:
    module = module_for("team", machine)
    guarded = define_guarded(module, machine)
    region = _region(module, guarded)
    launch = ir.Function(module, ir.FunctionType(VOID, [POINTER, POINTER, POINTER, INTEGER]), "launch")
    runtime, kernel, argument, threads = launch.args
    build = ir.IRBuilder(launch.append_basic_block())
    block = build.alloca(POINTER, 3)
    several = build.icmp_signed(">", threads, INTEGER(1))
    with build.if_else(build.and_(several, build.icmp_unsigned("!=", runtime, POINTER(None)))) as (team, single):
        with team:
            for index, value in enumerate((runtime, kernel, argument)):
                build.store(value, _element(build, block, index))
            parallel = ir.FunctionType(VOID, [POINTER, POINTER, WORD, WORD])
            build.call(_entry(build, runtime, 0, parallel), [region, block, build.trunc(threads, WORD), WORD(0)])
        with single:
            build.call(guarded, [kernel, argument, INTEGER(0), INTEGER(1)])
    build.ret_void()
    return module


def _region(module: ir.Module, guarded: ir.Function) -> ir.Function:
    """What each thread of the team is given: the kernel, with the thread's number and the size that the team has."""
    region = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "region")
    region.linkage = "internal"
    build = ir.IRBuilder(region.append_basic_block())
    (block,) = region.args
    runtime, kernel, argument = (build.load(_element(build, block, index), typ=POINTER) for index in range(3))
    question = ir.FunctionType(WORD, [])
    thread, team = (build.zext(build.call(_entry(build, runtime, index, question), []), INTEGER) for index in (1, 2))
    build.call(guarded, [kernel, argument, thread, team])
    build.ret_void()
    return region


def define_guarded(module: ir.Module, machine: Machine) -> ir.Function:
    """The internal function `guarded(kernel, argument, thread, team)`, in which denormal numbers are zero: it sets the
    register for that, runs the kernel, and restores it.
    """
    guarded = ir.Function(module, ir.FunctionType(VOID, [KERNEL.as_pointer(), *KERNEL.args]), "guarded")
    guarded.linkage = "internal"
    kernel, *arguments = guarded.args
    build = ir.IRBuilder(guarded.append_basic_block())
    if machine.x86:
        address = ir.FunctionType(VOID, [POINTER])
        save = ir.Function(module, address, "llvm.x86.sse.stmxcsr")
        restore = ir.Function(module, address, "llvm.x86.sse.ldmxcsr")
        before, inside = build.alloca(WORD), build.alloca(WORD)
        build.call(save, [before])
        build.store(build.or_(build.load(before), WORD(X86_FLUSH)), inside)
        build.call(restore, [inside])
    else:
        restore = ir.Function(module, ir.FunctionType(VOID, [INTEGER]), "llvm.aarch64.set.fpcr")
        before = build.call(ir.Function(module, ir.FunctionType(INTEGER, []), "llvm.aarch64.get.fpcr"), [])
        build.call(restore, [build.or_(before, INTEGER(AARCH64_FLUSH))])
    build.call(kernel, arguments)
    build.call(restore, [before])
    build.ret_void()
    return guarded


def _element(build: ir.IRBuilder, array: ir.Value, index: int) -> ir.Value:
    return build.gep(array, [INTEGER(index)], source_etype=POINTER)


def _entry(build: ir.IRBuilder, runtime: ir.Value, index: int, signature: ir.FunctionType) -> ir.Value:
    return build.load(_element(build, runtime, index), typ=signature.as_pointer())
