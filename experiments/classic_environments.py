"""CartPole and Acrobot: gymnasium's dynamics as environments of the library.

Not part of the library, which has no benchmarks of control; ``tests/rl/test_classic_control.py``
holds them to gymnasium's step by step.  The limit of 500 steps truncates, as the time is not
observed.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

import metahpo as mh
from metahpo.rl import Environment, Transition

MOST_STEPS = 500


class Body(NamedTuple):
    """Where a mechanism is.

    Attributes:
        place: ``f[4]``, coordinates and velocities.
        time: ``i32[]``, steps made.
    """

    place: chex.Array
    time: chex.Array


def cart_pole() -> Environment:
    """A pole on a cart that is pushed left or right (Barto, Sutton & Anderson 1983): 1 a step."""
    gravity, cart, pole, half, force, seconds = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    mass = cart + pole
    widest, steepest = 2.4, 12 * 2 * math.pi / 360

    def move(place: chex.Array, action: chex.Array) -> chex.Array:
        _, speed, angle, turn = place
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        push = (jnp.where(action == 1, force, -force) + pole * half * turn**2 * sine) / mass
        turning = (gravity * sine - cosine * push) / (half * (4 / 3 - pole * cosine**2 / mass))
        speeding = push - pole * half * turning * cosine / mass
        return place + seconds * jnp.stack([speed, speeding, turn, turning])

    def outcome(place: chex.Array) -> tuple[chex.Array, chex.Array]:
        fallen = (jnp.abs(place[0]) > widest) | (jnp.abs(place[2]) > steepest)
        return jnp.ones_like(place[0]), fallen

    return _mechanism(0.05, move, outcome, lambda place: place, 4, ("left", "right"))


def acrobot() -> Environment:
    """Two links that swing up by a torque at the elbow (Sutton 1996): -1 a step until they do.

    Both links have length, mass and moment of inertia 1; the equations are those of Sutton &
    Barto's book, by Runge & Kutta's method of order 4 over 0.2 s.
    """
    gravity, seconds = 9.8, 0.2
    fastest = jnp.array([4 * math.pi, 9 * math.pi])

    def slopes(place: chex.Array, torque: chex.Array) -> chex.Array:
        first, second, one, two = place
        sine, cosine = jnp.sin(second), jnp.cos(second)
        d1, d2 = 3.5 + cosine, 1.25 + 0.5 * cosine
        phi2 = 0.5 * gravity * jnp.sin(first + second)
        phi1 = 1.5 * gravity * jnp.sin(first) + phi2 - 0.5 * two * (two + 2 * one) * sine
        pull = torque + d2 / d1 * phi1 - 0.5 * one**2 * sine - phi2
        bend = pull / (1.25 - d2**2 / d1)
        return jnp.stack([one, two, -(d2 * bend + phi1) / d1, bend])

    def move(place: chex.Array, action: chex.Array) -> chex.Array:
        torque = (action - 1).astype(place.dtype)
        k1 = slopes(place, torque)
        k2 = slopes(place + seconds / 2 * k1, torque)
        k3 = slopes(place + seconds / 2 * k2, torque)
        k4 = slopes(place + seconds * k3, torque)
        place = place + seconds / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        most = fastest.astype(place.dtype)
        return jnp.concatenate([_wrapped(place[:2]), jnp.clip(place[2:], -most, most)])

    def outcome(place: chex.Array) -> tuple[chex.Array, chex.Array]:
        up = -jnp.cos(place[0]) - jnp.cos(place[0] + place[1]) > 1
        return jnp.where(up, 0, -jnp.ones_like(place[0])), up

    def seen(place: chex.Array) -> chex.Array:
        first, second, one, two = place
        return jnp.stack(
            [jnp.cos(first), jnp.sin(first), jnp.cos(second), jnp.sin(second), one, two]
        )

    return _mechanism(0.1, move, outcome, seen, 6, ("back", "none", "forth"))


def _wrapped(angle: chex.Array) -> chex.Array:
    """Between -pi and pi."""
    return angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))


def _mechanism(
    spread: float,
    move: Callable[[chex.Array, chex.Array], chex.Array],
    outcome: Callable[[chex.Array], tuple[chex.Array, chex.Array]],
    seen: Callable[[chex.Array], chex.Array],
    size: int,
    actions: tuple[str, ...],
) -> Environment:
    """An environment of a mechanism that begins within ``spread`` of rest."""

    def reset(key: mh.base.Key, task: mh.base.Task) -> Body:
        del task
        return Body(jax.random.uniform(key, (4,), float, -spread, spread), jnp.int32(0))

    def step(key: mh.base.Key, state: Body, action: chex.Array) -> tuple[Body, Transition]:
        del key
        place, time = move(state.place, action), state.time + 1
        reward, ended = outcome(place)
        return Body(place, time), Transition(reward, ended, (time >= MOST_STEPS) & ~ended)

    return Environment(
        reset,
        step,
        lambda state: seen(state.place),
        mh.Choice(actions),
        mh.Float(-1000.0, 1000.0, shape=(size,)),  # velocities of the cart have no bounds
    )
