import warnings

import pytest
import torch

from unrolled import backends
from unrolled.backends import choose, llvm
from unrolled.backends.llvm import machine
from unrolled.cells import get
from unrolled.errors import BackendWarning, UsageError
from unrolled.layers import Recurrent

CPU, META = torch.device("cpu"), torch.device("meta")
MISSING = "llvmlite cannot be loaded (there is none)"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.delenv("UNROLLED_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_said", set())


@pytest.fixture
def no_llvmlite(monkeypatch):
    monkeypatch.setattr(llvm, "unavailable", lambda: MISSING)


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def said_by(work):
    """What the work warns of, of this category."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        work()
    return [str(warning.message) for warning in said if warning.category is BackendWarning]


@pytest.mark.skipif(machine.unavailable() != "", reason=machine.unavailable())
@pytest.mark.usefixtures("silent")
def test_the_compiler_is_the_default_on_a_cpu():
    assert choose(CPU).name == "llvm"


@pytest.mark.usefixtures("no_llvmlite")
def test_where_it_cannot_run_the_reference_does_and_the_reason_is_said_once():
    chosen = []
    said = said_by(lambda: chosen.extend(choose(CPU).name for _ in range(2)))
    assert chosen == ["reference", "reference"]
    assert said == [f"backend llvm does not run here, so reference, which is slower, takes its place: {MISSING}"]


@pytest.mark.usefixtures("no_llvmlite")
def test_there_a_linear_recurrence_is_an_associative_scan():
    said = said_by(lambda: Recurrent("mingru", 3, 5)(torch.randn(2, 1, 3)))
    assert said == [f"backend llvm does not run here, so associative, which is slower, takes its place: {MISSING}"]
    said = said_by(lambda: Recurrent("lstm", 3, 5)(torch.randn(2, 1, 3)))
    assert said == [f"backend llvm does not run here, so reference, which is slower, takes its place: {MISSING}"]


def test_each_reason_is_said(monkeypatch):
    said = []
    for reason in ("the first", "the second", "the first"):
        monkeypatch.setattr(llvm, "unavailable", lambda reason=reason: reason)
        said += said_by(lambda: choose(CPU))
    assert [text.split(": ")[1] for text in said] == ["the first", "the second"]


def test_vectors_that_are_too_narrow_are_a_reason(monkeypatch):
    if machine.unavailable() or not machine.host().x86:
        pytest.skip("x86-64 alone has vectors without multiply-add")
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", "generic")
    with pytest.warns(BackendWarning, match="UNROLLED_LLVM_VECTOR=generic leaves no AVX2"):
        assert choose(CPU).name == "reference"


@pytest.mark.usefixtures("silent")
def test_on_another_device_nothing_is_said():
    assert choose(META).name == "reference"
    assert choose(META, linear=True).name == "associative"


@pytest.mark.usefixtures("no_llvmlite", "silent")
def test_what_is_asked_for_is_not_replaced(monkeypatch):
    assert choose(CPU, "reference").name == "reference"
    with pytest.raises(UsageError, match="backend llvm does not run on cpu: llvmlite cannot be loaded"):
        choose(CPU, "llvm")
    monkeypatch.setenv("UNROLLED_BACKEND", "reference")
    assert choose(CPU).name == "reference"
    monkeypatch.setenv("UNROLLED_BACKEND", "llvm")
    with pytest.raises(UsageError, match="backend llvm does not run on cpu"):
        choose(CPU)


@pytest.mark.usefixtures("no_llvmlite")
def test_a_compiled_layer_says_it_once_too():
    layer = Recurrent(get("elman"), 3, 5)
    run = torch.compile(layer, backend="eager", fullgraph=True)

    def work():
        for time in (2, 3, 4):
            run(torch.randn(time, 2, 3))
            layer(torch.randn(time, 2, 3))

    assert len(said_by(work)) == 1
