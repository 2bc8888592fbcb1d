"""Every rung of the ladder at a small size, and what is asked of each.

As a program: reads weights, writes the updates that a rule of this process makes of them.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import learned_optimizers as lo

LIKE = {"b": np.zeros(2), "w": np.zeros((3, 2))}


class Rung(NamedTuple):
    """A rule, and the invariances that it claims."""

    rule: lo.UpdateRule
    permutation: bool = True  # of the rows and columns of a matrix
    scale: bool = False  # of all gradients


LADDER = {
    "learnable": Rung(lo.learnable(optax.adamw, {"learning_rate": 0.1, "b1": 0.8})),
    "learnable, per layer and parameter": Rung(
        lo.learnable(
            optax.adam,
            {"learning_rate": 0.1, "b1": 0.8, "eps": 1e-3},
            per={"learning_rate": "parameter", "b1": "layer"},
            like=LIKE,
        ),
        permutation=False,
    ),
    "scheduled": Rung(
        lo.scheduled(
            optax.adam,
            {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-3},
            {"learning_rate": lo.spline(5, 5), "b1": lo.polynomial(5, 2), "b2": lo.per_step(4)},
        )
    ),
    "per_parameter_mlp": Rung(lo.per_parameter_mlp(hidden=4, rate=0.05), scale=True),
    "factored_mlp": Rung(lo.factored_mlp(rate=0.05), scale=True),
    "recurrent": Rung(lo.recurrent(hidden=3)),
    "two_level": Rung(lo.two_level(hidden=4, memory=3, rate=0.05), scale=True),
    "steered": Rung(lo.steered(hidden=4, rate=0.05), scale=True),
    "mixture": Rung(
        lo.mixture(
            {"adam": optax.adam(0.1), "sgd": optax.sgd(0.1)}, like=LIKE, curve=lo.polynomial(5, 1)
        )
    ),
    "corrected": Rung(
        lo.corrected(lo.learnable(optax.sgd, {"learning_rate": 0.1}), lo.symbolic(["sign"])),
    ),
    "symbolic": Rung(lo.symbolic(rate=0.05)),
    "symbolic, of unit scale": Rung(
        lo.symbolic(["adam", "sign", "sign_momentum", "lion", "rms_prop", "decay"]), scale=True
    ),
}


def busy_weights(rule, seed=0):
    """Weights with nothing left at zero, as after a meta-training."""
    start, noise = jax.random.split(jax.random.key(seed))
    weights = rule.init(start)
    return optax.tree.add_scale(weights, 0.3, optax.tree.random_like(noise, weights))


def params_of(key):
    return optax.tree.random_like(key, jax.tree.map(jnp.asarray, LIKE))


def gradients(key, steps):
    """``steps`` gradients, stacked."""
    return jax.vmap(params_of)(jax.random.split(key, steps))


def scanned(optimizer, params, grads):
    """All updates of a sequence of given gradients."""

    def step(carry, grad):
        params, state = carry
        update, state = optimizer.update(grad, state, params, value=jnp.array(1.0))
        return (optax.apply_updates(params, update), state), update

    return jax.lax.scan(step, (params, optimizer.init(params)), grads)[1]


def updates_of(name, weights):
    optimizer = LADDER[name].rule.transform(weights)
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), 3)
    return scanned(optimizer, params, grads)


def every_weights():
    """One of each kind."""
    kinds = [name for name in LADDER if name not in ("learnable", "symbolic, of unit scale")]
    return {name: busy_weights(LADDER[name].rule) for name in kinds}


def all_updates(weights):
    return {name: updates_of(name, own) for name, own in weights.items()}


if __name__ == "__main__":
    source, target = sys.argv[1:]
    jax.config.update("jax_enable_x64", True)
    like = jax.eval_shape(every_weights)
    weights = mh.report.load_npz(source, like=like)
    mh.report.save_npz(target, jax.jit(all_updates)(weights))
