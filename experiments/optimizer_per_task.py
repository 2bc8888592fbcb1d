"""Optimisers made for each task of its descriptor, beside the best single one for all tasks.

Tasks are quadratics of 10 dimensions whose gradients are noisy, 50 updates each; the largest
curvature (0.1 to 10), the condition number (1 to 1,000) and the noise (0.01 to 1 of the curvature)
are log-uniform, and the descriptor has their logarithms.  What counts is the logarithm (base e) of
the loss relative to the start's, plus a millionth.

The best single optimiser is the best of 112 on average over 256 tasks: SGD, Nesterov's momentum,
RMSProp and Adam, 14 rates each, constant or decayed along a cosine.  Meta-trained on fresh tasks of
the same family, by the gradient through the training, are: one mixture of the four for all tasks,
with rates and a quadratic schedule; networks that make such a mixture of a task's descriptor,
without and with feedback from the training; and one that makes a per-parameter network of the
descriptor.  Judged on 200 other tasks, paired by task, 2 seeds of meta-training (a task has their
mean), 95 % intervals.  Tasks ``unlike any seen`` have a curvature far outside of the range; there
the mixtures of the descriptor are to be what they fall back on, the best single optimiser: the last
column has the largest difference from it.

    python -m experiments.optimizer_per_task [--quick] [--resume]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import learned_optimizers as lo
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, beside, column, command, draw_intervals, panels

STEPS, DIMENSION, RATES = 50, 10, 14
MAKERS: dict[str, Callable] = {
    "adam": lambda rate: optax.adam(rate, b2=0.99),
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "rmsprop": lambda rate: optax.rmsprop(rate, decay=0.99, bias_correction=True),
    "sgd": optax.sgd,
}
SINGLE = "best single optimiser"
DESCRIBED = "mixture of the descriptor"


class Size(NamedTuple):
    """How much is computed: meta-training, its seeds, and tasks to tune and to judge by."""

    rounds: int = 200
    tasks: int = 8
    seeds: int = 2
    tuning: int = 256
    judged: int = 200


QUICK = Size(rounds=3, tasks=2, seeds=1, tuning=4, judged=4)


class Noisy(NamedTuple):
    """A quadratic: eigenvalues f[n], noise f[], start f[n], descriptor f[3]."""

    eigenvalues: Any
    noise: Any
    start: Any
    about: Any


def quadratics(far: bool = False) -> mh.TaskFamily:
    """Quadratics in the basis of their eigenvectors, with noise on the gradient."""
    low = jnp.log(jnp.array([0.1, 1.0, 0.01]))
    high = jnp.log(jnp.array([10.0, 1000.0, 1.0]))
    shift = jnp.array([-30.0, 0.0, 0.0]) if far else 0.0

    def sample(key):
        about_key, key, start_key = jax.random.split(key, 3)
        about = low + (high - low) * jax.random.uniform(about_key, (3,)) + shift
        places = jax.random.uniform(key, (DIMENSION,)).at[:2].set(jnp.array([0.0, 1.0]))
        start = jax.random.normal(start_key, (DIMENSION,))
        noise = jnp.exp(about[2] + about[0])
        return Noisy(jnp.exp(about[0] - about[1] * places), noise, start, about)

    def clean(x, task):
        return jnp.sum(task.eigenvalues * x**2) / 2

    def loss(x, task, split, key=None):
        if split == "query":
            return jnp.log(clean(x, task) / clean(task.start, task) + 1e-6)
        if key is None:
            return clean(x, task)
        noise = task.noise * jax.random.normal(key, x.shape) / jnp.sqrt(DIMENSION)
        return clean(x, task) + noise @ (x - jax.lax.stop_gradient(x))

    return mh.TaskFamily(sample, lambda key, task: task.start, loss, lambda task: task.about)


ONE, HEARD, NETWORK = "one mixture", "mixture of descriptor, feedback", "network of the descriptor"
RULES = (ONE, DESCRIBED, HEARD, NETWORK)


def training(optimizer, far: bool = False) -> mh.Problem:
    return mh.problems.training(quadratics(far), optimizer)


def judge(problem: mh.Problem, hparams, key, tasks: int):
    """Outer losses f[tasks], of diverged trainings a bad one."""
    losses = mh.run.fresh_losses(key, problem, hparams, steps=STEPS, tasks=tasks)
    return jnp.minimum(losses, 5.0)


def decayed(maker, rate, decays):
    """With its rate constant, or falling along a cosine."""
    fall = lambda t: jnp.where(decays, 0.5 * (1 + jnp.cos(jnp.pi * t / STEPS)), 1.0)  # noqa: E731
    return optax.chain(MAKERS[maker](rate), optax.scale_by_schedule(fall))


def single(key, size: Size):
    """Mean losses f[makers, rates, 2] of all single optimisers, constant and decayed."""
    rates = jnp.geomspace(1e-3, 3.0, RATES)
    known = len(MAKERS)

    def optimizer(which):
        place, rate, decays = which
        rule = lo.mixture({maker: decayed(maker, rate, decays) for maker in MAKERS})
        logits = jnp.where(jnp.arange(known) == place, 0.0, -1e4)
        return rule.transform(lo.MixtureWeights(logits[None], jnp.zeros((1, 1))))

    problem = training(optimizer)
    grid = jnp.meshgrid(jnp.arange(known), rates, jnp.arange(2), indexing="ij")
    flat = tuple(axis.reshape(-1) for axis in grid)
    one = lambda which: judge(problem, which, key, size.tuning).mean()  # noqa: E731
    losses = jax.jit(lambda: jax.lax.map(one, flat, batch_size=14))()
    return losses.reshape(known, RATES, 2), rates


def rules(losses, rates):
    """The best single optimiser, and the rules that begin from it."""
    best, _, decays = np.unravel_index(np.nanargmin(losses), losses.shape)
    rate = dict(zip(MAKERS, rates[np.nanargmin(losses[..., decays], 1)].tolist(), strict=True))
    known = {maker: decayed(maker, rate[maker], bool(decays)) for maker in MAKERS}
    first = list(MAKERS)[best]
    key = jax.random.key(0)
    family = quadratics()
    like = jax.eval_shape(family.init, key, jax.eval_shape(family.sample, key))
    mixture = lo.mixture(known, like=like, curve=lo.polynomial(STEPS, 2), first=first)
    seen = jax.jit(jax.vmap(lambda k: family.describe(family.sample(k))))(
        jax.random.split(jax.random.key(11), 300)
    )
    options = {"seen": seen, "fallback": lo.one_hot(mixture.init(key), sorted(known).index(first))}
    network = lo.per_parameter_mlp(hidden=4, rate=rate["adam"], max_rate=10.0)
    made = {
        ONE: None,
        DESCRIBED: lo.for_task(mixture, **options),
        HEARD: lo.for_task(mixture, feedback=True, **options),
        NETWORK: lo.for_task(network, seen),
    }
    return known[first], mixture, made, (first, bool(decays), rate)


def learn(key, problem: mh.Problem, start, size: Size):
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(problem, STEPS), 1.0)
    rate = optax.cosine_decay_schedule(0.02, size.rounds, 0.05)
    result = mh.meta_train(
        key, problem, estimator, start, optax.adam(rate, b2=0.99),
        rounds=size.rounds, tasks=size.tasks, on_divergence="leave_out",
    )  # fmt: skip
    return result.hparams


def study(size: Size, work: Work) -> Findings:
    tune_key, learn_key, judge_key = jax.random.split(jax.random.key(5), 3)

    def both(transform, wrap):
        """Losses on tasks of the family and on others."""
        problems = [wrap(training(transform, far)) for far in (False, True)]
        return jax.jit(jax.vmap(lambda w: [judge(p, w, judge_key, size.judged) for p in problems]))

    def tuned(_):
        losses, rates = map(np.asarray, single(tune_key, size))
        optimizer = rules(losses, rates)[0]
        near, far = both(lambda h: optimizer, lambda p: p)(jnp.zeros(1))
        return {"grid": losses, "rates": rates, "losses": near[0], "far": far[0]}

    base = work.each([SINGLE], tuned)[SINGLE]

    def made(which):
        _, mixture, by_task, _ = rules(base["grid"], base["rates"])
        rule, wrap = by_task[which], lo.described
        transform = lambda told: rule.transform(*told)  # noqa: E731
        if which == ONE:
            rule, transform, wrap = mixture, mixture.transform, lambda p: p
        problem = wrap(training(transform))

        def one(key):
            init_key, key = jax.random.split(key)
            return learn(key, problem, rule.init(init_key), size)

        weights = jax.jit(jax.vmap(one))(jax.random.split(learn_key, size.seeds))
        near, far = both(transform, wrap)(weights)
        return {"losses": near, "far": far}

    parts = work.each(RULES, made)
    rows: list[dict[str, Any]] = [{"optimiser": SINGLE, "log loss": interval(base["losses"])}]
    for which, found in parts.items():
        minus = found["losses"] - base["losses"]
        row = {
            "optimiser": which,
            "log loss": interval(found["losses"].mean(0)),
            "minus single": interval(minus.mean(0)),
            "worst seed": float(minus.mean(1).max()),
            "unlike any seen": interval(found["far"].mean(0) - base["far"]),
            "there at most": float(np.abs(found["far"] - base["far"]).max()),
        }
        rows.append(row)
    first, decays, rates = rules(base["grid"], base["rates"])[-1]
    return Findings(
        rows,
        formats={"worst seed": "+.3f", "there at most": ".2g"},
        settings={"steps": STEPS, "seconds": work.seconds},
        notes={"single": {"optimiser": first, "decays": decays, "rates": rates}},
    )


def plot(results, path) -> None:
    """Differences from the best single optimiser."""
    found = column(results["rows"][1:], "minus single", "optimiser")
    gain = beside(100 * (np.exp(found[DESCRIBED].mean) - 1), ".0f", " %")
    title = (
        f"A mixture made for each task ends with a loss {gain} that of the best single optimiser "
        "(geometric means over 200 unseen tasks)"
    )
    with panels(path, size=(8, 2.8), title=title) as axes:
        draw_intervals(axes, found, colors=dict.fromkeys(found, COLORS[0]), digits="+.2f")
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.set(xlabel="log loss minus that of the best single optimiser, 95 % intervals")


PICTURES = {"optimizer_per_task.png": plot}


if __name__ == "__main__":
    command("experiments.optimizer_per_task", __doc__, study, Size(), QUICK, PICTURES)
