"""Every rung of the ladder on small families of tasks, beside tuned optimisers.

Families, 50 updates each: the quadratics of learning to learn, Rosenbrock's valleys, logistic and
robust regression, and a network of 16 units on 100 images of digits.  What counts is the logarithm
(base e) of the final query loss, plus a millionth.  SGD with momentum and Adam have the best of 14
constant rates on 64 tasks.  Every rule is meta-trained on fresh tasks of the family, by the
gradient through the training, for an equal number of updates and at one rate for all, untuned, so
that a rule that takes longer to learn is behind; it begins from Adam's tuned rate where it has one.
Judged on 100 other tasks, paired with tuned Adam, 95 % intervals over tasks; one seed of
meta-training.  ``ns`` is the CPU time of an update for each parameter of a network of 10,000, and
depends on the machine; it stands beside the losses, which are at equal numbers of updates.

    python -m experiments.optimizer_zoo [--quick] [--resume]
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import learned_optimizers as lo
from metahpo.problems.digits import load_pools
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, command, panels

STEPS, FLOOR, RATES = 50, 1e-6, 14
ADAM = "Adam, tuned"


class Size(NamedTuple):
    """How much is computed: meta-training, and tasks to tune and to judge by."""

    rounds: int = 150
    tasks: int = 8
    tuning: int = 64
    judged: int = 100
    repeats: int = 50


QUICK = Size(rounds=2, tasks=2, tuning=2, judged=2, repeats=1)


def networks() -> mh.TaskFamily:
    """On the library's cut of the digits."""
    parts = (mh.problems.Examples(*part) for part in load_pools())
    return mh.problems.small_mlps(mh.problems.Split(*parts), (16,), examples=100)


FAMILIES = {
    "quadratics": mh.problems.uniform_quadratics,
    "Rosenbrock": mh.problems.rosenbrock,
    "logistic": lambda: mh.problems.regressions("logistic"),
    "robust": lambda: mh.problems.regressions("robust"),
    "digits": networks,
}
TUNED = {"momentum, tuned": lambda rate: optax.sgd(rate / 10, momentum=0.9), ADAM: optax.adam}


def rules(rate: float) -> dict[str, lo.UpdateRule]:
    """The ladder, from Adam's rate."""
    numbers = {"learning_rate": rate, "b1": 0.9, "b2": 0.999}
    schedule = lo.scheduled(
        optax.adam, numbers, dict.fromkeys(("learning_rate", "b1"), lo.spline(STEPS, 6))
    )
    most = max(1.0, 2 * rate)
    network = lo.per_parameter_mlp(rate=rate, max_rate=most)
    return {
        "learnable": lo.learnable(optax.adam, numbers),
        "scheduled": schedule,
        "symbolic": lo.symbolic(rate=rate),
        "per_parameter_mlp": network,
        "factored_mlp": lo.factored_mlp(rate=rate, max_rate=most),
        "steered": lo.steered(rate=rate),
        "two_level": lo.two_level(rate=rate, max_rate=most),
        "recurrent": lo.recurrent(hidden=8),
        "corrected": lo.corrected(schedule, network),
        "mixture": lo.mixture(
            {"adam": optax.adam(rate), "momentum": optax.sgd(rate / 10, momentum=0.9)},
            curve=lo.polynomial(STEPS, 2),
            first="adam",
        ),
    }


def log_losses(family, optimizer, hparams, key, tasks):
    """Of diverged trainings a bad one; f[tasks]."""
    problem = mh.problems.training(family, optimizer)
    losses = mh.run.fresh_losses(key, problem, hparams, steps=STEPS, tasks=tasks)
    return jnp.minimum(jnp.log(losses + FLOOR), 20.0)


def learn(key, family, rule, size: Size):
    """Learned weights, and the CPU seconds with compilation."""
    begin = time.process_time()
    problem = mh.problems.training(family, rule.transform)
    of_loss = problem.loss
    problem = problem._replace(loss=lambda *args: jnp.log(of_loss(*args) + FLOOR))
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(problem, STEPS), 1.0)
    init_key, key = jax.random.split(key)
    start = jax.jit(rule.init)(init_key)
    result = mh.meta_train(
        key, problem, estimator, start, optax.adam(optax.cosine_decay_schedule(0.01, size.rounds)),
        rounds=size.rounds, tasks=size.tasks, on_divergence="leave_out",
    )  # fmt: skip
    return jax.block_until_ready(result.hparams), time.process_time() - begin


def cost(optimizer, size: Size) -> float:
    """CPU nanoseconds of an update, of each of 10,000 parameters."""
    params = {"w": jnp.ones((100, 99)), "b": jnp.ones(100)}

    @jax.jit
    def repeated(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(params, state, params, value=jnp.array(1.0))
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=size.repeats)[0][0]

    jax.block_until_ready(repeated(params))
    begin = time.process_time()
    jax.block_until_ready(repeated(params))
    return 1e5 * (time.process_time() - begin) / size.repeats


def study(size: Size, work: Work) -> Findings:
    tune_key, learn_key, judge_key = jax.random.split(jax.random.key(6), 3)

    def tuned(pair):
        name, which = pair
        family, make = FAMILIES[name](), TUNED[which]
        rates = jnp.geomspace(1e-3, 3.0, RATES)
        each = jax.jit(jax.vmap(lambda r: log_losses(family, make, r, tune_key, size.tuning)))
        rate = rates[jnp.nanargmin(each(rates).mean(1))]
        judged = jax.jit(lambda r: log_losses(family, make, r, judge_key, size.judged))
        return {"rate": rate, "losses": judged(rate)}

    base = work.each([(name, which) for name in FAMILIES for which in TUNED], tuned)

    def learned(pair):
        name, which = pair
        family = FAMILIES[name]()
        rule = rules(float(base[name, ADAM]["rate"]))[which]
        weights, seconds = learn(learn_key, family, rule, size)
        judged = jax.jit(lambda w: log_losses(family, rule.transform, w, judge_key, size.judged))
        return {"losses": judged(weights), "seconds": seconds}

    def costs(which):
        if which in TUNED:
            return {"ns": cost(optax.with_extra_args_support(TUNED[which](0.01)), size)}
        rule = rules(0.01)[which]
        weights = rule.init(jax.random.key(0))
        count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(weights))
        optimizer = optax.with_extra_args_support(rule.transform(weights))
        return {"ns": cost(optimizer, size), "weights": count}

    names = list(rules(0.01))
    parts = base | work.each([(name, which) for name in FAMILIES for which in names], learned)
    prices = work.each([*TUNED, *names], costs)
    rows = []
    for which in [*TUNED, *names]:
        row = {"optimiser": which, "ns": float(prices[which]["ns"])}
        if which in names:
            row["weights"] = int(prices[which]["weights"])
            row["CPU s"] = float(np.mean([parts[name, which]["seconds"] for name in FAMILIES]))
        for name in FAMILIES:
            own = np.nan_to_num(parts[name, which]["losses"], nan=20.0)
            row[name] = interval(own if which == ADAM else own - parts[name, ADAM]["losses"])
        rows.append(row)
    rates = {"-".join(pair): float(found["rate"]) for pair, found in base.items()}
    return Findings(
        rows,
        formats={"ns": ".0f", "CPU s": ".0f"},
        settings={"steps": STEPS, "seconds": work.seconds},
        notes={"rates": rates},
    )


def plot(results, path) -> None:
    """A panel a family: what each optimiser ends with, beside tuned Adam."""
    rows = [row for row in results["rows"] if row["optimiser"] != ADAM]
    best = {
        name: min(rows, key=lambda row, name=name: row[name]["mean"])["optimiser"]
        for name in FAMILIES
    }
    wins = max(set(best.values()), key=list(best.values()).count)
    title = (
        f"Learned for one family at equal updates of their weights, {wins} ends lowest most often "
        f"({list(best.values()).count(wins)} of {len(best)} families)"
    )
    with panels(path, 1, len(FAMILIES), size=(8, 3.6), title=title, sharey=True) as all_axes:
        for axes, name in zip(all_axes, FAMILIES, strict=True):
            y = np.arange(len(rows))[::-1]
            x = np.array([row[name]["mean"] for row in rows])
            width = [row[name]["half_width"] for row in rows]
            axes.errorbar(x, y, xerr=width, fmt="o", ms=3, lw=1.2, color=COLORS[0])
            axes.set_yticks(y, [row["optimiser"] for row in rows])
            axes.axvline(0, color="0.4", linewidth=0.8)
            axes.set_title(name)
        all_axes[2].set_xlabel("log loss minus that of tuned Adam, 95 % intervals over tasks")


PICTURES = {"optimizer_zoo.png": plot}


if __name__ == "__main__":
    command("experiments.optimizer_zoo", __doc__, study, Size(), QUICK, PICTURES)
