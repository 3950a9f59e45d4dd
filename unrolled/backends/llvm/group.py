"""Scans that do not wait for one another, side by side on one team: each has threads, and barriers, of its own."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from llvmlite import ir

from unrolled.backends.llvm.code import I64, POINTER, integer, loop, name_arguments
from unrolled.backends.llvm.compiler import compiled, module_for
from unrolled.backends.llvm.machine import Machine, host
from unrolled.backends.llvm.team import KERNEL, run

T = TypeVar("T")


class Launch(NamedTuple):
    """A kernel that is to run: its address, that of its description, and for how many threads it is planned."""

    kernel: int
    description: int
    threads: int


# A scan on its way to its result: it says what is to be launched, and goes on when that has run.
Course = Generator[Launch, None, T]


def together(courses: Sequence[Course[T]]) -> list[T]:
    """The results of scans whose launches run side by side: the first of all, then the second of all, and so on."""
    if len(courses) == 1:
        return [_alone(courses[0])]
    results: dict[int, T] = {}
    going = dict(enumerate(courses))
    try:
        while going:
            launches = []
            for number, course in list(going.items()):
                try:
                    launches.append(next(course))
                except StopIteration as end:
                    results[number] = end.value
                    del going[number]
            if len(launches) == 1:
                run(*launches[0])
            elif launches:
                words = array("q", [len(launches), *(word for launch in launches for word in launch)])
                run(_kernel(host()), words.buffer_info()[0], sum(launch.threads for launch in launches))
    finally:
        for course in going.values():  # after an error: what the others hold is given back now
            course.close()
    return [results[number] for number in range(len(courses))]


def _alone(course: Course[T]) -> T:
    try:
        while True:
            run(*next(course))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        course.close()


@cache
def _kernel(machine: Machine) -> int:
    return compiled("group kernel", "group", lambda: _module(machine), machine).address("group")


def _module(machine: Machine) -> ir.Module:
    """The code of the kernel that gives each thread its scan, and its place among the threads of that one.

    In a team that is smaller than planned the scans are dealt to the threads, and each runs as a team of one.
    """
    module = module_for("group", machine)
    function = ir.Function(module, KERNEL, "group")
    name_arguments(function, "launches", "thread", "threads")
    launches, thread, threads = function.args
    build = ir.IRBuilder(function.append_basic_block("entry"))

    def word(at: ir.Value) -> ir.Value:
        return build.load(build.gep(launches, [at], source_etype=I64), typ=I64)

    def field(number: ir.Value, place: int) -> ir.Value:
        return word(build.add(build.mul(number, integer(len(Launch._fields))), integer(1 + place)))

    count = word(integer(0))
    with loop(build, integer(0), count, [integer(0)]) as (number, planned):
        planned.next[0] = build.add(planned.now[0], field(number, 2))
    whole = build.icmp_signed("==", threads, planned.last[0])
    with loop(build, integer(0), count, [integer(0)]) as (number, first):
        own = field(number, 2)
        first.next[0] = build.add(first.now[0], own)
        inside = build.and_(
            build.icmp_signed(">=", thread, first.now[0]), build.icmp_signed("<", thread, first.next[0])
        )
        dealt = build.icmp_signed("==", build.srem(number, threads), thread)
        with build.if_then(build.select(whole, inside, dealt)):
            kernel = build.inttoptr(field(number, 0), KERNEL.as_pointer())
            description = build.inttoptr(field(number, 1), POINTER)
            place = build.select(whole, build.sub(thread, first.now[0]), integer(0))
            build.call(kernel, [description, place, build.select(whole, own, integer(1))])
    build.ret_void()
    return module
