"""Environments of every kind that no id is registered for."""

import jax.numpy as jnp
import optax

import metahpo as mh


def several():
    """Two choices a step, one of them an array, named; the state is what was chosen."""
    actions = {"first": mh.Choice(("a", "b")), "rest": mh.Choice(range(3), shape=(2,))}

    def step(key, state, action):
        time, _ = state
        reward = action["first"] + 10.0 * action["rest"][0] + 100.0 * action["rest"][1]
        ended = time + 1 >= 3
        return (time + 1, action), mh.rl.Transition(reward, jnp.array(False), ended)

    nothing = {"first": jnp.int32(0), "rest": jnp.zeros(2, jnp.int32)}
    return mh.rl.Environment(
        reset=lambda key, task: (jnp.int32(0), nothing),
        step=step,
        observe=lambda state: state[1],
        action_space=actions,
        observation_space=actions,
    )


BOWL = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2 + h["kind"])
SPACE = {"x": mh.Float(0.0, 1.0), "kind": mh.Choice((0, 1))}
FAMILY = mh.problems.quadratics(3, kappa=10.0)
OWN = {
    "tuning by choices": lambda: mh.rl.tuning_environment(BOWL, SPACE, 1, 3),
    "tuning by numbers": lambda: mh.rl.tuning_environment(
        BOWL, SPACE, 1, 3, moves=mh.Float(-0.1, 0.1)
    ),
    "which optimiser": lambda: mh.rl.optimizer_environment(
        FAMILY, {"slow": optax.sgd(0.1), "adam": optax.adam(0.1)}, 3
    ),
    "how far": lambda: mh.rl.optimizer_environment(FAMILY, optax.sgd(0.1), 3),
    "rates": lambda: mh.rl.chebyshev(10.0, 5, continuous=True).environment,
    "several choices": several,
}
