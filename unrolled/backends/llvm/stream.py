"""Streams: frozen layers that take one step at a time, as fast as Python allows and without torch."""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.backends.llvm.constants import Array
from unrolled.backends.llvm.machine import unavailable
from unrolled.backends.llvm.stepping import Form, Frozen, SteppedLayer, launcher, program_of, threads_for
from unrolled.backends.llvm.stream_file import Kept, dumps, layer_of, opened
from unrolled.errors import ShapeError, UnrolledError, UsageError, did_you_mean

CLOCK = "clock"
# While a step reads more weights than this, other threads of Python may run: beyond some 20 us.
RELEASED_BYTES = 4 * 2**20

State = dict[str, Any]


class Stream:
    """Frozen layers, one upon the other, that take one step at a time and remember.

    Nothing is allocated, checked twice or packed again from step to step: the weights are those of the moment when the
    layer was frozen. A layer with a `precision` is multiplied in it here too. One thread uses a stream at a time.

    batch        the sequences that are read side by side
    threads      that share a step, as many as fit the size of the weights if None
    input_size   of the lowest layer; output_size, of the uppermost

    Raises   UsageError where no kernels can be compiled, with the reason
    """

    def __init__(self, layers: Sequence[Frozen], batch: int = 1, *, stacked: bool = False, threads: int | None = None):
        reason = unavailable()
        if reason:
            raise UsageError(
                f"a stream runs compiled kernels, which there are none of here: {reason}. "
                "The layer itself takes single steps too: y, state = layer(x[None], state)"
            )
        if type(batch) is not int or batch < 1:
            raise UsageError(f"batch is a whole number above 0, not {batch!r}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise UsageError(f"threads is a whole number above 0, not {threads!r}")
        self.threads = threads
        weights = sum(layer.weight_bytes for layer in layers)
        threads = threads_for(weights) if threads is None else threads
        self.batch = batch
        self._stacked = stacked
        self._layers: list[SteppedLayer] = []
        for frozen in layers:
            below = self._layers[-1] if self._layers else None
            self._layers.append(SteppedLayer(frozen, batch, threads, below))
        first, last = self._layers[0], self._layers[-1]
        self.input_size, self.output_size = first.input_size, last.y.shape[1]
        self.dtype = first.dtype
        self._clocked = [layer for layer in self._layers if layer.beats]
        self._plain = not self._clocked and not any(layer.further for layer in self._layers)
        self._run = launcher(threads, weights > RELEASED_BYTES)
        self._y, self._number = last.y, first.numbers
        self._begin = int(last.y.ctypes.data)
        self._end = self._begin + last.y.nbytes
        self._views: dict[tuple[int, ...], tuple[Array, Array]] = {first.x.shape: (first.x, last.y)}
        if batch == 1:
            self._views[first.x.shape[1:]] = (first.x[0], last.y[0])
        # Once tensors have come: their class, the stream's type as torch has it, and the outputs as tensors.
        self._tensor: Any = None
        self._torch_type: Any = None
        self._tensors: dict[tuple[int, ...], Any] = {}
        self._forms: dict[str, tuple[Form, array[int], int]] = {}
        self._form: Form | None = None
        # What `step` takes without asking further: the type of x, if nothing else has to be set.
        self._quick: Any = None
        self._into = -1
        self._words = array("q")
        self._program = 0
        for layer in self._layers:
            _ = layer.by_vectors
        self._take("vectors", np.ndarray)
        self.reset()

    def step(self, x: Any, **inputs: Any) -> Any:
        """Read one step of every sequence and give the output.

        What comes back is of the kind that was given, and is written over by the next step: keep `y.copy()`, or
        `y.clone()` of a tensor, to have it longer. No gradient flows.

        Shapes   x (batch, input), at batch 1 also (input,): an array, or a tensor on the CPU; or whole numbers
                 (batch,), at batch 1 also an int, for one-hot vectors; inputs, the cell's further ones, (batch, axis),
                 or (batch,) for numbers
                 returns y (batch, output), or (output,) if x has no batch
        Raises   ShapeError when something does not fit
        """
        kind = self._quick
        if type(x) is kind and not inputs:
            if kind is np.ndarray:
                if x.dtype is self.dtype:
                    found = self._views.get(x.shape)
                    if found is not None:
                        into, y = found
                        into[...] = x
                        self._run(self._program)
                        return y
            elif kind is int:
                if 0 <= x < self.input_size:
                    self._number[0] = x
                    self._run(self._program)
                    return self._y[0]
            elif x.dtype is self._torch_type and x.is_contiguous() and x.is_cpu:
                tensor = self._tensors.get(x.shape)
                place = x.data_ptr()
                if tensor is not None and not self._begin <= place < self._end:
                    if self._into >= 0:
                        self._words[self._into] = place
                    self._run(self._program)
                    return tensor
        return self._checked_step(x, inputs)

    def _checked_step(self, x: Any, inputs: Mapping[str, Any]) -> Any:
        """A step of anything that can be read as one."""
        tensor = _is_tensor(x)
        if tensor and not x.is_cpu:
            raise ShapeError(f"x is on {x.device}; a stream runs on the CPU: x.cpu()")
        given = np.asarray(_array_of(x))
        if given.dtype.kind not in "fiu":
            raise ShapeError(f"x holds vectors or the whole numbers of one-hot vectors, not {given.dtype}")
        self._set_inputs(inputs)
        shape = self._vectors(x, given, tensor) if given.dtype.kind == "f" else self._numbers(given)
        for layer in self._clocked:
            layer.due()
        self._run(self._program)
        for layer in self._clocked:
            layer.clock += 1
        if tensor:
            self._prepare_tensors()
            return self._tensors[shape]
        return self._views[shape][1]

    def _vectors(self, x: Any, given: Array, tensor: bool) -> tuple[int, ...]:
        if given.shape not in self._views:
            expected = f"(batch, input), here {(self.batch, self.input_size)}"
            also = f" or {(self.input_size,)}" if self.batch == 1 else ""
            raise ShapeError(f"x is {given.shape}; expected {expected}{also}")
        layer = self._layers[0]
        # What a step leaves may be what the next one reads: then it must stand elsewhere.
        apart = tensor and not self._begin <= x.data_ptr() < self._end
        if apart and x.dtype is self._torch_type and x.is_contiguous():
            self._take("tensors", self._tensor)
            if self._into >= 0:
                self._words[self._into] = x.data_ptr()
        else:
            self._take("vectors", np.ndarray)
            layer.x[...] = given
        if tensor and self._tensor is None:
            self._prepare_tensors()
        return given.shape

    def _numbers(self, given: Array) -> tuple[int, ...]:
        alone = self.batch == 1 and given.ndim == 0
        if given.shape != (self.batch,) and not alone:
            raise ShapeError(f"x of whole numbers is {given.shape}; expected (batch,), here {(self.batch,)}")
        low, high = int(given.min()), int(given.max())
        if low < 0 or high >= self.input_size:
            raise ShapeError(f"x holds numbers from {low} to {high}; input_size is {self.input_size}")
        self._take("numbers", int if self.batch == 1 else None)
        self._number[...] = given
        return (self.input_size,) if alone else (self.batch, self.input_size)

    def _set_inputs(self, inputs: Mapping[str, Any]) -> None:
        known = [name for layer in self._layers for name in layer.further]
        for name in inputs:
            if name not in known:
                raise ShapeError(f"the cell has no input {name!r}.{did_you_mean(name, known)}")
        for layer in self._layers:
            for name, buffer in layer.further.items():
                if name not in inputs:
                    raise ShapeError(f"the cell reads a further input: {name}=… is missing")
                value = np.asarray(_array_of(inputs[name]))
                allowed = {buffer.shape, buffer.shape[1:]} if self.batch == 1 else {buffer.shape}
                allowed |= {shape[:-1] for shape in allowed if buffer.shape[1] == 1}
                if value.shape not in allowed:
                    raise ShapeError(f"{name} is {value.shape}; expected (batch, axis), here {buffer.shape}")
                buffer[...] = value.reshape(buffer.shape)

    def _prepare_tensors(self) -> None:
        if self._tensor is None:
            torch: Any = sys.modules["torch"]
            self._tensor, self._torch_type = torch.Tensor, getattr(torch, self.dtype.name)
            self._tensors = {shape: torch.from_numpy(y) for shape, (_, y) in self._views.items()}

    def _take(self, name: str, kind: Any) -> None:
        """Run the kernels for one kind of input from now on."""
        first, *above = self._layers
        if name not in self._forms:
            if name == "numbers":
                form = first.by_numbers
            else:
                form = first.by_vectors if name == "vectors" else first.by_vectors.copy()
            into = form.place(f"input {first.input}.pointer") if name == "tensors" else -1
            self._forms[name] = form, program_of([form, *(layer.by_vectors for layer in above)]), into
        form, program, self._into = self._forms[name]
        if form is not self._form:
            form.set_parity(self._parity)
            self._form = form
        self._words, self._program = form.words, program.buffer_info()[0]
        self._quick = kind if self._plain else None

    # State

    @property
    def _parity(self) -> int:
        return 0 if self._form is None else self._form.parity

    @property
    def state(self) -> Any:
        """What is remembered: a dictionary of copies, (batch, axis) by name, with the steps done if the cell has a
        clock; of a stack a tuple of those. It can be set, also to the state that a layer returns.

        Raises   ShapeError when it is set to what does not fit
        """
        found = []
        for layer in self._layers:
            values: State = layer.state(self._parity)
            found.append(values | {CLOCK: layer.clock} if layer.beats else values)
        return tuple(found) if self._stacked else found[0]

    @state.setter
    def state(self, state: Any) -> None:
        states = _flat(state) if self._stacked else [state]
        if len(states) != len(self._layers):
            raise ShapeError(f"the state has {len(states)} entries; the stack has {len(self._layers)} layers")
        checked = [self._named(layer, each) for layer, each in zip(self._layers, states, strict=True)]
        for layer, values in zip(self._layers, checked, strict=True):
            layer.clock = int(values.pop(CLOCK, layer.clock))
            for name, value in values.items():
                layer.set_state(name, value, self._parity)

    def _named(self, layer: SteppedLayer, state: Any) -> State:
        """The values of a state by their names, checked."""
        known = list(layer.carried)
        names = [*known, CLOCK] if layer.beats else known
        if not isinstance(state, Mapping):
            values = [state] if hasattr(state, "shape") or not isinstance(state, Iterable) else list(state)
            if not len(known) <= len(values) <= len(names):
                raise ShapeError(f"the state has {len(values)} values; the cell has {', '.join(names)}")
            state = dict(zip(names, values, strict=False))
        found: State = {}
        for name, value in state.items():
            if name not in names:
                raise ShapeError(f"the cell has no state {name!r}.{did_you_mean(name, names)}")
            one = np.asarray(_array_of(value))
            expected = (self.batch, len(layer.frozen.initial[name])) if name != CLOCK else ()
            if one.shape != expected and (name == CLOCK or one.shape != expected[1:]):
                raise ShapeError(f"state {name} is {one.shape}; expected (batch, hidden), here {expected}")
            found[name] = one
        return found

    def reset(self, rows: Any = None) -> None:
        """Begin anew: all sequences, or those that an index, a slice or a mask of the batch chooses.

        The clock is the batch's: it begins anew with all sequences only.
        """
        for layer in self._layers:
            for name, value in layer.frozen.initial.items():
                layer.set_state(name, value, self._parity, slice(None) if rows is None else rows)
            if rows is None:
                layer.clock = 0

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and state as a safetensors file, which `load_stream` reads; nothing in it is executed.

        Raises   UnrolledError when it cannot be written
        """
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            try:
                beside.write_bytes(self._dumps())
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise UnrolledError(f"{path} cannot be written: {error.strerror or error}") from error

    def _dumps(self) -> bytes:
        layers = [Kept(layer.frozen, layer.clock, layer.state(self._parity)) for layer in self._layers]
        return dumps(layers, self.batch, self._stacked)

    def __reduce__(self) -> Any:
        return _loads, (self._dumps(), "the stream", self.threads)

    def __repr__(self) -> str:
        layers = f", {len(self._layers)} layers" if self._stacked else ""
        return f"Stream({self.input_size} -> {self.output_size}, batch {self.batch}{layers}, {self.dtype})"


def load_stream(path: str | os.PathLike[str]) -> Stream:
    """The stream that `Stream.save` wrote, where it stopped. Torch is not loaded, and nothing in the file is executed.

    Raises   UsageError when it is none, is of a later format, or is damaged
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return _loads(content, str(path))


def _loads(content: bytes, where: str = "the stream", threads: int | None = None) -> Stream:
    fields, tensors = opened(content, where)
    try:
        batch, stacked = fields["batch"], bool(fields["stacked"])
        layers = [layer_of(number, layer, tensors, batch) for number, layer in enumerate(fields["layers"])]
        stream = Stream([layer.frozen for layer in layers], batch, stacked=stacked, threads=threads)
        stream.state = [layer.state for layer in layers][slice(None) if stacked else 0]
        for layer, each in zip(stream._layers, layers, strict=True):
            layer.clock = each.clock
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError, UnrolledError, RecursionError) as error:
        raise UsageError(f"{where} is damaged: {error}") from None
    return stream


def _flat(state: Iterable[Any]) -> list[Any]:
    """The states of the layers of a stack, one after the other, where some of it are stacks themselves."""
    found: list[Any] = []
    for each in state:
        inner = type(each) is tuple and any(isinstance(part, tuple | Mapping) for part in each)
        found += _flat(each) if inner else [each]
    return found


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _array_of(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    if not _is_tensor(value):
        return value
    if value.is_floating_point() and value.dtype.itemsize < 4:
        value = value.float()
    return value.detach().cpu().numpy()
