"""Optimisers made for each task of its descriptor, beside the best single one for all tasks.

Two families, 50 updates each:

* quadratics of 10 dimensions whose gradients are noisy; the largest curvature (0.1 to 10), the
  condition number (1 to 1,000) and the noise (0.01 to 1) are log-uniform, and the descriptor has
  their logarithms.  What counts is the logarithm (base e) of the loss relative to the start's;
* classification of some of scikit-learn's digits by a network of 16 hidden units, of 20 to 400
  images with noise in labels and pixels; the descriptor has what can be read off the training
  images.  What counts is the logarithm of the validation loss.

The best single optimiser is the best of 112 on average over 256 tasks: SGD, Nesterov's momentum,
RMSProp and Adam, 14 rates each, constant or decayed along a cosine.  Meta-trained on fresh tasks of
the same families, by the gradient through the training, are: one mixture of the four for all tasks,
with rates and quadratic schedules per layer; a network that makes such a mixture of a task's
descriptor, without and with feedback from the training; and one that makes a per-parameter network
of the descriptor.  Judged on 200 other tasks, paired by task, 3 seeds of meta-training (a task has
their mean), 95 % intervals.  Tasks ``unlike any seen`` have a curvature, or pixels and noise, far
outside of the range; there the networks are to be what they fall back on, the best single
optimiser, which the last column says (largest difference).

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

    rounds: int = 300
    tasks: int = 8
    seeds: int = 3
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


def digits(far: bool = False) -> mh.TaskFamily:
    """The library's tasks of digits, by the logarithm of their validation loss."""
    family = mh.problems.digits(max_width=16)

    def sample(key):
        task = family.sample(key)
        if not far:
            return task
        return task._replace(
            support=task.support._replace(x=20 * task.support.x),
            query=task.query._replace(x=20 * task.query.x),
        )

    def loss(params, task, split):
        value = family.loss(params, task, split)
        return jnp.log(value) if split == "query" else value

    return mh.TaskFamily(sample, family.init, loss, family.describe)


FAMILIES = {
    "noisy quadratics": (quadratics, None),
    "digits": (digits, mh.problems.digits_minibatch),
}


def training(name: str, optimizer, far: bool = False) -> mh.Problem:
    make, minibatch = FAMILIES[name]
    return mh.problems.training(make(far), optimizer, minibatch=minibatch)


def judge(problem: mh.Problem, hparams, key, tasks: int):
    """Outer losses f[tasks], of diverged trainings a bad one."""
    losses = mh.run.fresh_losses(key, problem, hparams, steps=STEPS, tasks=tasks)
    return jnp.minimum(losses, 5.0)


def single(name: str, key, size: Size):
    """The best maker, rate and whether it decays; and the best rate of each maker."""
    rates = jnp.geomspace(1e-3, 3.0, RATES)
    found = {}
    for maker, make in MAKERS.items():
        for decays in (False, True):

            def optimizer(rate, make=make, decays=decays):
                decayed = optax.cosine_decay_schedule(1.0, STEPS)
                return optax.chain(
                    make(rate), optax.scale_by_schedule(decayed if decays else lambda t: 1.0)
                )

            problem = training(name, optimizer)
            each = jax.jit(jax.vmap(lambda r, p=problem: judge(p, r, key, size.tuning).mean()))
            found[maker, decays] = np.asarray(each(rates))
    best = min(found, key=lambda which: np.nanmin(found[which]))
    rate = {which: float(rates[np.nanargmin(losses)]) for which, losses in found.items()}
    return best, rate, found


def rules(name: str, best, rate):
    """The best single optimiser, and the rules that begin from it."""
    make, _ = FAMILIES[name]
    maker, decays = best
    schedule = optax.cosine_decay_schedule(1.0, STEPS) if decays else (lambda t: 1.0)
    known = {
        which: optax.chain(make_one(rate[which, decays]), optax.scale_by_schedule(schedule))
        for which, make_one in MAKERS.items()
    }
    key = jax.random.key(0)
    family = make()
    like = jax.eval_shape(family.init, key, family.sample(key))
    mixture = lo.mixture(known, like=like, curve=lo.polynomial(STEPS, 2), first=maker)
    seen = jax.jit(jax.vmap(lambda k: family.describe(family.sample(k))))(
        jax.random.split(jax.random.key(11), 300)
    )
    fallback = lo.one_hot(mixture.init(key), sorted(known).index(maker))
    network = lo.per_parameter_mlp(hidden=4, rate=rate["adam", decays], max_rate=10.0)
    made = {
        DESCRIBED: lo.for_task(mixture, seen, fallback=fallback),
        "mixture of descriptor, feedback": lo.for_task(
            mixture, seen, fallback=fallback, feedback=True
        ),
        "network of the descriptor": lo.for_task(network, seen),
    }
    return known[maker], mixture, made


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

    def tuned(name):
        best, rate, found = single(name, tune_key, size)
        optimizer = rules(name, best, rate)[0]

        def judged(far):
            problem = training(name, lambda h: optimizer, far)
            return jax.jit(lambda: judge(problem, {}, judge_key, size.judged))()

        return {
            "maker": best[0],
            "decays": best[1],
            "rates": np.array([[rate[m, d] for d in (False, True)] for m in MAKERS]),
            "grid": np.stack([found[m, d] for m in MAKERS for d in (False, True)]),
            "losses": judged(False),
            "far": judged(True),
        }

    base = work.each(FAMILIES, tuned)

    def made(pair):
        (name, which), seed = pair[0], pair[1]
        found = base[name]
        rate = {(m, d): float(found["rates"][i, d]) for i, m in enumerate(MAKERS) for d in (0, 1)}
        rate = {(m, bool(d)): r for (m, d), r in rate.items()}
        _, mixture, by_task = rules(name, (str(found["maker"]), bool(found["decays"])), rate)
        init_key, key = jax.random.split(jax.random.fold_in(learn_key, seed))
        if which == "one mixture":
            start, transform, wrap = mixture.init(init_key), mixture.transform, lambda p: p
        else:
            rule = by_task[which]
            start, wrap = rule.init(init_key), lo.described
            transform = lambda told: rule.transform(*told)  # noqa: E731
        problem = wrap(training(name, transform))
        weights = learn(key, problem, start, size)
        losses = jax.jit(lambda w: judge(problem, w, judge_key, size.judged))(weights)
        far = wrap(training(name, transform, far=True))
        return {
            "losses": losses,
            "far": jax.jit(lambda w: judge(far, w, judge_key, size.judged))(weights),
        }

    names = (
        "one mixture",
        DESCRIBED,
        "mixture of descriptor, feedback",
        "network of the descriptor",
    )
    pairs = [(name, which) for name in FAMILIES for which in names]
    parts = work.each_seed(pairs, size.seeds, lambda pair, seed: made((pair, seed)))
    rows = []
    for name in FAMILIES:
        own = base[name]
        rows.append({"family": name, "optimiser": SINGLE, "log loss": interval(own["losses"])})
        for which in names:
            found = parts[name, which]
            row = {
                "family": name,
                "optimiser": which,
                "log loss": interval(found["losses"].mean(0)),
                "minus single": interval(found["losses"].mean(0) - own["losses"]),
                "worst seed": float((found["losses"] - own["losses"]).mean(1).max()),
                "unlike any seen": interval(found["far"].mean(0) - own["far"]),
                "there at most": float(np.abs(found["far"] - own["far"]).max()),
            }
            rows.append(row)
    return Findings(
        rows,
        formats={"worst seed": "+.3f", "there at most": ".2g"},
        settings={"steps": STEPS, "seconds": work.seconds},
        notes={
            "single": {
                n: {"optimiser": str(b["maker"]), "decays": bool(b["decays"])}
                for n, b in base.items()
            }
        },
    )


def plot(results, path) -> None:
    """Differences from the best single optimiser, a panel a family."""
    tables = {name: [row for row in results["rows"] if row["family"] == name] for name in FAMILIES}
    gains = [column(rows, "minus single", "optimiser")[DESCRIBED].mean for rows in tables.values()]
    first, second = (beside(100 * (np.exp(gain) - 1), ".0f", " %") for gain in gains)
    title = (
        f"An optimiser made for each task ends {first} the best single one's loss on noisy "
        f"quadratics, {second} it on digits"
    )
    with panels(path, 1, 2, size=(8, 3.2), title=title) as both:
        for axes, (name, rows) in zip(both, tables.items(), strict=True):
            found = column(rows[1:], "minus single", "optimiser")
            shown = {k.replace(" of ", " of\n").replace(", ", ",\n"): v for k, v in found.items()}
            colors = dict.fromkeys(shown, COLORS[0])
            draw_intervals(axes, shown, colors=colors, digits="+.2f")
            axes.axvline(0, color="0.5", linewidth=0.8)
            axes.set(title=name, xlabel="log loss minus the best single one's")


PICTURES = {"optimizer_per_task.png": plot}


if __name__ == "__main__":
    command("experiments.optimizer_per_task", __doc__, study, Size(), QUICK, PICTURES)
