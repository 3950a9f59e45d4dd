import pytest

pytest.importorskip("llvmlite")

from unrolled.backends.llvm import compiler, machine
from unrolled.backends.llvm.machine import AVX2, AVX512, BASELINE, host, make, unavailable
from unrolled.errors import UsageError

X86 = "x86_64-unknown-linux-gnu"


def pretend(monkeypatch, features, triple=X86):
    found = make(triple, "rocketlake", frozenset(features))
    monkeypatch.setattr(machine, "_found", lambda: found)
    machine._narrowed.cache_clear()


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.delenv("UNROLLED_LLVM_VECTOR", raising=False)
    yield
    machine._narrowed.cache_clear()


@pytest.mark.parametrize(
    ("features", "cpu", "vector_bytes", "registers"),
    [
        (AVX512 | {"amx-tile"}, "x86-64-v4", 64, 32),
        (AVX512 - {"avx512vl"}, "x86-64-v3", 32, 16),
        (AVX2, "x86-64-v3", 32, 16),
        (AVX2 - {"movbe"}, "x86-64", 32, 16),
        (BASELINE, "x86-64", 16, 16),
    ],
    ids=["avx512", "avx512-in-part", "avx2", "avx2-in-part", "baseline"],
)
def test_the_instructions_decide_on_vectors_and_name(features, cpu, vector_bytes, registers):
    found = make(X86, "rocketlake", frozenset(features))
    assert (found.cpu, found.vector_bytes, found.registers) == (cpu, vector_bytes, registers)


def test_other_architectures_keep_their_name():
    found = make("arm64-apple-darwin23", "apple-m1", frozenset({"neon"}))
    assert (found.cpu, found.vector_bytes, found.registers, found.x86) == ("apple-m1", 16, 32, False)


def test_a_vector_holds_half_as_many_doubles():
    found = make(X86, "", AVX2)
    assert (found.lanes(False), found.lanes(True)) == (8, 4)


def test_the_environment_narrows_the_vectors(monkeypatch):
    pretend(monkeypatch, AVX512 | {"amx-tile", "avx10.1", "avxvnni"})
    assert host().vector_bytes == 64
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", "avx512")
    assert host().features >= {"amx-tile", "avx10.1"}
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", "avx2")
    assert host() == make(X86, "", AVX2 | {"avxvnni"})
    assert unavailable() == ""
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", "generic")
    assert host() == make(X86, "", BASELINE)
    assert unavailable() == "UNROLLED_LLVM_VECTOR=generic leaves no AVX2"


@pytest.mark.parametrize(
    ("value", "features", "message"),
    [
        ("avx512", AVX2, "UNROLLED_LLVM_VECTOR is 'avx512', but this processor has no more than 'avx2'"),
        ("avx2", BASELINE, "UNROLLED_LLVM_VECTOR is 'avx2', but this processor has no more than 'generic'"),
        ("sse", AVX2, "UNROLLED_LLVM_VECTOR is 'sse'; it can be generic, avx2, avx512"),
    ],
)
def test_the_environment_cannot_widen_the_vectors(monkeypatch, value, features, message):
    pretend(monkeypatch, features)
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", value)
    with pytest.raises(UsageError, match=message):
        host()


@pytest.mark.parametrize("lost", ["avx2", "fma"])
def test_a_processor_without_fast_multiply_add_gets_no_kernels(monkeypatch, lost):
    pretend(monkeypatch, AVX2 - {lost})
    assert unavailable() == "the processor has no AVX2 and FMA"


def test_llvm_knows_all_features_of_this_processor(capfd):
    compiler.emit(lambda: compiler.module_for("nothing", host()))
    assert capfd.readouterr().err == ""
