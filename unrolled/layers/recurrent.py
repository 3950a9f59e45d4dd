"""A cell over time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unrolled.backends import Call
from unrolled.cells import resolve
from unrolled.errors import ShapeError, UsageError, did_you_mean
from unrolled.ir.gates import memories
from unrolled.ir.plan import Group, Plan, groups_of, make_plan
from unrolled.ir.program import Initial, Program, bind
from unrolled.ir.transforms import without_biases
from unrolled.language import Cell
from unrolled.layers.base import SequenceLayer
from unrolled.layers.family import Family
from unrolled.layers.given import check_inputs, check_sizes, check_taps, sequences_of, states_of, width
from unrolled.layers.habits import check_keywords
from unrolled.layers.initialise import initialise, initialise_chrono
from unrolled.layers.noise import Noise
from unrolled.layers.state import CLOCK, define_state, make_state
from unrolled.layers.stream import frozen
from unrolled.scan import multiplies_in, scan

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen

# What `precision` can be, and the type that products are then taken in.
PRECISIONS = {"": "", "bf16": "bfloat16"}


class Recurrent(SequenceLayer):
    """One cell run over a batch of sequences.

    cell               a name, a Cell, or its equations as text or file; `hyperparameters` are the cell's own
    bias               False leaves out every bias of the cell
    reverse            read each sequence from its last valid step to its first
    recurrent_dropout  share of what maps read on the output's axis, of what comes from the states, that is dropped in
                       training, the same units at every step of a row (Gal & Ghahramani 2016)
    zoneout            probability that a unit of a state keeps its old value, drawn at every step in training; else
                       old and new are mixed by it. One for all states, or {"h": 0.05, "c": 0.5} (Krueger 2017)
    weight_drop        share of the entries of all maps of states that is left out in training, one draw a call; the
                       rest are scaled up. Of a map with a structure, of the entries that are stored (Merity 2018)
    clamp              named values of the step that are held at numbers: {"f": 1, "i": 0}; a state's name means its
                       new value. The parameters are those of the cell all the same
    learn_initial      make the initial state a parameter
    init               initial values of symbols or families, before the cell's own: a number, or the name of an
                       initialiser
    chrono             the longest dependence, in steps: biases of the gates that keep a state are drawn so that they
                       forget within 1 to so many steps, and gates of what enters the other way round (Tallec 2018)
    backend            "" for the fastest that runs on the device
    precision          "bf16" to take products in bfloat16 and sum them in float32, as autocast does; states and what is
                       done to each unit stay float32. A layer in float64 ignores it

    Parameters are stacked by family and operand, gates in source order: `layer.W.f` is a view of its rows.

    Raises   UsageError, CellError or ShapeError when cell, sizes and options do not fit together
    """

    _empty: Tensor

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        batch_first: bool = False,
        reverse: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | Mapping[str, float] = 0.0,
        weight_drop: float = 0.0,
        clamp: Mapping[str, float] | None = None,
        learn_initial: bool = False,
        init: Mapping[str, Initial] | None = None,
        chrono: float | None = None,
        backend: str = "",
        precision: str = "",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **hyperparameters: Any,
    ):
        super().__init__(batch_first)
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        if precision not in PRECISIONS:
            raise UsageError(f"precision is '' or 'bf16', not {precision!r}")
        chosen = resolve(cell)
        check_keywords(chosen, hyperparameters, inspect.signature(Recurrent).parameters)
        self.cell = chosen.configure(**hyperparameters)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.reverse = reverse
        self.clamp = dict(clamp or {})
        self.backend = backend
        self.precision = precision
        self.init = dict(init or {})
        self.chrono = chrono
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._uses_clock = self.cell.program.uses_clock
        define_state(self._fields())
        self.sizes = {"input": input_size, "hidden": hidden_size, **self.cell.program.axes}
        program = self._program()
        self.noise = Noise.of(program, self.sizes, recurrent_dropout, zoneout, weight_drop)
        for name in self.noise.zoneout:
            if name in self.clamp:
                raise UsageError(f"clamp holds {name}, and zoneout keeps old values of it: give one of them")
        output = program.states[0][1]
        self.output_size = self.sizes[output[0]] if output else 1
        self.groups = groups_of(program)
        self._families = tuple(dict.fromkeys(group.family for group in self.groups))
        for family in self._families:
            self.add_module(family, Family([group for group in self.groups if group.family == family]))
        for group in self.groups:
            empty = torch.empty(self._stored_shape(group), device=device, dtype=dtype)
            self._family(group.family).place(group, nn.Parameter(empty))
        self.initial: nn.ParameterDict | None = None
        if learn_initial:
            like: dict[str, Any] = {"device": device, "dtype": dtype}
            self.initial = nn.ParameterDict(
                {name: nn.Parameter(torch.empty(width(self.sizes, shape), **like)) for name, shape in program.states}
            )
        # A cell without parameters still has a type and a device.
        self.register_buffer("_empty", torch.empty(0, device=device, dtype=dtype), persistent=False)
        self.reset_parameters()
        self._make_plans()

    def reset_parameters(self) -> None:
        """Draw the initial values: those given to the layer, else the cell's, else the family's."""
        symbols = {f"{group.family}.{name}" for group in self.groups for name in group.names}
        for key in self.init:
            if key not in symbols | set("WUVbps"):
                raise UsageError(f"init names {key!r}, which is no symbol of the cell.{did_you_mean(key, symbols)}")
        choices = self._merged_choices()
        for group, value in self._stored():
            initialise(group, value, choices)
        if self.chrono is not None:
            self._initialise_gates(self.chrono)
        if self.initial is not None:
            for name, value in self.initial.items():
                nn.init.constant_(value, self.cell.program.initial.get(name, 0.0))

    def _initialise_gates(self, longest: float) -> None:
        if not self.bias:
            raise UsageError("chrono draws the biases of gates, and bias=False leaves them out: give one of them")
        for memory in memories(self._program()):
            for name in (memory.keep, *memory.enter):
                for key in (f"b.{name}", "b"):
                    if key in self.init:
                        raise UsageError(f"init names {key!r}, and chrono draws b.{name}: give one of them")
            biases = self._family("b")
            initialise_chrono(memory.opens, biases[memory.keep], [biases[name] for name in memory.enter], longest)

    def _merged_choices(self) -> dict[str, Initial]:
        """A layer's word on a family goes before the cell's on the family, but not before the cell's on a symbol."""
        return {**self.cell.program.init, **self.init}

    def plan(self, taps: tuple[str, ...] = ()) -> Plan:
        """The plan that this layer runs in its present mode."""
        return self._plan(self.training, taps)

    def _plan(self, training: bool, taps: tuple[str, ...]) -> Plan:
        key = ("noisy" if training and self.noise else "", *taps)
        if key not in self._plans:
            self._plans[key] = make_plan(self.noise.applied(self._program(), training), taps, self.clamp)
        return self._plans[key]

    def run(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None,
        resets: Tensor | None,
        **more: Any,
    ) -> tuple[Any, ...]:
        """Run the cell over time: see `prepare` for what it is given.

        Shapes   returns y (time, batch, hidden), the state as a named tuple, and with taps a dictionary of
                 (time, batch, axis) by name
        """
        plan, call = self.prepare(x, state, lengths, resets, **more)
        return self.finish(plan, call, *scan(plan, call, self.backend))

    def prepare(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None,
        resets: Tensor | None,
        *,
        taps: tuple[str, ...] | list[str] = (),
        **inputs: Tensor,
    ) -> tuple[Plan, Call]:
        """What the scan is given.

        Shapes   x (time, batch, input), or whole numbers (time, batch) for one-hot vectors; state, each
                 (batch, hidden); inputs, the cell's further ones, (time, batch, axis), or (time, batch) for numbers
        Raises   ShapeError when an axis does not fit; CellError for a tap that the cell does not have
        """
        check_taps(taps)
        plan = self.plan(tuple(taps))
        check_inputs(self.cell, inputs)
        x, inputs, precision = self._in_layer_type(x, inputs)
        time, batch = x.shape[:2]
        if self.training:
            inputs |= self.noise.sequences(time, batch, self._like())
        sequences = sequences_of(self.cell, plan.program, self.sizes, x, inputs, lengths)
        initial = self._initial_values(batch)
        states, clock = states_of(self.cell, self.sizes, state, initial, self._uses_clock)
        call = Call(
            sequences,
            self.noise.rows(batch, self.output_size, self._like()) if self.training else [],
            states,
            initial if resets is not None else [],
            [self.noise.thinned(group, value) if self.training else value for group, value in self._stored()],
            list(self._scalars(self.training).values()),
            [self.sizes[axis] for axis in plan.axes],
            lengths,
            None if resets is None else resets.to(torch.bool),
            clock,
            self.reverse,
            precision,
        )
        return plan, call

    def finish(self, plan: Plan, call: Call, outputs: list[Tensor], finals: list[Tensor]) -> tuple[Any, ...]:
        """What the layer returns, of what the scan gave."""
        if call.clock is not None:
            finals = [*finals, call.clock + call.sequences[0].shape[0]]
        packed = make_state(self._fields(), tuple(finals))
        if not plan.taps:
            return outputs[0], packed
        return outputs[0], packed, dict(zip(plan.taps, outputs[1:], strict=True))

    @property
    def further_inputs(self) -> dict[str, int]:
        """The cell's inputs besides x."""
        return {name: width(self.sizes, shape) for name, shape in self.cell.program.inputs[1:]}

    def _frozen(self, taps: tuple[str, ...] = ()) -> list[Frozen]:
        if self.reverse:
            raise UsageError(
                "a layer with reverse=True begins at the last step, which a stream does not know: stream a layer that "
                "reads forward, Recurrent(…) without reverse"
            )
        if self.training and self.noise:
            raise UsageError(
                "recurrent_dropout, zoneout and weight_drop act at random in training, a stream does not: call .eval() "
                "first"
            )
        names = [name for name, _ in self.cell.program.states]
        initial = [value.squeeze(0) for value in self._initial_values(1)]
        parameters = [value for _, value in self._stored()]
        plan, begin = self._plan(False, taps), dict(zip(names, initial, strict=True))
        return [frozen(plan, self.sizes, self._scalars(False), parameters, begin, self._own_precision())]

    def initial_state(self, batch: int) -> Any:
        """The state that sequences begin from: zeros, what the cell declares, or what was learned.

        Shapes   each (batch, hidden)
        """
        values = self._initial_values(batch)
        if self._uses_clock:
            values.append(torch.zeros((), dtype=torch.int64, device=values[0].device))
        return make_state(self._fields(), tuple(values))

    def _fields(self) -> tuple[str, ...]:
        names = tuple(name for name, _ in self.cell.program.states)
        return (*names, CLOCK) if self._uses_clock else names

    def _initial_values(self, batch: int) -> list[Tensor]:
        program, values = self.cell.program, []
        like = self._like()
        for name, shape in program.states:
            if self.initial is not None:
                values.append(self.initial[name].expand(batch, -1))
            else:
                values.append(like.new_full((batch, width(self.sizes, shape)), program.initial.get(name, 0.0)))
        return values

    def _like(self) -> Tensor:
        return next(self.parameters(), self._empty)

    def _in_layer_type(self, x: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], str]:
        """The inputs in the layer's own type, and the narrower one that it multiplies in, if there is one."""
        own = self._like().dtype
        precision = self._own_precision() or multiplies_in(own, x.device)
        if precision:
            cast = {name: value.to(own) for name, value in inputs.items()}
            return x.to(own) if x.is_floating_point() else x, cast, precision
        for name, value in {"x": x, **inputs}.items():
            if value.is_floating_point() and value.dtype != own:
                raise ShapeError(f"{name} is {value.dtype}, the layer is {own}; convert one of them with .to(…)")
        numbers = {name: value if value.is_floating_point() else value.to(own) for name, value in inputs.items()}
        return x, numbers, ""

    def _own_precision(self) -> str:
        """The narrower type that the layer was told to multiply in, "" in any other than float32."""
        return PRECISIONS[self.precision] if self._like().dtype == torch.float32 else ""

    def _program(self) -> Program:
        program = bind(self.cell.program, self.sizes)
        return program if self.bias else without_biases(program)

    def _scalars(self, training: bool) -> dict[str, float]:
        return {**self.cell.program.scalars, **self.noise.scalars(training)}

    def _stored(self) -> list[tuple[Group, Tensor]]:
        return [(group, self._family(group.family).stored(group)) for group in self.groups]

    def _family(self, name: str) -> Family:
        family = self._modules[name]
        assert isinstance(family, Family)
        return family

    def _stored_shape(self, group: Group) -> tuple[int, ...]:
        if not group.shape:
            return (len(group.names),)
        sizes = [self.sizes[axis] for axis in group.shape]
        first, *rest = group.structure.entries(*sizes) if len(sizes) == 2 else sizes
        return (first * len(group.names), *rest)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        define_state(self._fields())
        self._make_plans()

    def _make_plans(self) -> None:
        """Make the plans of both modes and their keys now: torch.compile cannot trace the making."""
        for training in (False, True):
            _ = self._plan(training, ()).key

    def extra_repr(self) -> str:
        """The cell, its sizes, and what is not as it is by default."""
        options = {
            "batch_first": self.batch_first,
            "reverse": self.reverse,
            "recurrent_dropout": self.noise.recurrent_dropout,
            "zoneout": self.noise.zoneout,
            "weight_drop": self.noise.weight_drop,
            "clamp": self.clamp,
            "chrono": self.chrono,
            "backend": self.backend,
            "precision": self.precision,
        }
        said = [f"{name}={value!r}" for name, value in options.items() if value]
        without = [] if self.bias else ["bias=False"]
        return ", ".join([self.cell.name, f"{self.input_size} -> {self.hidden_size}", *without, *said])
