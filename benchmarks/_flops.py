"""Floating-point operations of a compiled program with loops, by XLA's rules.

XLA's own ``cost_analysis`` counts the body of a loop once, however often it runs.  But the
optimised program says how often: ``known_trip_count`` stands beside every ``while`` that a scan
became.  So the program's text is walked by XLA's rules (2 m n k for a matrix product, 1 an element
for arithmetic, 0 for transcendental functions and for moving data) and every loop's body is
multiplied by its trip count.

The walk proves itself: with every trip count taken as one it must come to the figure of
``cost_analysis`` within one in a thousand, or ``flops`` refuses.  Counting the optimised program is
right where counting the traced one is not: there, dead code and what XLA merges would count too.
The programs counted are those of the CPU, whose matrix products stay visible as ``dot``; on a GPU
they become library calls that say nothing, so compile for the CPU to count.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>\S+) = (?P<type>\(.*?\)|\S+) (?P<opcode>[a-z][\w-]*)\((?P<rest>.*)$"
)
HEADER = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>\S+) \(.*\{$")
SHAPE = re.compile(r"\w+\[([\d,]*)\]")
CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

# What counts one operation an element; all that stands nowhere here counts nothing.
NAMES = (
    "abs add and ceil clamp clz compare convert divide floor imag is-finite maximum minimum "
    "multiply negate not or popcnt real reduce-precision remainder round-nearest-afz "
    "round-nearest-even select shift-left shift-right-arithmetic shift-right-logical sign subtract "
    "xor"
)
ARITHMETIC = set(NAMES.split())


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    type: str
    opcode: str
    rest: str


def flops(compiled: Any) -> float:
    """Operations of ``jax.jit(f).lower(...).compile()``, loops counted as often as they run.

    Raises:
        ValueError: if a loop does not say how often it runs, or if the walk does not agree with
            XLA's own count of the program with every loop run once.
    """
    computations, entry = parse(compiled.as_text())
    once = count(computations, entry, lambda loop: 1)
    known = compiled.cost_analysis()["flops"]
    if abs(once - known) > 1e-3 * known:
        raise ValueError(f"counted {once:.6g} operations a pass, XLA's own count is {known:.6g}")
    return count(computations, entry, trips)


def of(fn: Callable[..., Any], *arguments: Any) -> float:
    """Operations of ``fn(*arguments)``, compiled for the CPU."""
    with jax.default_device(jax.devices("cpu")[0]):
        return flops(jax.jit(fn).lower(*arguments).compile())


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a program by name, and the name of the first to run."""
    computations: dict[str, list[Instruction]] = {}
    current, entry = "", ""
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = header["name"]
            computations[current] = []
            entry = current if header["entry"] else entry
        elif current and (found := INSTRUCTION.match(line)):
            computations[current].append(Instruction(**found.groupdict()))
    return computations, entry


def trips(loop: Instruction) -> int:
    """How often a ``while`` runs."""
    if found := TRIPS.search(loop.rest):
        return int(found[1])
    raise ValueError(f"the loop {loop.name} does not say how often it runs")


def count(
    computations: dict[str, list[Instruction]], entry: str, trips: Callable[[Instruction], int]
) -> float:
    """Operations of the computation ``entry`` and of all that it calls."""
    totals: dict[str, float] = {}

    def total(name: str) -> float:
        if name not in totals:
            types = {instruction.name: instruction.type for instruction in computations[name]}
            totals[name] = sum(cost(i, types, total, trips) for i in computations[name])
        return totals[name]

    return total(entry)


def cost(
    instruction: Instruction,
    types: dict[str, str],
    total: Callable[[str], float],
    trips: Callable[[Instruction], int],
) -> float:
    """Operations of one instruction."""
    opcode, rest = instruction.opcode, instruction.rest
    if opcode in ARITHMETIC:
        return elements(instruction.type)
    operands = re.findall(r"%([\w.-]+)", rest.split(")")[0])
    if opcode == "dot":
        (dimensions,) = re.findall(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
        shape = sizes(types[operands[0]])
        contracted = math.prod(shape[int(d)] for d in dimensions.split(",") if d)
        return 2.0 * elements(instruction.type) * contracted
    called = CALLED.findall(rest)
    if opcode == "while":
        return trips(instruction) * sum(map(total, called))
    if opcode in ("fusion", "call"):
        return sum(map(total, called))
    if opcode == "conditional":
        branches = BRANCHES.search(rest)
        names = re.findall(r"%([\w.-]+)", branches[1]) if branches else []
        names += re.findall(r"(?:true|false)_computation=%([\w.-]+)", rest)
        return max(map(total, names))  # one of them runs
    if opcode == "reduce":
        merged = elements(types[operands[0]]) - elements(instruction.type)
        return max(merged, 0.0) * sum(map(total, called))
    if opcode == "scatter":
        return elements(types[operands[-1]]) * sum(map(total, called))  # of the updates
    return 0.0


def elements(type_: str) -> float:
    """Elements of an array's type, or of the first array of a tuple's."""
    return float(math.prod(sizes(type_)))


def sizes(type_: str) -> list[int]:
    """``f32[3,4]{1,0}`` -> ``[3, 4]``."""
    found = SHAPE.search(type_)
    return [int(d) for d in found[1].split(",") if d] if found else []
