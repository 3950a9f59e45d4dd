import ctypes
import logging
import os
import threading
import time

import pytest

pytest.importorskip("llvmlite")
from llvmlite import ir

from unrolled.backends.llvm import compiler
from unrolled.backends.llvm.machine import host, make, unavailable

pytestmark = pytest.mark.skipif(unavailable() != "", reason=unavailable())

ARM = make("aarch64-unknown-linux-gnu", "generic", frozenset({"neon", "fp-armv8"}))
INTEGER = ir.IntType(64)


class Builder:
    """Builds the function add(x) = x + amount, and counts how often it was asked to."""

    def __init__(self, amount=1, wait=0.0):
        self.amount, self.wait, self.calls = amount, wait, 0

    def __call__(self):
        self.calls += 1
        time.sleep(self.wait)
        module = compiler.module_for("add", host())
        function = ir.Function(module, ir.FunctionType(INTEGER, [INTEGER]), "add")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(builder.add(function.args[0], INTEGER(self.amount)))
        return module


def add(library, x):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.address("add"))(x)


def in_child(work):
    """The exit status of a forked child that does the work; a child that hangs is killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    for _ in range(1000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hung"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path))
    monkeypatch.setattr(compiler, "_libraries", {})
    return tmp_path / "kernels"


@pytest.fixture
def new_process(monkeypatch):
    return lambda: monkeypatch.setattr(compiler, "_libraries", {})


def test_generated_code_runs():
    assert add(compiler.compiled("add", "key", Builder(2)), 40) == 42


def test_what_is_compiled_is_built_once_in_a_process():
    build = Builder()
    assert compiler.compiled("add", "key", build) is compiler.compiled("add", "key", build)
    assert build.calls == 1


def test_what_is_on_the_disk_is_not_built(new_process):
    compiler.compiled("add", "key", Builder())
    new_process()
    build = Builder()
    assert add(compiler.compiled("add", "key", build), 1) == 2
    assert build.calls == 0


def test_another_key_is_other_code():
    assert add(compiler.compiled("add", "one", Builder(1)), 0) == 1
    assert add(compiler.compiled("add", "two", Builder(2)), 0) == 2


def test_another_machine_is_other_code(folder, monkeypatch):
    compiler.compiled("add", "key", Builder())
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", "generic")
    compiler.compiled("add", "key", Builder())
    assert len(list(folder.iterdir())) == (2 if host().x86 else 1)


def test_a_changed_generator_compiles_anew(new_process, monkeypatch):
    compiler.compiled("add", "key", Builder())
    new_process()
    monkeypatch.setattr(compiler, "_generator", lambda: "changed")
    build = Builder()
    compiler.compiled("add", "key", build)
    assert build.calls == 1


@pytest.fixture
def without_sources(tmp_path, monkeypatch):
    """The generator as it is installed where none of its sources are; what is given is called with each version."""
    place = tmp_path / "archive" / "unrolled" / "backends" / "llvm" / "compiler.pyc"

    def installed(version):
        monkeypatch.setattr(compiler, "__file__", str(place))
        monkeypatch.setattr(compiler, "version", version)
        compiler._generator.cache_clear()

    yield installed
    compiler._generator.cache_clear()


def test_an_upgrade_compiles_anew_where_there_are_no_sources(without_sources, new_process):
    calls = []
    for version in ("1.0", "1.0", "1.1"):
        without_sources(lambda _, version=version: version)
        new_process()
        build = Builder()
        compiler.compiled("add", "key", build)
        calls.append(build.calls)
    assert calls == [1, 0, 1]


def test_a_package_without_a_version_compiles_too(without_sources):
    def none(name):
        raise compiler.PackageNotFoundError(name)

    without_sources(none)
    assert add(compiler.compiled("add", "key", Builder(2)), 40) == 42


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:32],
        lambda content: content[:-1],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: b"x" * len(content),
    ],
    ids=["empty", "half-a-digest", "digest-alone", "truncated", "one-bit", "noise"],
)
def test_a_damaged_file_is_made_anew(folder, new_process, damage):
    compiler.compiled("add", "key", Builder())
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    new_process()
    build = Builder()
    assert add(compiler.compiled("add", "key", build), 1) == 2
    assert build.calls == 1
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_made_only_costs_time(tmp_path, monkeypatch, new_process):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "file"))
    build = Builder()
    for _ in range(2):
        new_process()
        assert add(compiler.compiled("add", "key", build), 1) == 2
    assert build.calls == 2


def test_a_full_disk_only_costs_time_and_leaves_nothing(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert add(compiler.compiled("add", "key", Builder()), 1) == 2
    assert not list(folder.iterdir())


def test_a_file_that_may_only_be_read_is_used(monkeypatch, new_process):
    compiler.compiled("add", "key", Builder())
    new_process()

    def read_only(*_):
        raise PermissionError

    for name in ("utime", "replace", "unlink"):
        monkeypatch.setattr(os, name, read_only)
    build = Builder()
    assert add(compiler.compiled("add", "key", build), 1) == 2
    assert build.calls == 0


def test_the_folder_stays_below_its_limit_and_keeps_what_was_used_last(folder, monkeypatch, new_process):
    keys = {}
    for age, key in enumerate(("first", "second", "third")):
        compiler.compiled("add", key, Builder())
        keys[key] = next(path for path in folder.iterdir() if path not in keys.values())
        os.utime(keys[key], (age, age))
    new_process()
    compiler.compiled("add", "first", Builder())
    monkeypatch.setattr(compiler, "KEPT_BYTES", 2 * keys["first"].stat().st_size)
    compiler.compiled("add", "fourth", Builder())
    assert keys["first"].exists()
    assert not keys["second"].exists()
    assert len(list(folder.iterdir())) == 2


def test_two_threads_compile_once():
    build = Builder(wait=0.05)
    libraries = []
    threads = [
        threading.Thread(target=lambda: libraries.append(compiler.compiled("add", "key", build))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.calls == 1
    assert libraries[0] is libraries[1]


def test_a_build_that_fails_may_be_tried_again():
    def broken():
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        compiler.compiled("add", "key", broken)
    assert add(compiler.compiled("add", "key", Builder()), 1) == 2


def test_a_build_may_compile_something_else():
    def nested():
        compiler.compiled("add", "inner", Builder())
        return Builder(5)()

    assert add(compiler.compiled("add", "outer", nested), 1) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_uses_and_compiles():
    library = compiler.compiled("add", "key", Builder())

    def work():
        assert add(library, 1) == 2
        assert add(compiler.compiled("add", "other", Builder(3)), 1) == 4

    assert in_child(work) == 0
    assert add(compiler.compiled("add", "third", Builder(4)), 1) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_while_a_thread_compiles_does_not_hang():
    started = threading.Event()

    def slow():
        started.set()
        return Builder(wait=0.2)()

    thread = threading.Thread(target=lambda: compiler.compiled("add", "slow", slow))
    thread.start()
    started.wait()
    assert in_child(lambda: compiler.compiled("add", "key", Builder())) == 0
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_two_processes_may_write_the_same_file(folder, new_process):
    def work():
        for _ in range(20):
            compiler._libraries.clear()
            for file in folder.glob("*.o"):
                file.unlink(missing_ok=True)
            assert add(compiler.compiled("add", "key", Builder()), 1) == 2

    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(in_child(work))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0]
    compiler.compiled("add", "key", Builder())
    assert len(list(folder.iterdir())) == 1


def test_an_unknown_function_is_an_error():
    with pytest.raises(KeyError, match="no function 'subtract'"):
        compiler.compiled("add", "key", Builder()).address("subtract")


def test_the_log_says_what_was_compiled_and_what_was_found(caplog, new_process):
    caplog.set_level(logging.DEBUG, "unrolled.llvm")
    compiler.compiled("gru inference", "key", Builder())
    new_process()
    compiler.compiled("gru inference", "key", Builder())
    compiled, size, found = caplog.messages
    assert "gru inference: generated in" in compiled
    assert "bytes of machine code" in size
    assert "gru inference: from the cache in" in found


def multiply_add(machine):
    """Builds an addition of products by the machine's whole vectors."""
    vector = ir.VectorType(ir.FloatType(), machine.lanes(False))
    module = compiler.module_for("multiply_add", machine)
    pointer = ir.PointerType()
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{vector.count}f32")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), "multiply_add")
    builder = ir.IRBuilder(function.append_basic_block())
    value = builder.load(function.args[0], typ=vector, align=machine.vector_bytes)
    builder.store(builder.call(fma, [value, value, value]), function.args[0], align=machine.vector_bytes)
    builder.ret_void()
    return module


@pytest.mark.parametrize(("vector", "register"), [("avx512", "zmm"), ("avx2", "ymm")])
def test_assembly_has_whole_vectors(vector, register, monkeypatch):
    if not host().x86 or (vector == "avx512" and host().vector_bytes < 64):
        pytest.skip("the processor has no such vectors")
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", vector)
    text = compiler.assembly(lambda: multiply_add(host()))
    assert f"%{register}0" in text
    assert text.count("vfmadd") == 1
    assert ("zmm" in text) == (vector == "avx512")


def test_code_is_made_for_another_architecture():
    assert compiler.emit(lambda: multiply_add(ARM), ARM)[:4] == b"\x7fELF"
    assert "fmla" in compiler.assembly(lambda: multiply_add(ARM), ARM)


def test_the_passes_inline_and_drop_what_is_not_used():
    def build():
        module = Builder()()
        module.globals["add"].linkage = "internal"
        module.globals["add"].attributes.add("alwaysinline")
        function = ir.Function(module, ir.FunctionType(INTEGER, []), "three")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(builder.call(module.globals["add"], [INTEGER(2)]))
        return module

    text = compiler.optimised(build)
    assert "ret i64 3" in text
    assert "@add" not in text


def test_functions_of_the_process_can_be_called():
    def build():
        module = compiler.module_for("outside", host())
        byte, flag = ir.IntType(8), ir.IntType(1)
        fill = ir.FunctionType(ir.VoidType(), [ir.PointerType(), byte, INTEGER, flag])
        memset = ir.Function(module, fill, "llvm.memset.p0.i64")
        getpid = ir.Function(module, ir.FunctionType(ir.IntType(32), []), "getpid")
        kernel = ir.FunctionType(ir.VoidType(), [ir.PointerType(), INTEGER])
        function = ir.Function(module, kernel, "outside")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.call(memset, [function.args[0], byte(7), function.args[1], flag(0)])
        builder.call(getpid, [])
        builder.ret_void()
        return module

    address = compiler.compiled("outside", "key", build).address("outside")
    buffer = (ctypes.c_ubyte * 100)()
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)(ctypes.addressof(buffer), 100)
    assert bytes(buffer) == b"\x07" * 100
