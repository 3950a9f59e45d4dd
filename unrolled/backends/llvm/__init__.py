"""The CPU engine: kernels generated from the plan, compiled in this process by LLVM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unrolled.backends.llvm.machine import unavailable

if TYPE_CHECKING:
    import torch

    from unrolled.backends import Call, Gradients, Kernel, Ran, Result
    from unrolled.ir.plan import Plan


class LlvmBackend:
    """Runs on the CPU."""

    name = "llvm"
    linear = False

    def available(self, device: torch.device) -> str:
        """'' on a CPU for which code can be generated."""
        return unavailable() if device.type == "cpu" else "it runs on the CPU alone"

    def compile(self, plan: Plan) -> Kernel:
        """The kernel of a plan; its code is compiled when a call first needs it."""
        from unrolled.backends.llvm.kernel import compiled_plan

        return compiled_plan(plan)

    def forward(self, group: Sequence[tuple[Plan, Call]], train: bool) -> list[Result]:
        """On teams of their own within torch's team, or each on the whole of it."""
        from unrolled.backends.llvm.kernel import forward

        return forward(group, train)

    def backward(self, group: Sequence[tuple[Plan, Ran]]) -> list[Gradients]:
        """Likewise; the large products that follow take the whole team."""
        from unrolled.backends.llvm.kernel import backward

        return backward(group)
