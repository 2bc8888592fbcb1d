"""A whole number that was written as a float works, or is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

SPACE = {"x": mh.Float(-1.0, 1.0, shape=(2,))}
KEY = jax.random.key(0)
POINT = mh.problems.function(lambda h: (h["x"] ** 2).sum())
BOWL = mh.problems.training(
    mh.problems.quadratics(kappa=4.0, dimension=4.0), lambda h: optax.sgd(h["lr"])
)
LR = {"lr": jnp.array(0.1)}
FAMILY = mh.problems.sinusoid(shots=4.0, queries=4.0, hidden=(8.0,))
IMAGES = np.zeros((6, 5, 8, 8, 1), np.uint8)
NETWORK = mh.networks.MLP(hidden=(), bias=(0.0,) * 4, scale=1.0)


def classes(key):
    x, y = jax.random.normal(key, (6, 2)), jnp.arange(6) % 3
    part = mh.problems.Examples(x, y)
    return mh.problems.Episode(part, part)


S, G, M = mh.strategies, mh.hypergrad, mh.meta


def searched(strategy, **options):
    options = {"rounds": 2, "steps": 1} | options
    return mh.search(KEY, POINT, SPACE, strategy, **options)


def estimated(estimator):
    task = BOWL.sample(KEY)
    return estimator.estimate(KEY, LR, task, estimator.init(KEY, LR, task))


def learned(problem):
    task = problem.sample(KEY)
    hparams = problem.initial(KEY)
    return mh.inner.outer_loss(problem, 2.0)(KEY, hparams, task)


def classified(make, ways=3.0, **options):
    family = mh.problems.few_shot(classes, NETWORK, mh.problems.cross_entropy)
    return learned(make(family, ways=ways, **options))


CALLS = {
    **{
        f"{name}(population)": lambda name=name: searched(getattr(S, name)(SPACE, 8.0))
        for name in (
            "random",
            "cma_es",
            "snes",
            "xnes",
            "open_es",
            "differential_evolution",
            "jade",
            "shade",
            "genetic",
            "pso",
            "pbt",
            "pb2",
        )
    },
    "ipop_cma_es": lambda: searched(S.ipop_cma_es(SPACE, 8.0, doublings=2.0)),
    "bipop_cma_es": lambda: searched(S.bipop_cma_es(SPACE, 8.0, doublings=2.0)),
    "l_shade": lambda: searched(S.l_shade(SPACE, 8.0, evaluations=16.0, memory_size=6.0)),
    "shade(memory_size)": lambda: searched(S.shade(SPACE, 8.0, memory_size=6.0)),
    "grid": lambda: searched(S.grid(SPACE, 4.0, points=3.0)),
    "grid_size": lambda: S.grid_size(SPACE, points=3.0),
    "pb2(window)": lambda: searched(S.pb2(SPACE, 4.0, window=8.0)),
    **{
        name: lambda name=name: searched(
            getattr(S, name)(SPACE, 4.0, 4.0, min_steps=1.0, eta=2.0), steps=4.0
        )
        for name in ("successive_halving", "hyperband", "asha")
    },
    "asha(workers)": lambda: searched(S.asha(SPACE, 4.0, 1.0, workers=2.0)),
    "hypergradient": lambda: searched(S.hypergradient(SPACE, 2.0, optax.sgd(0.1))),
    "selection.tournament": lambda: S.selection.tournament(2.0)(KEY, jnp.arange(4.0), 2),
    "crossover.points": lambda: S.crossover.points(2.0)(KEY, jnp.zeros((2, 1, 3))),
    "replacement": lambda: searched(
        S.generational(
            SPACE,
            8.0,
            select=S.selection.tournament(2.0),
            cross=S.crossover.points(2.0),
            mutate=S.mutation.polynomial(SPACE),
            replace=S.replacement.generational(1.0),
        )
    ),
    "search": lambda: searched(S.random(SPACE, 4.0), rounds=2.0, steps=1.0, chunk=2.0),
    "stop": lambda: searched(
        S.random(SPACE, 4),
        stop=mh.stopping.any_of(
            mh.stopping.evaluations(4.0), mh.stopping.stagnation(2.0), mh.stopping.collapse(0, 2.0)
        ),
    ),
    "minimize": lambda: mh.minimize(
        lambda h: 0.0,
        SPACE,
        S.random(SPACE, 4.0),
        rounds=2.0,
        workers=1.0,
        seed=1.0,
        progress=False,
    ),
    "AskTell": lambda: mh.run.AskTell(SPACE, S.random(SPACE, 4.0), rounds=2.0, seed=1.0).ask(),
    "drive": lambda: mh.run.drive(
        mh.run.search_loop(POINT, SPACE, S.random(SPACE, 4), rounds=2.0, steps=1.0),
        KEY,
        chunk=1.0,
        progress=False,
    ),
    "footprint": lambda: mh.run.footprint(
        lambda n: mh.run.search_loop(POINT, SPACE, S.random(SPACE, n), rounds=2, steps=1),
        (2.0, 4.0),
    ),
    "meta_train": lambda: mh.meta_train(
        KEY, BOWL, G.reverse(BOWL, 2.0), LR, optax.sgd(0.1), rounds=2.0, tasks=2.0, chunk=1.0
    ),
    "fresh_losses": lambda: mh.run.fresh_losses(KEY, BOWL, LR, steps=2.0, tasks=2.0),
    "reverse": lambda: estimated(G.reverse(BOWL, 2.0, memory_budget=1e9)),
    "reverse(checkpoint)": lambda: estimated(G.reverse(BOWL, 4.0, checkpoint=4.0)),
    "forward": lambda: estimated(G.forward(BOWL, 2.0, directions=1.0)),
    "truncated": lambda: estimated(G.truncated(BOWL, 4.0, 2.0, burn_in=True)),
    "truncated, on": lambda: estimated(G.truncated(BOWL, 4.0, 2.0, burn_in=False)),
    "truncated, long": lambda: estimated(G.truncated(BOWL, 2.0, 4.0, burn_in=True)),
    "one_step": lambda: estimated(G.one_step(BOWL, 2.0)),
    "first_order": lambda: estimated(G.first_order(BOWL, 2.0)),
    "es": lambda: estimated(G.es(BOWL, 4.0, 2.0, 0.1, window=2.0)),
    "es, whole": lambda: estimated(G.es(BOWL, 4.0, 2.0, 0.1)),
    "pes": lambda: estimated(G.pes(BOWL, 4.0, 2.0, 2.0, 0.1)),
    "pes, own": lambda: estimated(G.pes(BOWL, [4.0, 2.0], [2.0, 1.0], 2.0, 0.1)),
    "nres": lambda: estimated(G.nres(BOWL, 4.0, 2.0, 2.0, 0.1)),
    "quadratics": lambda: mh.problems.quadratics(kappa=4.0, dimension=8.0).sample(KEY),
    "schedule_problem": lambda: learned(
        mh.problems.schedule_problem(
            mh.problems.quadratics(kappa=4.0, dimension=8.0), 3.0
        )._replace(initial=lambda key: {"rates": [jnp.float32(0.1)] * 3})
    ),
    "schedule_space": lambda: mh.problems.schedule_space(3.0),
    "chebyshev_rates": lambda: mh.problems.chebyshev_rates(1.0, 4.0, 3.0),
    "episodes": lambda: mh.problems.episodes(IMAGES, ways=3.0, shots=1.0, queries=2.0)(KEY),
    "averaged": lambda: mh.inner.outer_loss(mh.problems.averaged(BOWL, 2.0), 2.0)(
        KEY, LR, BOWL.sample(KEY)
    ),
    "digits": lambda: mh.problems.digits(max_width=8.0).sample(KEY),
    "sinusoid": lambda: FAMILY.sample(KEY),
    "few_shot(ways)": lambda: mh.problems.few_shot(
        classes, NETWORK, mh.problems.cross_entropy, ways=4.0
    ),
    "conv4": lambda: mh.networks.conv4(outputs=5.0, filters=4.0, layers=2.0).init(
        KEY, jnp.zeros((1, 8, 8, 1))
    ),
    "masked_mlp": lambda: mh.problems.MaskedMLP(2.0, 4.0, 1.0).init(KEY, 2),
    "neural_process": lambda: learned(M.neural_process(FAMILY, width=8.0, depth=2.0)),
    "attentive_neural_process": lambda: learned(
        M.attentive_neural_process(FAMILY, width=8.0, depth=2.0, heads=2.0)
    ),
    "snail": lambda: learned(M.snail(FAMILY, filters=4.0, keys=4.0, blocks=1.0)),
    "maml_plus_plus": lambda: learned(M.maml_plus_plus(FAMILY, 2.0)),
    "step_weights": lambda: M.step_weights(0.5, 3.0),
    "cavia": lambda: learned(M.cavia(FAMILY, 0.1, contexts=2.0)),
    "ridge_head": lambda: classified(M.ridge_head),
    "logistic_head": lambda: classified(M.logistic_head, iterations=2.0),
    "matching": lambda: classified(M.matching, context_steps=1.0),
    "relation": lambda: classified(M.relation, hidden=(8.0,)),
    "learner": lambda: M.learner(M.maml(FAMILY, 0.01), steps=2.0)[0](
        M.initial_params(KEY, FAMILY), FAMILY.sample(KEY).support, KEY
    ),
    "evaluate": lambda: M.evaluate(
        KEY,
        M.learner(M.maml(FAMILY, 0.01), steps=1.0),
        M.initial_params(KEY, FAMILY),
        FAMILY.sample,
        mh.problems.squared_error,
        episodes=4.0,
        chunk=2.0,
        modes=("transductive",),
    ),
    "adaptation_curve": lambda: M.adaptation_curve(
        KEY,
        M.maml(FAMILY, 0.01),
        M.initial_params(KEY, FAMILY),
        mh.problems.squared_error,
        steps=2.0,
        episodes=4.0,
        chunk=2.0,
    ),
    "Float(shape)": lambda: mh.space.sample(KEY, {"x": mh.Float(0, 1, shape=(2.0,))}),
    "Int(step)": lambda: mh.space.sample(KEY, {"x": mh.Int(0.0, 8.0, step=2.0)}),
    "readable(digits)": lambda: mh.space.readable(
        {"x": mh.Float(0, 1)}, {"x": np.float32(0.123)}, digits=2.0
    ),
    "optimizer_environment": lambda: mh.rl.optimizer_environment(
        FAMILY, optax.sgd(0.1), steps=2.0, history=2.0
    ).reset(KEY, FAMILY.sample(KEY)),
    "tuning_environment": lambda: mh.rl.tuning_environment(
        BOWL, {"lr": mh.Float(0.01, 0.1)}, segment_steps=2.0, segments=2.0
    ).reset(KEY, BOWL.sample(KEY)),
}


ON_THE_HOST = ("minimize", "AskTell", "drive", "footprint", "digits", "readable(digits)")


@pytest.mark.parametrize("name", CALLS)
def test_whole_numbers_may_be_floats(name):
    call = CALLS[name]
    try:
        if name in ON_THE_HOST:
            call()
        else:  # what shapes depend on is known when it is traced; nothing need be compiled
            jax.eval_shape(lambda: (call(), None)[1])
    except ValueError as error:
        assert "whole" in str(error), error
