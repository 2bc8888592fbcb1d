"""Loops that trade memory for time under reverse mode: nested scans with ``jax.checkpoint``.

A loop of ``T`` steps that keeps every value needs memory for ``T`` steps.  Cut into ``n_1`` pieces
of ``n_2`` steps, of which only the first state is kept, it needs ``n_1 + n_2`` states and one more
evaluation of every step; ``k`` such levels cover ``n_1 n_2 ... n_k`` steps with ``n_1 + ... + n_k``
states and ``k - 1`` more evaluations (Griewank & Walther 2008, ch. 12).  Their binomial schedule
needs fewer states for the same work, but frees a state in the middle of a loop, which XLA's loops
cannot; nested scans have no custom derivative, so every transformation composes, and their
compile time does not grow with ``T``.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from metahpo.base import PyTree

Checkpoint: TypeAlias = str | int
MODES = ("none", "step", "sqrt", "unrolled")

# Steps from which on a loop is cut into loops, for the sake of its derivative's digits.
LONG = 4096

Body = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


class Plan(NamedTuple):
    """How a loop is cut.

    Attributes:
        levels: lengths of the nested loops, the outermost first; ``()`` keeps everything.
        block: steps that are differentiated at once in the innermost loop.
        tail: steps after the nested loops, in a loop of their own that stores every state.
        unrolled: no loop in the program at all, the steps are written out and keep everything.
    """

    levels: tuple[int, ...]
    block: int = 1
    tail: int = 0
    unrolled: bool = False

    @property
    def states(self) -> int:
        """States that are stored at the same time."""
        inner = sum(self.levels[1:]) + self.block - 1
        return self.levels[0] + max(inner, self.tail) if self.levels else 0

    @property
    def evaluations(self) -> int:
        """How often every step is evaluated before its derivative, at most."""
        return 1 + len(self.levels)


def plan(steps: int, checkpoint: Checkpoint) -> Plan:
    """The plan of a mode, or the one with the fewest evaluations in ``checkpoint`` states.

    Raises:
        ValueError: if ``checkpoint`` is no mode and no positive whole number, or so few states
            that no nesting of loops covers ``steps``.
    """
    if checkpoint == "unrolled" or (checkpoint in MODES and steps == 1):
        return Plan((), unrolled=True)
    if checkpoint == "none":
        return Plan(())
    if checkpoint == "step" or (checkpoint == "sqrt" and steps < 4):
        return Plan((steps,))
    if checkpoint == "sqrt":
        length = math.isqrt(steps)
        return Plan((steps // length, length), tail=steps % length)
    if isinstance(checkpoint, bool | str) or checkpoint != int(checkpoint) or checkpoint < 1:
        raise ValueError(
            f"checkpoint must be one of {MODES} or a number of states, got {checkpoint!r}"
        )
    return _fewest_evaluations(steps, int(checkpoint))


@functools.lru_cache(maxsize=1024)
def _fewest_evaluations(steps: int, states: int) -> Plan:
    found = _search(steps, states)
    if found is not None:
        return found
    raise ValueError(
        f"checkpoint={states} stored states cannot hold {steps} steps, "
        f"{least_states(steps)} is the least"
    )


def least_states(steps: int) -> int:
    """The smallest number of stored states for which there is a plan."""
    return next(states for states in itertools.count(1) if _search(steps, states) is not None)


def _search(steps: int, states: int) -> Plan | None:
    if steps <= states:
        return Plan((steps,))
    for depth, block in itertools.product(range(2, states // 2 + 1), (1, 2)):
        fitting = [p for p in _plans(steps, depth, block) if p.states <= states]
        if fitting:
            return min(fitting, key=lambda p: (p.tail > 0, p.states))
    return None


def _plans(steps: int, depth: int, block: int) -> Iterator[Plan]:
    """Plans whose inner levels are about equally long, which covers the most steps."""
    length = round((steps / block) ** (1 / depth))
    lengths = range(max(2, length // 2), 2 * length + 1)
    for inner in itertools.combinations_with_replacement(lengths, depth - 1):
        piece = block * math.prod(inner)
        if piece <= steps:
            yield Plan((steps // piece, *inner), block, steps % piece)


def scan(body: Body, state: PyTree, xs: chex.Array, plan: Plan) -> tuple[PyTree, PyTree]:
    """``jax.lax.scan(body, state, xs)``, keeping what the plan says for reverse mode."""
    if plan.unrolled:
        # One program even where nothing around is compiled, or its digits would be others than a
        # loop's.
        return jax.jit(functools.partial(_written_out, body))(state, xs)
    if not plan.levels:
        return _in_pieces(keep_products(body))(state, xs)
    count = xs.shape[0] - plan.tail
    step = _remat(body)
    block = functools.partial(jax.lax.scan, keep_products(body))
    piece = step if plan.block == 1 else _remat(block)
    lengths = plan.levels if plan.block == 1 else (*plan.levels, plan.block)
    nested = xs[:count].reshape(*lengths, *xs.shape[1:])
    state, head = _nest(piece, len(plan.levels))(state, nested)
    head = jax.tree.map(lambda x: x.reshape(count, *x.shape[len(lengths) :]), head)
    if not plan.tail:
        return state, head
    state, tail = jax.lax.scan(step, state, xs[count:])
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), head, tail)


def _written_out(body: Body, state: PyTree, xs: chex.Array) -> tuple[PyTree, PyTree]:
    """A Python loop: under ``vmap`` what the first step shares between members stays shared."""
    outs = []
    for x in xs:
        state, out = body(state, x)
        outs.append(out)
    if not outs:
        return jax.lax.scan(body, state, xs)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)


def _nest(piece: Body, depth: int) -> Body:
    """``depth`` nested scans over ``piece``, each keeping the states that it passes on."""
    loop = _in_pieces(piece)
    return loop if depth == 1 else _nest(_remat(loop), depth - 1)


def _in_pieces(body: Body) -> Body:
    """``jax.lax.scan`` of ``body``; a long one as a loop of loops.

    Reverse mode adds a hyperparameter's gradient up over the steps of a loop.  In single precision
    one sum of a million terms has lost four digits; sums of pieces keep them and cost nothing.
    """

    def loop(state: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
        count = jax.tree.leaves(xs)[0].shape[0]
        if count < LONG:
            return jax.lax.scan(body, state, xs)
        length = math.isqrt(count)
        whole = count // length * length
        cut = jax.tree.map(lambda x: x[:whole].reshape(-1, length, *x.shape[1:]), xs)
        state, head = jax.lax.scan(functools.partial(jax.lax.scan, body), state, cut)
        head = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), head)
        if whole == count:
            return state, head
        state, tail = jax.lax.scan(body, state, jax.tree.map(lambda x: x[whole:], xs))
        return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), head, tail)

    return loop


# Inside a scan nothing can be merged with the first computation, so CSE needs no barrier.
_remat: Any = functools.partial(jax.checkpoint, prevent_cse=False)  # type: ignore[attr-defined]

ARITHMETIC = {"abs", "add", "add_any", "div", "integer_pow", "mul", "neg", "sign", "square", "sub"}
FUNCTIONS = {"cos", "exp", "exp2", "expm1", "log", "log1p", "logistic", "pow", "sin", "tanh"}
ROOTS = {"rsqrt", "sqrt"}
LOGIC = {"and", "eq", "ge", "gt", "is_finite", "le", "lt", "ne", "not", "or", "xor"}
CHOICES = {"clamp", "max", "min", "select_n", "stop_gradient"}
MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze", "transpose"}
CHEAP = ARITHMETIC | FUNCTIONS | ROOTS | LOGIC | CHOICES | MOVES


def keep_products(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn``, of which reverse mode keeps every intermediate value that is not elementwise.

    Memory traffic, not arithmetic, bounds a loop that keeps everything, and an MLP's activations
    and their derivatives follow from its matrix products.
    """
    return _remat(fn, policy=_is_kept)


def _is_kept(primitive: Any, *inputs: Any, **_: Any) -> bool:
    # What is complex is computed again: JAX has no way of keeping it, but by keeping everything.
    makes_complex = primitive.name in ("complex", "fft")
    return not (
        primitive.name in CHEAP
        or makes_complex
        or any(jnp.issubdtype(aval.dtype, jnp.complexfloating) for aval in inputs)
    )
