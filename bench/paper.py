"""What a tracking step would cost an NVIDIA GPU, where there is none: `accelerator.py --paper`.

Operations are those of the program as for CUDA, but in the fusions that XLA makes for CPUs, and
counted in a run; CUDA's fusions are others, and a library's call can be several kernels. Times are
estimates from these counts, no measurements.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax import export

import jaxface
from bench.costs import Cost
from bench.operations import count_step
from bench.tracking_step import Step, tracking_step

LANES = (1, 8, 64, 256)
_LAUNCH = (2e-6, 5e-6)  # s an operation, started from a loop on the device
_BANDWIDTH = 4.8e12  # bytes/s of an H200
_ARITHMETIC = 67e12  # float32 operations/s of an H200, without tensor cores


class PaperStep(NamedTuple):
    """One row of the table."""

    lanes: int
    cost: Cost
    lowered: int  # operations in StableHLO as lowered for CUDA, loops' bodies once
    outside_calls: int  # among them
    state: int  # bytes of all lanes' fits
    frames: int  # bytes of all lanes' luma


def paper_step(model: jaxface.Model, lanes: int) -> PaperStep:
    """Counts a step of some lanes."""
    step = tracking_step(model, lanes)
    cost, _ = count_step(step, cuda=True)
    operations = lowered_operations(step, "cuda")
    _, luma, fits = step.arguments
    calls = sum("custom_call" in operation for operation in operations)
    return PaperStep(lanes, cost, len(operations), calls, count_bytes(fits), count_bytes(luma))


def lowered_operations(step: Step, platform: str) -> list[str]:
    """Operations of the program as lowered for a platform, which need not be there."""
    exported = export.export(jax.jit(step.function), platforms=[platform])(*step.arguments)
    names = re.findall(r"\bstablehlo\.(\w+)", exported.mlir_module())
    return [name for name in names if name not in ("constant", "return")]


def count_bytes(tree: Any) -> int:
    """Of all arrays of a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def estimate(cost: Cost) -> tuple[float, float]:
    """Shortest and longest time of a step, s.

    What binds is counted alone: starting operations, or moving their bytes, or arithmetic.
    """
    moving = max(cost.bytes / _BANDWIDTH, cost.flops / _ARITHMETIC)
    low, high = (max(cost.operations * launch, moving) for launch in _LAUNCH)
    return low, high


def print_paper(model: jaxface.Model, lanes: Sequence[int] = LANES) -> None:
    """Prints the table as Markdown."""
    print(f"{model.info.name}, jax {jax.__version__}: counted on {jax.devices()[0].device_kind}.")
    print("Times are **estimates**, not measurements: the largest of what starting the operations")
    print(f"takes ({_LAUNCH[0] * 1e6:g} to {_LAUNCH[1] * 1e6:g} us each), moving their bytes at ")
    print(f"{_BANDWIDTH / 1e12:g} TB/s, and arithmetic at {_ARITHMETIC / 1e12:g} TFLOP/s.")
    print(f"The model takes {count_bytes(model) / 2**20:.0f} MiB.\n")
    for line in rows(paper_step(model, count) for count in lanes):
        print(line, flush=True)


def rows(steps: Any) -> Iterator[str]:
    """Lines of the table."""
    yield (
        "| lanes | operations | MB moved | MFLOP | lowered for CUDA (calls) | fits, KiB "
        "| luma, MiB | ms a step | frames/s |"
    )
    yield "|" + "---|" * 9
    for step in steps:
        low, high = estimate(step.cost)
        yield (
            f"| {step.lanes} | {step.cost.operations} | {step.cost.bytes / 1e6:.0f} "
            f"| {step.cost.flops / 1e6:.0f} | {step.lowered} ({step.outside_calls}) "
            f"| {step.state / 2**10:.0f} | {step.frames / 2**20:.1f} "
            f"| {low * 1e3:.1f} to {high * 1e3:.1f} "
            f"| {step.lanes / high:.0f} to {step.lanes / low:.0f} |"
        )
