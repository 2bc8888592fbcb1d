"""The comparison on the exact problem: learned rates for gradient descent on quadratics.

Spectrum in [1, kappa], ``STEPS`` steps, the worst-case error ratio as the loss.  The best schedule
is Chebyshev's and the best constant rate is 2 / (L + mu), so every method's distance from the
optimum is known.  A grid does not apply: two values for each of 20 rates are a million trainings.
Reptile does not either: it cannot see a rate.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import hypergrad, inner, learned_optimizers, rl, strategies
from metahpo.base import Estimator, HParams, Key, Problem, PyTree, Strategy
from metahpo.problems import (
    chebyshev_rates,
    chebyshev_ratio,
    quadratics,
    schedule_problem,
    schedule_space,
    training,
)
from metahpo.run import meta_train, search
from metahpo.space import Float, decode
from metahpo.study.setting import Setting
from metahpo.study.trials import Trials, timed

KAPPA, STEPS = 100.0, 20
POWER = 32.0
SPACE = schedule_space(STEPS, kappa=KAPPA)
OPTIMUM = chebyshev_ratio(KAPPA, STEPS)


def problem(power: float = math.inf) -> Problem:
    """The schedule's problem; its loss is the logarithm of the worst-case error ratio.

    A finite ``power`` makes it a smooth bound, which suits gradients: at the optimum of the ratio
    itself 21 maxima are equal, and the gradient of only one of them is seen at a time.
    """
    return schedule_problem(quadratics(kappa=KAPPA, power=power, log=True), STEPS)


def static(setting: Setting) -> Trials:
    """The best constant rate, 2 / (L + mu)."""
    return _fixed(setting, jnp.full(STEPS, 2 / (1 + KAPPA)))


def chebyshev(setting: Setting) -> Trials:
    """The best schedule."""
    return _fixed(setting, chebyshev_rates(1.0, KAPPA, STEPS))


def random(setting: Setting) -> Trials:
    """Random search."""
    population = min(64, setting.budget)
    strategy = strategies.random(SPACE, population)
    return _searched(setting, strategy, setting.budget // population)


def differential_evolution(setting: Setting) -> Trials:
    """Differential evolution with one member for every rate."""
    population = min(STEPS, max(4, setting.budget // 2))
    strategy = strategies.differential_evolution(SPACE, population)
    return _searched(setting, strategy, max(1, setting.budget // population))


def pbt(setting: Setting) -> Trials:
    """Population based training of the schedules, exchanged after every fifth of the steps."""
    intervals = 5
    strategy = strategies.pbt(SPACE, max(2, min(setting.budget, 4096)))
    return _searched(setting, strategy, intervals, STEPS // intervals, 1 / intervals)


def hypergradient(setting: Setting) -> Trials:
    """Hypergradient descent by reverse mode from eight random schedules."""
    return _descended(setting, hypergrad.reverse(problem(POWER), STEPS, "none"), cost=3)


def hypergradient_forward(setting: Setting) -> Trials:
    """The same by forward mode, which costs about 1 + 1.8 trainings for every rate."""
    return _descended(setting, hypergrad.forward(problem(POWER), STEPS), cost=1 + 1.8 * STEPS)


def hypergradient_es(setting: Setting) -> Trials:
    """The same by antithetic evolution strategies with 8 pairs."""
    pairs = 8
    estimator = hypergrad.es(problem(POWER), STEPS, pairs=pairs, sigma=0.003)
    return _descended(setting, estimator, cost=2 * pairs)


def hypergradient_first_order(setting: Setting) -> Trials:
    """The same with the derivative of a step by its state left out, which is biased."""
    return _descended(setting, hypergrad.first_order(problem(POWER), STEPS), cost=3)


def policy(setting: Setting) -> Trials:
    """A policy that moves one rate before every step (REINFORCE)."""
    base = training(quadratics(kappa=KAPPA), lambda h: optax.sgd(h["rate"]))
    environment = rl.tuning_environment(
        base,
        {"rate": Float(1 / KAPPA, 1.0, log=True)},
        1,
        STEPS,
        moves=(-0.5, -0.2, 0.0, 0.2, 0.5),
        log_reward=True,
    )
    actor = rl.softmax_policy(environment)
    tuner = rl.problem(environment, actor, greedy=True, loss=lambda state: state.loss)
    estimator = rl.reinforce(environment, actor, STEPS, rollouts=64)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    return _learned(setting, tuner, estimator, actor.init, optimizer, rounds=400, tasks=1)


def learned_optimizer(setting: Setting) -> Trials:
    """A learned update rule, on rotated quadratics; it is no polynomial, so no bound holds."""
    rule = learned_optimizers.per_parameter_mlp()

    def learner(log: bool) -> Problem:
        return training(quadratics(64, kappa=KAPPA, rotated=True, log=log), rule.transform)

    estimator = hypergrad.reverse(learner(log=True), STEPS, "none")
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    return _learned(
        setting, learner(log=False), estimator, rule.init, optimizer, rounds=300, tasks=4
    )


def _searched(
    setting: Setting,
    strategy: Strategy,
    rounds: int,
    steps: int = STEPS,
    cost: float = 1,
    estimator: Estimator | None = None,
) -> Trials:
    def one(key: Key) -> chex.Array:
        result = search(
            key, problem(), SPACE, strategy, rounds=rounds, steps=steps, estimator=estimator
        )
        if estimator is None:
            return result.history.loss.reshape(-1)
        # An estimator's own loss is smoothed, or that of perturbed schedules.
        loss = inner.outer_loss(problem(), steps)
        units = result.history.unit.reshape(-1, STEPS)
        task = problem().sample(key)
        return jax.vmap(lambda unit: loss(key, decode(SPACE, unit), task)[0])(units)

    loss, *seconds = timed(jax.vmap(one), setting.keys[0])
    return _trials(np.exp(loss), cost, *seconds)


def _descended(setting: Setting, estimator: Estimator, cost: float) -> Trials:
    starts = 8
    rounds = max(1, int(setting.budget / (starts * cost)))
    # The smoothed maximum has a sharp bend, which needs ever smaller steps.
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, rounds))
    strategy = strategies.hypergradient(SPACE, starts, optimizer)
    return _searched(setting, strategy, rounds, cost=cost, estimator=estimator)


def _fixed(setting: Setting, rates: chex.Array) -> Trials:
    loss = inner.outer_loss(problem(), STEPS)

    def one(key: Key) -> chex.Array:
        return loss(key, {"rates": rates}, problem().sample(key))[0][None]

    value, *seconds = timed(jax.vmap(one), setting.keys[0])
    return _trials(np.exp(value), 1, *seconds)


def _learned(
    setting: Setting,
    tested: Problem,
    estimator: Estimator,
    init: Callable[[Key], HParams],
    optimizer: optax.GradientTransformation,
    rounds: int,
    tasks: int,
) -> Trials:
    """Meta-trains once for every seed, and spends a single training on the problem itself."""
    rounds = setting.share(rounds)

    def learn(key: Key) -> PyTree:
        init_key, train_key = jax.random.split(key)
        return meta_train(
            train_key, tested, estimator, init(init_key), optimizer, rounds=rounds, tasks=tasks
        ).hparams

    def one(key: Key, hparams: HParams) -> chex.Array:
        return inner.outer_loss(tested, STEPS)(key, hparams, tested.sample(key))[0][None]

    weights, *learning = timed(jax.vmap(learn), setting.keys[0])
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(setting.keys[0])
    ratio, *seconds = timed(jax.vmap(one), keys, weights)
    return _trials(np.asarray(ratio), 1, *seconds, sum(learning))


def _trials(ratio: np.ndarray, cost: float, *seconds: float) -> Trials:
    """As one task: ratios ``f[seeds, E]``, and how many times the optimum they are."""
    return Trials(ratio[None], ratio[None] / OPTIMUM, float(cost), *seconds)
