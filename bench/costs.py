"""What a compiled program costs, from its text and from how often each operation ran.

An operation is what XLA starts by itself: a fusion, a product, a copy; not the loops and branches
around them. Bytes are those of an operation's operands and results, read and written whole;
floating-point operations are counted inside fusions too, a product's sum of n terms as 2n.
"""

import collections
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_CONTROL = {"while", "conditional", "call"}
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "iota"}
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s64": 8, "f64": 8}
_NO_ARITHMETIC = {
    *("broadcast", "reshape", "transpose", "copy", "slice", "concatenate", "pad", "convert"),
    *("gather", "scatter", "dynamic-slice", "dynamic-update-slice", "reverse", "bitcast-convert"),
    *("fusion", "custom-call", "select", "compare", "and", "or", "not", *_FREE, *_CONTROL),
}
_SHAPE = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")
_LINE = re.compile(r"\s*(?:ROOT )?%?([\w.-]+) = (.*)")
_OPCODE = re.compile(r"^(?:\(.*?\)|\S+) ([\w-]+)\((.*)")


class Cost(NamedTuple):
    """Of one run of a program."""

    operations: int
    bytes: float
    flops: float


class Instruction(NamedTuple):
    """A line of a compiled program."""

    opcode: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]  # of the result: dtype and sides
    operands: tuple[str, ...]
    text: str


def read_program(text: str) -> dict[str, dict[str, Instruction]]:
    """Instructions by computation and name."""
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    for line in text.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            current = computations.setdefault(start[1], {})
        elif (found := _LINE.match(line)) and (parts := _OPCODE.match(found[2])):
            result, inside = found[2][: parts.start(1)], parts[2].split(")", 1)[0]
            shapes = tuple(
                (dtype, tuple(int(side) for side in sides.split(",") if side))
                for dtype, sides in _SHAPE.findall(result)
            )
            operands = tuple(re.findall(r"%([\w.-]+)", inside))
            current[found[1]] = Instruction(parts[1], shapes, operands, found[2])
    return computations


def is_operation(instruction: Instruction) -> bool:
    """Whether it would be a kernel on a GPU."""
    return instruction.opcode not in _CONTROL | _FREE


def program_cost(text: str, runs: Mapping[str, int]) -> Cost:
    """Totals over a program.

    Args:
        text: of the compiled program.
        runs: how often each instruction ran, by name; those of fusions' insides do not count.
    """
    computations = read_program(text)
    total: collections.Counter[str] = collections.Counter()
    for instructions in computations.values():
        for name, instruction in instructions.items():
            count = runs.get(name, 0)
            if count and is_operation(instruction):
                total["operations"] += count
                total["bytes"] += count * _bytes(instruction, instructions)
                total["flops"] += count * _flops(instruction, instructions, computations)
    return Cost(total["operations"], total["bytes"], total["flops"])


def _elements(instruction: Instruction) -> int:
    return sum(math.prod(sides) for _, sides in instruction.shapes)


def _bytes(instruction: Instruction, instructions: Mapping[str, Instruction]) -> int:
    touched = [instruction, *(instructions[o] for o in instruction.operands if o in instructions)]
    return sum(
        _SIZES.get(dtype, 4) * math.prod(sides) for each in touched for dtype, sides in each.shapes
    )


def _flops(
    instruction: Instruction,
    instructions: Mapping[str, Instruction],
    computations: Mapping[str, Mapping[str, Instruction]],
) -> int:
    opcode = instruction.opcode
    if opcode == "fusion" and (called := re.search(r"calls=%?([\w.-]+)", instruction.text)):
        inside = computations[called[1]]
        return sum(_flops(each, inside, computations) for each in inside.values())
    if opcode == "dot":
        sides = instructions[instruction.operands[0]].shapes[0][1]
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
        axes = [int(axis) for axis in found[1].split(",") if axis] if found else []
        return 2 * _elements(instruction) * math.prod(sides[axis] for axis in axes)
    if opcode == "custom-call":
        return _library_flops(instruction)
    if opcode in ("reduce", "reduce-window"):
        return _elements(instructions[instruction.operands[0]])
    return 0 if opcode in _NO_ARITHMETIC else _elements(instruction)


def _library_flops(instruction: Instruction) -> int:
    """Of decompositions and triangular solves."""
    *lead, rows, columns = instruction.shapes[0][1]
    if "potrf" in instruction.text:
        return math.prod(lead) * rows**3 // 3
    return math.prod(lead) * rows * rows * columns if "trsm" in instruction.text else 0
