"""From LLVM's text to machine code in this process, kept on the disk so that each kernel is compiled once.

The text should be what a hand would write: the passes only tidy it. They do not move code out of loops, vectorise,
unroll, or turn loops into calls of the C library; what is `alwaysinline` is inlined. A function that a kernel declares
is looked up in the process, and so is what stands for an operation that the processor lacks (`llvm.exp`, `frem`, a
long `llvm.memset`): do without where the system may not have it, because a name that is not found ends the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache, wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ParamSpec, TypeVar

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from unrolled.backends.llvm.machine import Machine, host
from unrolled.cache import cache_folder

log = logging.getLogger("unrolled.llvm")

Build = Callable[[], ir.Module]

# The folder of object files is kept below this size; those that were not used for longest go first.
KEPT_BYTES = 256 * 2**20

DIGEST_BYTES = hashlib.sha256().digest_size

_libraries: dict[tuple[str, Machine], Library] = {}
# One lock for all keys: llvmlite runs one call at a time anyway. Whoever forks waits for it, because a child that is
# born during a call of LLVM would find LLVM's own lock held for good.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


P = ParamSpec("P")
R = TypeVar("R")


def _alone(function: Callable[P, R]) -> Callable[P, R]:
    """A function that holds the lock until what it made of LLVM's objects is gone."""

    @wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        with _lock:
            return function(*args, **kwargs)

    return locked


class Library:
    """Machine code in this process, which stays as long as the process does."""

    def __init__(self, code: bytes, machine: Machine) -> None:
        # A target machine of its own: one that two engines share crashes. With the memory manager of llvmlite all
        # sections lie close together, as the small code model needs.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(machine), use_lmm=True)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    @_alone
    def address(self, symbol: str) -> int:
        """Where the function `symbol` starts."""
        found = int(self._engine.get_function_address(symbol))
        if not found:
            raise KeyError(f"the library has no function '{symbol}'")
        return found


def compiled(name: str, key: str, build: Build, machine: Machine | None = None) -> Library:
    """The library of the code that `key` identifies: of this process, else of the disk, else built anew.

    `name` is what the log calls it; `key` must say everything that `build` depends on but the machine and the sources.
    """
    machine = machine or host()
    library = _libraries.get((key, machine))
    return _loaded(name, key, build, machine) if library is None else library


@_alone
def _loaded(name: str, key: str, build: Build, machine: Machine) -> Library:
    if (known := _libraries.get((key, machine))) is not None:
        return known
    start = time.perf_counter()
    path = cache_folder() / "kernels" / f"{_identity(key, machine)}.o"
    code = _read(path)
    if code is not None:
        library = Library(code, machine)
        log.debug("%s: from the cache in %.1f ms", name, 1e3 * (time.perf_counter() - start))
    else:
        code = emit(build, machine, name)
        _write(path, code)
        library = Library(code, machine)
    _libraries[key, machine] = library
    return library


@_alone
def emit(build: Build, machine: Machine | None = None, name: str = "kernel") -> bytes:
    """The object file of the code that `build` makes, for any processor."""
    start = time.perf_counter()
    text = str(build())
    generated = time.perf_counter()
    target, module = _tidied(text, machine or host())
    tidied = time.perf_counter()
    code = bytes(target.emit_object(module))
    seconds = (generated - start, tidied - generated, time.perf_counter() - tidied)
    log.debug("%s: generated in %.3f s, optimised in %.3f s, compiled in %.3f s", name, *seconds)
    log.debug("%s: %d bytes of machine code from %d of text", name, len(code), len(text))
    return code


@_alone
def assembly(build: Build, machine: Machine | None = None) -> str:
    """The machine code as text."""
    target, module = _tidied(str(build()), machine or host())
    return str(target.emit_assembly(module))


@_alone
def optimised(build: Build, machine: Machine | None = None) -> str:
    """LLVM's text as code is generated from it."""
    return str(_tidied(str(build()), machine or host())[1])


def module_for(name: str, machine: Machine) -> ir.Module:
    """An empty module for the machine."""
    module = ir.Module(name)
    module.triple = machine.triple
    module.data_layout = _data_layout(machine)
    # Functions from outside are called through a table of addresses: LLVM's loader reserves no room for stubs on x86.
    module.add_named_metadata("llvm.module.flags", [ir.IntType(32)(7), "RtLibUseGOT", ir.IntType(32)(1)])
    return module


@cache
@_alone
def _data_layout(machine: Machine) -> str:
    return str(_target(machine).target_data)


def _target(machine: Machine) -> llvm.TargetMachine:
    _initialise(machine.triple == llvm.get_process_triple())
    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.feature_string, opt=3, reloc="pic", codemodel="small", jit=True
    )


@cache
def _initialise(native: bool) -> None:
    if native:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


def _tidied(text: str, machine: Machine) -> tuple[llvm.TargetMachine, llvm.ModuleRef]:
    """The module after the passes, with a target machine to generate code by."""
    target = _target(machine)
    # The context goes when the module goes, with all that it has made.
    module = llvm.parse_assembly(text, llvm.create_context())
    module.verify()
    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm."):
            function.add_function_attribute("nonlazybind")
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_module_pass_manager()
    # In machine code it makes no difference to O1 to O3, which take five to seven times as long.
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_post_order_function_attributes_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
    return target, module


def _identity(key: str, machine: Machine) -> str:
    parts = (key, machine.triple, machine.cpu, machine.feature_string, llvmlite.__version__, _generator())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _generator() -> str:
    """The version of the generator: a digest of the package's, for where no sources are, and of the sources that decide
    what code it makes.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(f"{_package_version()}\0".encode())
    for folder in (here, here.parents[1] / "ir"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _package_version() -> str:
    try:
        return version("unrolled")
    except PackageNotFoundError:
        return ""


def _read(path: Path) -> bytes | None:
    """The object file, unless it is not there or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(code).digest() != digest:
        log.debug("%s is damaged and made anew", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return code


def _write(path: Path, code: bytes) -> None:
    """Keep the object file; where that cannot be it is compiled again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name is its own, so that writers do not meet; the suffix is that of what `_trim` may remove.
        handle, unfinished = tempfile.mkstemp(".o", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(unfinished, path)
        except OSError:
            os.unlink(unfinished)
            raise
    except OSError as error:
        log.debug("%s cannot be kept: %s", path, error)
    with contextlib.suppress(OSError):
        _trim(path.parent)


def _trim(folder: Path) -> None:
    files = [(path, path.stat()) for path in folder.glob("*.o")]
    size = sum(state.st_size for _, state in files)
    for path, state in sorted(files, key=lambda file: file[1].st_mtime):
        if size <= KEPT_BYTES:
            return
        path.unlink(missing_ok=True)
        size -= state.st_size
