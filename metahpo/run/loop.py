"""A run as data: what is carried from round to round, and how one round goes.

``search`` and ``meta_train`` are loops of this form, so the compiled whole (``scan``) and the
chunked, resumable drive from the host (``metahpo.run.host``) are written once for all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.floats import typed_key
from metahpo.lanes import freeze, highest

P = ParamSpec("P")
T = TypeVar("T")


class Loop(NamedTuple):
    """A run of at most ``rounds`` equal rounds.

    Attributes:
        init: ``(key) -> carry``.
        step: ``(key, carry) -> (carry, record)``, one round; the carry counts the rounds, and a
            round's randomness depends on the key and that count alone.
        finish: ``(carry, history) -> result``; ``history`` holds the records with a leading axis
            ``[rounds]``.
        rounds: number of rounds (static).
        keys: ``(key, t i32[]) -> keys`` of round ``t``, which ``step`` then gets in place of the
            run's key.  They are hashed for all rounds at once, which a CPU does in half the time
            that it takes for many small hashes.
        draw: ``(keys of some rounds) -> inputs``, both with a leading axis: what ``step`` then
            gets in place of its keys.  Needs ``keys``.
        ahead: number of rounds, one that divides ``rounds``, that ``draw`` serves at once.
        done: ``(carry) -> bool[]``: whether the run ends before its last round.
        blank: ``(record) -> record``: what the history says of a round that was not run; needed
            with ``done``.
        plain: ``() -> loop``, the same run in one piece on one device, by which it is told from
            others; ``None`` if it is that itself.
    """

    init: Callable[[Key], PyTree]
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
    finish: Callable[[PyTree, PyTree], Any]
    rounds: int
    keys: Callable[[Key, chex.Array], PyTree] | None = None
    draw: Callable[[PyTree], PyTree] | None = None
    ahead: int = 1
    done: Callable[[PyTree], chex.Array] | None = None
    blank: Callable[[PyTree], PyTree] | None = None
    plain: Callable[[], "Loop"] | None = None


def scan(loop: Loop, key: Key) -> Any:
    """Runs all rounds in one compiled loop: pure, so it may be jitted and vmapped over keys.

    A loop that may be ``done`` ends when it is; under ``vmap`` when all lanes are, and a lane's
    result is that of its run alone.
    """
    init_key, round_key = loop_keys(key)
    keys = round_keys(loop, round_key)
    carry = loop.init(init_key)
    if loop.done is not None:
        loop = loop._replace(step=traced_once(loop.step))
        carry = jax.tree.map(strongly_typed, carry)
        history = empty_history(loop, keys, carry)
        _, (carry, history) = advance(loop, keys, (carry, history), 0, loop.rounds)
        return loop.finish(carry, history)

    def body(carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
        return loop.step(round_key if loop.keys is None else xs, carry)

    draw = loop.draw
    if draw is None:
        xs = None if loop.keys is None else keys
        carry, history = jax.lax.scan(body, carry, xs, length=loop.rounds)
        return loop.finish(carry, history)

    def block(carry: PyTree, keys: PyTree) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(body, carry, draw(keys))

    blocks = jax.tree.map(lambda key: key.reshape(-1, loop.ahead, *key.shape[1:]), keys)
    carry, history = jax.lax.scan(block, carry, blocks)
    return loop.finish(carry, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), history))


def advance(
    loop: Loop, keys: PyTree, state: PyTree, start: chex.Numeric, stop: chex.Numeric
) -> tuple[chex.Array, PyTree]:
    """Runs the rounds ``start ... stop - 1``, or until the loop is done.

    Args:
        loop: the run.
        keys: from ``round_keys``.
        state: ``(carry, history)``.
        start: rounds behind ``state``; the same in all lanes.
        stop: the round to stop before.

    Returns:
        The rounds behind the new state (the most of all lanes), and the new state.
    """

    def goes_on(x: PyTree) -> chex.Array:
        t, (carry, _) = x
        if loop.done is None:
            return t < stop
        return (t < stop) & highest(~loop.done(carry))

    def round_of(inputs: PyTree, first: chex.Numeric) -> Callable[[PyTree], PyTree]:
        def body(x: PyTree) -> PyTree:
            t, (carry, history) = x
            new, record = loop.step(_of_round(loop, inputs, t - first), carry)
            if loop.done is not None and loop.blank is not None:
                done = loop.done(carry)
                new, record = freeze(done, (new, record), (carry, loop.blank(record)))
            history = jax.tree.map(lambda rows, row: rows.at[t].set(row), history, record)
            return t + 1, (new, history)

        return body

    start = jnp.asarray(start, jnp.int32)
    draw = loop.draw
    if draw is None:
        return jax.lax.while_loop(goes_on, round_of(keys, 0), (start, state))

    def block(x: PyTree) -> PyTree:
        # It begins where it does in ``scan``, so that the same program draws the same numbers.
        first = x[0] // loop.ahead * loop.ahead
        last = first + loop.ahead
        some = jax.tree.map(lambda key: jax.lax.dynamic_slice_in_dim(key, first, loop.ahead), keys)
        within = round_of(draw(some), first)
        return jax.lax.while_loop(lambda x: goes_on(x) & (x[0] < last), within, x)

    return jax.lax.while_loop(goes_on, block, (start, state))


def empty_history(loop: Loop, keys: PyTree, carry: PyTree) -> PyTree:
    """The history before the first round: blank rows, or zeros."""
    shapes = jax.eval_shape(lambda keys, carry: _first_round(loop, keys, carry)[1], keys, carry)
    row = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    row = row if loop.blank is None else loop.blank(row)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (loop.rounds, *x.shape)), row)


def one_round(loop: Loop, key: Key, carry: PyTree) -> tuple[PyTree, PyTree]:
    """The carry and the record of the first round, from the key of all rounds."""
    return _first_round(loop, round_keys(loop, key), carry)


def _first_round(loop: Loop, keys: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
    if loop.draw is not None:
        keys = loop.draw(jax.tree.map(lambda key: key[: loop.ahead], keys))
    return loop.step(_of_round(loop, keys, 0), carry)


def traced_once(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose one trace serves all calls with arguments of the same types.

    A run is asked for the shapes of a round before it goes through one.
    """

    def own(*args: P.args, **kwargs: P.kwargs) -> T:  # has a hash, and a memory of its own
        return function(*args, **kwargs)

    return jax.jit(own, inline=True)


def loop_keys(key: Key) -> tuple[Key, Key]:
    """The keys of a run's ``init`` and of its rounds; typed ones, whatever the run's is."""
    init_key, round_key = jax.random.split(typed_key(key))
    return init_key, round_key


def round_keys(loop: Loop, key: Key) -> PyTree:
    """``loop.keys`` of all rounds, with a leading axis ``[rounds]``; else the key of all rounds."""
    return (
        key if loop.keys is None else jax.vmap(loop.keys, (None, 0))(key, jnp.arange(loop.rounds))
    )


def _of_round(loop: Loop, keys: PyTree, t: chex.Numeric) -> PyTree:
    return keys if loop.keys is None else jax.tree.map(lambda key: key[t], keys)


def strongly_typed(leaf: Any) -> jax.Array:
    """A weak type would be gone after the first round, and with it the program's signature."""
    leaf = jnp.asarray(leaf)
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)
