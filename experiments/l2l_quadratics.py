"""The quadratics of learning to learn: a learned schedule and a learned rule beside tuned Adam.

128 problems ``|W x - y|^2`` of 10 dimensions, W and y uniform in [0, 1], x from N(0, 0.01^2), 100
updates (Andrychowicz et al. 2016); what counts is the logarithm (base 10) of the mean final loss.
Adam and SGD with Nesterov's momentum are tuned on 5 sets of 128 problems: grids of 14 rates with
the usual moments, and with 9 pairs of moments of Adam or 3 momenta besides.  Two optimisers are
meta-trained, by the gradient through all 100 updates, each task's clipped, on fresh problems of the
same distribution, from 3 seeds each:

* a schedule: rate, b1 and b2 of Adam as splines of 10 knots over the updates, 30 numbers;
* a rule: the per-parameter network, with a log rate and a direction from momenta and time.

All are judged on 20 other sets of 128 problems; 95 % intervals over the sets, differences paired by
set.  Of a learned optimiser a set has the mean over its meta-training seeds; the worst seed stands
beside it.  The published code ends at -1.08, which says nothing of what tuning alone would reach.
The settings were chosen with other seeds.  About ten minutes on 2 cores.

    python -m experiments.l2l_quadratics [--quick] [--resume]
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import metahpo as mh
from metahpo import learned_optimizers as lo
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends
from metahpo.study import Findings, Work, beside, column, command, draw_intervals, panels

STEPS, PROBLEMS, RATES = 100, 128, 14
CLIP = 0.3
FAMILY = mh.problems.uniform_quadratics()
NUMBERS = {"learning_rate": 0.13, "b1": 0.9, "b2": 0.9}
CURVES = dict.fromkeys(NUMBERS, lo.spline(STEPS, 10))
BASE = "Adam, all tuned"


class Size(NamedTuple):
    """How much is computed: meta-training, its seeds, and sets of problems to judge by."""

    rounds: int = 600
    tasks: int = 32
    seeds: int = 3
    sets: int = 20
    tuning: int = 5


QUICK = Size(rounds=10, tasks=2, seeds=2, sets=2, tuning=1)


class Learned(NamedTuple):
    """A rule to meta-train, and the rates of its outer Adam: a pytree prefix of the weights."""

    rule: lo.UpdateRule
    rates: Any


SCHEDULE = lo.scheduled(optax.adam, NUMBERS, CURVES)
NETWORK = lo.per_parameter_mlp(hidden=8, rate=0.13, decays=(0.5, 0.9, 0.97), second_decay=0.9)
LEARNED = {
    "network alone": Learned(NETWORK, 0.004),
    "learned schedule": Learned(SCHEDULE, 0.02),
    "learned rule": Learned(
        lo.corrected(SCHEDULE, NETWORK), lo.CorrectedWeights(0.02, 0.001, 0.001)
    ),
}
MOMENTS = [(b1, b2) for b1 in (0.8, 0.9, 0.95) for b2 in (0.9, 0.99, 0.999)]
GRIDS: dict[str, tuple[Callable, list]] = {
    "Nesterov, all tuned": (
        lambda rate, m: optax.sgd(rate, momentum=m[0], nesterov=True),
        [(0.8,), (0.9,), (0.95,)],
    ),
    "Adam, rate tuned": (lambda rate, m: optax.adam(rate, *m), [(0.9, 0.999)]),
    BASE: (lambda rate, m: optax.adam(rate, *m), MOMENTS),
}


def mean_losses(optimizer, keys):
    """Mean losses f[sets, steps] of an optimiser on one set of problems a key."""

    def one(key):
        task = FAMILY.sample(key)
        problem = mh.problems.training(FAMILY, lambda h: optimizer)
        loss = lambda state: FAMILY.loss(state.params, task, "query")  # noqa: E731
        return mh.inner.unroll(problem, STEPS, record=loss)(key, {}, task)[1]

    def of_set(key):
        losses = jax.vmap(one)(jax.random.split(key, PROBLEMS)).mean(0)
        return jnp.where(jnp.isfinite(losses), losses, jnp.inf)

    return jax.vmap(of_set)(keys)


def tune(make, moments, keys):
    """The rate and the moments with the lowest mean of the logarithm over the sets."""
    rates = jnp.geomspace(1e-3, 1.0, RATES) * (0.1 if len(moments[0]) == 1 else 1.0)

    @jax.jit
    def final(rate, m):
        return jnp.log10(mean_losses(make(rate, m), keys)[:, -1]).mean()

    each = jax.jit(jax.vmap(jax.vmap(final, (None, 0)), (0, None)))
    found = np.asarray(each(rates, jnp.asarray(moments)))
    i, j = np.unravel_index(np.nanargmin(found), found.shape)
    return float(rates[i]), moments[j], found


def learn(key, learned: Learned, size: Size):
    """Weights of a meta-training, and the CPU seconds that it took, compilation included."""
    start = time.process_time()
    problem = mh.problems.training(FAMILY, learned.rule.transform)
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(problem, STEPS), CLIP)
    rates = set(jax.tree.leaves(learned.rates))
    adam = {r: optax.adam(optax.cosine_decay_schedule(r, size.rounds), b2=0.99) for r in rates}
    init_key, train_key = jax.random.split(key)
    result = mh.meta_train(
        train_key,
        problem,
        estimator,
        learned.rule.init(init_key),
        optax.multi_transform(adam, learned.rates),
        rounds=size.rounds,
        tasks=size.tasks,
    )
    return jax.block_until_ready(result.hparams), time.process_time() - start


def study(size: Size, work: Work) -> Findings:
    tune_key, learn_key, judge_key = jax.random.split(jax.random.key(1), 3)
    tuning = jax.random.split(tune_key, size.tuning)
    sets = jax.random.split(judge_key, size.sets)

    def grid(name):
        make, moments = GRIDS[name]
        rate, best, found = tune(make, moments, tuning)
        judged = jax.jit(lambda: mean_losses(make(rate, best), sets))()
        return {"losses": judged[None], "rate": rate, "moments": np.array(best), "grid": found}

    def meta(name, seed):
        learned = LEARNED[name]
        key = jax.random.fold_in(learn_key, list(LEARNED).index(name) * size.seeds + seed)
        weights, seconds = learn(key, learned, size)
        judged = jax.jit(lambda w: mean_losses(learned.rule.transform(w), sets))(weights)
        return {"losses": judged, "seconds": seconds, "weights": ravel_pytree(weights)[0]}

    parts = work.each(GRIDS, grid) | work.each_seed(LEARNED, size.seeds, meta)
    finals = {name: np.log10(part["losses"][..., -1]) for name, part in parts.items()}
    rows = []
    for name, final in finals.items():
        row = {"optimiser": name, "log10 loss": interval(final.mean(0))}
        if name != BASE:
            row["minus tuned Adam"] = interval((final - finals[BASE]).mean(0))
        if name in LEARNED:
            row["worst seed"] = float(final.mean(1).max())
            row["meta-training, CPU s"] = float(np.mean(parts[name]["seconds"]))
        rows.append(row)
    found = {
        name: {"rate": float(parts[name]["rate"]), "moments": parts[name]["moments"].tolist()}
        for name in GRIDS
    }
    curves = {
        name: np.log10(np.float64(part["losses"]).mean((0, 1))).round(4)
        for name, part in parts.items()
    }
    return Findings(
        rows,
        formats={"worst seed": ".3f", "meta-training, CPU s": ".0f"},
        settings={"steps": STEPS, "problems": PROBLEMS, "seconds": work.seconds},
        notes={"tuned": found, "curves": curves},
        arrays={name: parts[name] for name in LEARNED},
    )


def plot(results, path) -> None:
    """Losses along training, and where they end."""
    final = column(results["rows"], "log10 loss", "optimiser")
    rule = 10 ** (final["learned rule"].mean - final[BASE].mean) - 1
    schedule = 10 ** (final["learned schedule"].mean - final[BASE].mean) - 1
    title = (
        f"On the quadratics of learning to learn a learned rule ends with a mean loss "
        f"{beside(100 * rule, '.0f', ' %')} that of tuned Adam, a learned schedule "
        f"{beside(100 * schedule, '.0f', ' %')} it"
    )
    inks = ("0.7", "0.5", "0.25", COLORS[2], COLORS[1], COLORS[0])
    colors = dict(zip(results["curves"], inks, strict=True))
    with panels(path, 1, 2, size=(8, 3.6), title=title) as (left, right):
        ends = {}
        for name, curve in results["curves"].items():
            left.plot(np.arange(1, len(curve) + 1), curve, color=colors[name], linewidth=1.5)
            ends[name.split(",")[0] if name != "Adam, rate tuned" else "Adam, rate"] = curve[-1]
        left.set(xlabel="update", ylabel="mean loss, log10")
        label_ends(left, ends, dict(zip(ends, colors.values(), strict=True)))
        shown = {name.replace(", ", ",\n"): value for name, value in final.items()}
        lines = {name.replace(", ", ",\n"): color for name, color in colors.items()}
        draw_intervals(right, shown, colors=lines, digits=".2f")
        right.set(xlabel="mean final loss, log10,\n95 % intervals over 20 sets")


PICTURES = {"l2l_quadratics.png": plot}


if __name__ == "__main__":
    command("experiments.l2l_quadratics", __doc__, study, Size(), QUICK, PICTURES)
