"""The CPU engine: kernels generated from the plan, compiled in this process by LLVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unrolled.backends.llvm.machine import unavailable

if TYPE_CHECKING:
    import torch

    from unrolled.backends import Kernel
    from unrolled.ir.plan import Plan


class LlvmBackend:
    """Runs on the CPU."""

    name = "llvm"

    def available(self, device: torch.device) -> str:
        """'' on a CPU for which code can be generated."""
        return unavailable() if device.type == "cpu" else "it runs on the CPU alone"

    def compile(self, plan: Plan) -> Kernel:
        """The kernel of a plan; its code is compiled when a call first needs it."""
        from unrolled.backends.llvm.kernel import CompiledPlan

        return _kernels.setdefault(plan.key, CompiledPlan(plan))


_kernels: dict[str, Kernel] = {}
