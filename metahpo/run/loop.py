"""A run as data: what is carried from round to round, and how one round goes.

``search`` and ``meta_train`` are loops of this form, so the compiled whole (``scan``) and the
chunked, resumable drive from the host (``metahpo.run.host``) are written once for all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from metahpo.base import Key, PyTree


class Loop(NamedTuple):
    """A run of ``rounds`` equal rounds.

    Attributes:
        init: ``(key) -> carry``.
        step: ``(key, carry) -> (carry, record)``, one round; the carry counts the rounds, and a
            round's randomness depends on the key and that count alone.
        finish: ``(carry, history) -> result``; ``history`` holds the records with a leading axis
            ``[rounds]``.
        rounds: number of rounds (static).
    """

    init: Callable[[Key], PyTree]
    step: Callable[[Key, PyTree], tuple[PyTree, PyTree]]
    finish: Callable[[PyTree, PyTree], Any]
    rounds: int


def scan(loop: Loop, key: Key) -> Any:
    """Runs all rounds as one ``lax.scan``: pure, so it may be jitted and vmapped over keys."""
    init_key, round_key = loop_keys(key)
    carry, history = jax.lax.scan(
        lambda carry, _: loop.step(round_key, carry), loop.init(init_key), length=loop.rounds
    )
    return loop.finish(carry, history)


def loop_keys(key: Key) -> tuple[Key, Key]:
    """The keys of a run's ``init`` and of its rounds."""
    init_key, round_key = jax.random.split(key)
    return init_key, round_key


def check_positive(**numbers: int) -> None:
    """Raises ``ValueError`` unless all are whole numbers of at least 1."""
    for name, number in numbers.items():
        if number != int(number) or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {number}")
