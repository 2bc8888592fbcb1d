"""The shipped rules on unseen data, shapes and horizons, beside Adam tuned for each task.

``pretrained("fit")`` and ``pretrained("generalize")`` were learned on networks of 16, 32 and 12-12
hidden units and images of digits, for at most 200 updates (``experiments.pretrained_rules``).  Here
they train other shapes on digits that they have not seen, and on breast cancer, wine and diabetes
of scikit-learn, with batches of 32 rows; their losses are taken after 200, 1,000 and 2,000 updates,
1, 5 and 10 times the longest that they were learned for.  A seed draws another cut of the rows
(70 % train), other initial weights and other batches.

Beside them Adam at a constant rate: tuned for each task, measure and horizon (14 rates, 5 seeds),
or once for all tasks, measure and horizon given (the lowest mean logarithm of the loss).  All are
judged on 10 other seeds.  A cell is the mean over seeds of the logarithm (base e) of the loss over
that of Adam tuned for the task, plus a thousandth to both; 95 % intervals, paired by seed.  The
training loss is ``fit``'s measure, the validation loss ``generalize``'s; ``all`` has the mean over
the tasks.  About five minutes on 2 cores.

    python -m experiments.beyond_the_horizon [--quick] [--resume]
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import learned_optimizers as lo
from metahpo._extras import require
from metahpo.problems import Examples, Split
from metahpo.problems.digits import load_pools
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, command, panels

BATCH, FLOOR, TRAIN = 32, 1e-3, 0.7
TASKS = {
    "digits 24": ("digits", (24,)),
    "digits 64": ("digits", (64,)),
    "digits 16-16-16": ("digits", (16, 16, 16)),
    "cancer 24": ("breast_cancer", (24,)),
    "cancer 8-8-8": ("breast_cancer", (8, 8, 8)),
    "wine 24": ("wine", (24,)),
    "wine 8-8-8": ("wine", (8, 8, 8)),
    "diabetes 24": ("diabetes", (24,)),
    "diabetes 8-8-8": ("diabetes", (8, 8, 8)),
}
MEASURES = ("training", "validation")
OWN = {"fit": "training", "generalize": "validation"}
TUNED, ONCE = "Adam, tuned for the task", "Adam, tuned once"


class Size(NamedTuple):
    """How much is computed: the shortest horizon, seeds and rates to tune by, seeds to judge by."""

    horizon: int = 200
    rates: int = 14
    tuning: int = 5
    seeds: int = 10


QUICK = Size(horizon=4, rates=2, tuning=1, seeds=2)
TIMES = (1, 5, 10)


@cache
def data(name: str):
    """All rows: inputs in units of their own, whole numbers or floats in such units to predict."""
    if name == "digits":
        return load_pools().test
    found = getattr(require("sklearn.datasets", "data"), f"load_{name}")()
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    if name == "diabetes":
        y = (found.target - found.target.mean()) / found.target.std()
        return x.astype("f4"), y.astype("f4")
    return x.astype("f4"), found.target.astype("i4")


def family(task: str) -> mh.TaskFamily:
    """Another cut of the rows a task."""
    name, hidden = TASKS[task]
    x, y = data(name)
    rows = int(TRAIN * len(y))
    whole = mh.problems.small_mlps(Split(*[Examples(x, y)] * 3), hidden)

    def sample(key):
        order = jax.random.permutation(key, len(y))
        own = Examples(jnp.asarray(x)[order], jnp.asarray(y)[order])
        train, rest = (jax.tree.map(lambda a, s=s: a[s], own) for s in _cut(rows))
        return Split(train, rest, rest)

    return whole._replace(sample=sample)


def _cut(rows: int):
    return slice(None, rows), slice(rows, None)


def losses(task: str, optimizer, hparams, keys, size: Size):
    """Losses f[hparams, seeds, horizons, measures]; those that are not finite are infinite."""
    tasks = family(task)
    problem = mh.problems.training(tasks, optimizer, minibatch=mh.problems.minibatch(BATCH))

    def one(own, key):
        sample_key, train_key = jax.random.split(key)
        training = mh.inner.begin(problem, train_key, own, problem.sample(sample_key))
        found, before = [], 0
        for times in TIMES:
            steps, before = times * size.horizon - before, times * size.horizon
            training = mh.inner.advance(problem, steps)(own, training)
            params = training.state.params
            parts = (tasks.loss(params, training.task, part) for part in ("support", "query"))
            found.append(jnp.stack(list(parts)))
        return jnp.stack(found)

    found = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(hparams, keys)
    return np.where(np.isfinite(found), found, np.inf)


def study(size: Size, work: Work) -> Findings:
    tune_key, judge_key = jax.random.split(jax.random.key(3))
    rates = jnp.geomspace(1e-4, 1.0, size.rates)
    keys = [jax.random.split(tune_key, size.tuning), jax.random.split(judge_key, size.seeds)]
    both = jnp.concatenate(keys)
    weights = [lo.pretrained_weights(name) for name in OWN]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)

    def part(task):
        # Every rate on the seeds of both, so that whichever is chosen has been judged.
        adam = losses(task, optax.adam, rates, both, size)
        rules = losses(task, lo.steered().transform, stacked, keys[1], size)
        return {"tuning": adam[:, : size.tuning], "adam": adam[:, size.tuning :], "rules": rules}

    parts = work.each(TASKS, part)
    means = {task: found["tuning"].mean(1) for task, found in parts.items()}
    # Over the tasks, [rates, horizons, measures].
    once = np.stack([np.log(mean + FLOOR) for mean in means.values()]).mean(0).argmin(0)
    logs, chosen = {}, {}
    for task, found in parts.items():
        best = means[task].argmin(0)
        chosen[task] = np.asarray(rates)[best].tolist()
        logs[task] = {
            name: np.log(values + FLOOR)
            for name, values in {
                TUNED: _at(found["adam"], best),
                ONCE: _at(found["adam"], once),
                **dict(zip(OWN, found["rules"], strict=True)),
            }.items()
        }
    logs["all"] = {
        name: np.mean([logs[task][name] for task in TASKS], 0) for name in (TUNED, ONCE, *OWN)
    }
    rows = [
        row
        for i, measure in enumerate(MEASURES)
        for j, times in enumerate(TIMES)
        for row in _rows(logs, measure, times * size.horizon, (j, i))
    ]
    return Findings(
        rows,
        formats={"loss, tuned Adam": ".3g"},
        settings={"seconds": work.seconds},
        notes={"rates": chosen, "rates_once": np.asarray(rates)[once].tolist()},
    )


def _at(values, best):
    """Of ``f[rates, seeds, horizons, measures]`` those of the rates ``i[horizons, measures]``."""
    return np.take_along_axis(values, best[None, None], 0)[0]


def _rows(logs, measure, steps, place):
    for task, found in logs.items():
        own = {name: np.clip(values[:, *place], -20, 20) for name, values in found.items()}
        row = {"loss": measure, "updates": steps, "task": task}
        row["loss, tuned Adam"] = float(np.exp(own[TUNED].mean()) - FLOOR)
        for name in (ONCE, *OWN):
            row[name] = interval(own[name] - own[TUNED])
        yield row


def cells(rows, measure, steps, name):
    """By task, of one measure and horizon."""
    kept = [row for row in rows if row["loss"] == measure and row["updates"] == steps]
    return {row["task"]: row[name] for row in kept}


def plot(results, path) -> None:
    """Every task's difference from tuned Adam, of the rules in their own measures."""
    rows = results["rows"]
    horizons = sorted({row["updates"] for row in rows})
    counts = {}
    for rule, measure in OWN.items():
        five = cells(rows, measure, horizons[1], rule)
        counts[rule] = sum(
            cell["mean"] - cell["half_width"] <= 0 for task, cell in five.items() if task != "all"
        )
    title = (
        f"At 5 times the horizon that they were learned for, the shipped rules are no worse than "
        f"Adam tuned for the task on {counts['fit']} (training loss) and {counts['generalize']} "
        f"(validation loss) of {len(TASKS)} tasks"
    )
    with panels(path, 1, 2, size=(8, 4.2), title=title, sharey=True) as both:
        for axes, (rule, measure) in zip(both, OWN.items(), strict=True):
            series = [(f"{n} updates", measure, n, rule) for n in horizons]
            series.append((f"Adam once, {horizons[1]}", measure, horizons[1], ONCE))
            for k, (label, *which) in enumerate(series):
                found = cells(rows, *which)
                y = np.arange(len(found))[::-1] + 0.2 * (1.5 - k)
                x = [cell["mean"] for cell in found.values()]
                width = [cell["half_width"] for cell in found.values()]
                color = (*COLORS[:3], "0.6")[k]
                axes.errorbar(x, y, xerr=width, fmt="o", ms=3, color=color, lw=1.2)
                if axes is both[0]:
                    axes.text(-3.9, 1.5 - 0.5 * k, label, color=color, fontsize=8)
                axes.set_yticks(np.arange(len(found))[::-1], list(found))
            axes.axvline(0, color="0.3", linewidth=0.8)
            axes.set(xlabel=f"log {measure} loss of {rule}\nminus that of tuned Adam", xlim=(-4, 4))


PICTURES = {"beyond_the_horizon.png": plot}


if __name__ == "__main__":
    command("experiments.beyond_the_horizon", __doc__, study, Size(), QUICK, PICTURES)
