"""The loss over the learning rate at the edge of chaos, and what each hypergradient says there.

After Metz et al. (2021), "Gradients are not all you need".  A tanh network 2-8-1 learns two moons
(60 training, 60 validation points) by 100 steps of gradient descent, all from the same weights, so
that the loss is a deterministic curve over the log rate: the Brier score on the validation points,
averaged over the ends of 10 windows of 10 steps.  Beyond a certain rate training does not settle:
the curve becomes rough, and its exact derivative grows exponentially with the number of steps
until it says nothing of the curve's shape.

What descent could use is the slope of the smoothed loss, E loss(h + 0.1 e) with e ~ N(0, 1): here
integrated over a grid of 100,001 trainings; the two halves of the grid tell how well
(``slope_error`` in the results).  The table gives, for log rates below 1 (stable), from 1 to 2
(the edge) and above (chaos), each estimator's root-mean-square error over that of the slope itself
(1 is as good as saying zero) and how often its sign is right.  ``reverse`` says itself where its
gradient explodes (grew more than a thousandfold), and the implicit gradient answers zero everywhere
and says in ``info["sees"]`` that it cannot see rates.  NRES equals ES here, as both draw the same
noise and the windows add up to the whole.  In double precision; about two minutes on 2 cores.

    python -m experiments.edge_of_chaos [--quick] [--resume]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import make_moons

import metahpo as mh
from metahpo.problems import Episode, Examples
from metahpo.report.plots import COLORS, label_ends
from metahpo.study import Findings, Work, command, panels

STEPS, WINDOW, HIDDEN, SIGMA = 100, 10, 8, 0.1
LOW, HIGH = -3.0, 4.0  # log rate
REGIONS = {"stable": (-np.inf, 1.0), "edge": (1.0, 2.0), "chaos": (2.0, np.inf)}
MARGIN = 6 * SIGMA
WINDOWS = STEPS // WINDOW
KEY = jax.random.key(0)


class Size(NamedTuple):
    """How much is computed."""

    rates: int = 141
    pairs: int = 50
    grid: int = 100001


QUICK = Size(rates=29, pairs=20, grid=4001)


class Averaging(NamedTuple):
    """Parameters, the sum of the losses at the ends of windows, and the steps made."""

    params: dict
    total: jax.Array
    count: jax.Array


def data(key=None) -> Episode:
    """The one task: points f[n, 2] and classes f[n] of both parts."""
    del key
    x, y = make_moons(120, noise=0.25, random_state=0)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), y.astype(float)
    return Episode(Examples(x[:60], y[:60]), Examples(x[60:], y[60:]))


def start():
    """The weights to begin with."""
    first, second = jax.random.split(jax.random.key(1))
    return {
        "w1": jax.random.normal(first, (2, HIDDEN)) / np.sqrt(2),
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(second, (HIDDEN,)) / np.sqrt(HIDDEN),
    }


def scores(params, x):
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"]


def training_loss(hparams, task, params):
    del hparams
    x, y = task.support
    return jnp.mean(optax.sigmoid_binary_cross_entropy(scores(params, x), y))


def brier(params, task):
    x, y = task.query
    return jnp.mean((jax.nn.sigmoid(scores(params, x)) - y) ** 2)


def window_problem() -> mh.Problem:
    """Gradient descent with the rate ``exp(log_rate)``; PES and NRES sum the windows' losses."""
    begin = start()

    def step(key, hparams, task, params):
        del key
        grads = jax.grad(training_loss, argnums=2)(hparams, task, params)
        rate = jnp.exp(hparams["log_rate"])
        return jax.tree.map(lambda p, g: p - rate * g, params, grads)

    return mh.Problem(
        sample=data,
        init=lambda key, hparams, task: begin,
        step=step,
        loss=lambda key, hparams, task, params: brier(params, task),
    )


def mean_problem() -> mh.Problem:
    """The same, whose loss is already the mean over the ends of windows."""
    inner = window_problem()

    def step(key, hparams, task, state):
        params = inner.step(key, hparams, task, state.params)
        count = state.count + 1
        total = state.total + jnp.where(count % WINDOW == 0, brier(params, task), 0.0)
        return Averaging(params, total, count)

    return inner._replace(
        init=lambda *args: Averaging(inner.init(*args), jnp.zeros(()), jnp.int32(0)),
        step=step,
        loss=lambda key, hparams, task, state: state.total / WINDOWS,
    )


def estimators(pairs: int) -> dict[str, tuple[mh.Estimator, int]]:
    """By name, and over how many successive estimates an episode stretches."""
    problem, h, dense = mean_problem(), mh.hypergrad, {"solver": "dense"}
    return {
        "reverse": (h.reverse(problem, STEPS), 1),
        "truncated, 10 steps": (h.truncated(problem, STEPS, WINDOW), 1),
        "es": (h.es(problem, STEPS, pairs, SIGMA), 1),
        "pes": (h.pes(window_problem(), STEPS, WINDOW, pairs, SIGMA), WINDOWS),
        "nres": (h.nres(window_problem(), STEPS, WINDOW, pairs, SIGMA), WINDOWS),
        "mixture": (h.mixture(problem, STEPS, pairs, SIGMA), 1),
        "implicit": (h.implicit(window_problem(), STEPS, inner_loss=training_loss, **dense), 1),
    }


TOLD = ("explosion_exponent", "exploding", "sees", "converged")


def estimate_at(estimator: mh.Estimator, count: int, log_rates):
    """Gradients f[rates], averaged over an episode of ``count`` estimates, and the last info."""
    task = data()

    def one(key, log_rate):
        hparams = {"log_rate": log_rate}
        init_key, estimate_key = jax.random.split(key)

        def advance(memory, key):
            estimate, memory = estimator.estimate(key, hparams, task, memory)
            told = {name: estimate.info[name] for name in TOLD if name in estimate.info}
            return memory, (estimate.grad["log_rate"], told)

        memory = estimator.init(init_key, hparams, task)
        _, (grads, told) = jax.lax.scan(advance, memory, jax.random.split(estimate_key, count))
        return {"grads": jnp.mean(grads)} | jax.tree.map(lambda leaf: leaf[-1], told)

    keys = jax.random.split(KEY, len(log_rates))
    found = jax.jit(lambda: jax.lax.map(lambda a: one(*a), (keys, log_rates)))()
    return found | {"sees": found["sees"]["log_rate"]} if "sees" in found else found


def curve(log_rates):
    """The loss f[rates] of the deterministic training."""
    loss, task = mh.inner.outer_loss(mean_problem(), STEPS), data()

    def one(log_rate):
        return loss(KEY, {"log_rate": log_rate}, task)[0]

    each = jax.jit(lambda rates: jax.lax.map(one, rates, batch_size=2000))
    return np.asarray(each(jnp.asarray(log_rates)), float)


def smoothed(grid, losses, at):
    """The Gaussian mean of the losses and its slope at some rates, by quadrature on the grid."""
    z = (grid - at[:, None]) / SIGMA
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum(axis=1, keepdims=True)
    return weight @ losses, (weight * z / SIGMA) @ losses


def study(size: Size, work: Work) -> Findings:
    log_rates = np.linspace(LOW, HIGH, size.rates)
    grid = np.linspace(LOW - MARGIN, HIGH + MARGIN, size.grid)
    with jax.enable_x64(True):
        losses = curve(grid)
        methods = estimators(size.pairs)
        at = jnp.asarray(log_rates)
        found = work.each(methods, lambda name: estimate_at(*methods[name], at))
    level, slope = smoothed(grid, losses, log_rates)
    halves = [smoothed(grid[i::2], losses[i::2], log_rates)[1] for i in range(2)]
    grads = {name: each["grads"] for name, each in found.items()}
    rows = [table_row(name, grads[name], slope, log_rates) for name in methods]
    reverse, implicit = found["reverse"], found["implicit"]
    notes = {
        "exploding_rates": int(reverse["exploding"].sum()),
        "rates": size.rates,
        "first_exploding_log_rate": float(log_rates[reverse["exploding"]][0]),
        # Half the difference of two halves has the spread of their mean.
        "slope_error": float(np.sqrt(np.mean((halves[0] - halves[1]) ** 2)) / 2),
        "largest_smoothed_slope": float(np.max(np.abs(slope))),
        "implicit_sees_the_rate": int(implicit["sees"].sum()),
        "implicit_converged": int(implicit["converged"].sum()),
    }
    arrays = {"grid": grid, "losses": losses, "log_rates": log_rates, "level": level}
    arrays |= {"slope": slope, "grads": grads, "exponent": reverse["explosion_exponent"]}
    arrays["exploding"] = reverse["exploding"]
    return Findings(
        rows,
        formats=dict.fromkeys([name for name in rows[0] if "%" in name], ".0f"),
        settings={"sigma": SIGMA, "seconds": work.seconds},
        notes=notes,
        arrays=arrays,
        pictures={"edge_of_chaos.png": lambda path: plot(rows, arrays, path)},
    )


def table_row(name: str, grads, slope, log_rates):
    row = {"estimator": name}
    for where, (low, high) in REGIONS.items():
        chosen = (log_rates >= low) & (log_rates < high)
        error, truth = (grads - slope)[chosen], slope[chosen]
        row[f"error, {where}"] = float(np.sqrt(np.mean(error**2) / np.mean(truth**2)))
        right = np.mean(np.sign(grads[chosen]) == np.sign(truth))
        row[f"sign right %, {where}"] = 100 * float(right)
    return row | {"largest": float(np.max(np.abs(grads)))}


def plot(rows, arrays, path) -> None:
    """The loss over the rate, and what every kind of estimator says of its slope."""
    right = {row["estimator"]: row["sign right %, chaos"] for row in rows}
    title = (
        f"In the chaos evolution strategies have the sign of the slope in {right['es']:.0f} % of "
        f"the cases, the exact derivative in {right['reverse']:.0f} %"
    )
    log_rates, slope, grads = (arrays[name] for name in ("log_rates", "slope", "grads"))
    inside = (arrays["grid"] >= LOW) & (arrays["grid"] <= HIGH)
    with panels(path, 3, size=(8, 8), title=title, sharex=True) as (top, middle, bottom):
        top.plot(arrays["grid"][inside], arrays["losses"][inside], color="0.7", linewidth=0.4)
        top.plot(log_rates, arrays["level"], color="black")
        top.set(ylabel="validation loss (Brier score)", xlim=(LOW, HIGH))
        ends = {"of one training": 2 * arrays["level"][-1], "smoothed": arrays["level"][-1]}
        label_ends(top, ends, {"of one training": "0.5", "smoothed": "black"})
        shown = {
            middle: {"reverse": COLORS[1], "truncated, 10 steps": COLORS[4]},
            bottom: {"es": COLORS[0], "pes": COLORS[2]},  # nres and mixture lie upon es
        }
        for axes, colors in shown.items():
            style = "." if axes is middle else "-"
            for name, color in colors.items():
                axes.plot(log_rates, grads[name], style, color=color, markersize=4)
            axes.plot(log_rates, slope, "k", linewidth=2)
            axes.set(ylabel="d loss / d log rate")
        middle.set_yscale("symlog", linthresh=1.0)
        middle.set_yticks([sign * 10.0**k for sign in (-1, 1) for k in (10, 20, 30)] + [0.0])
        # The dots lie everywhere, so their names stand at heights of their own.
        middle_ends = {"reverse": 1e20, "truncated, 10 steps": 1e8, "smoothed": 0.0}
        label_ends(middle, middle_ends, {**shown[middle], "smoothed": "black"})
        ends = {name: grads[name][-1] for name in shown[bottom]} | {"smoothed": slope[-1]}
        label_ends(bottom, ends, {**shown[bottom], "smoothed": "black"})
        bottom.set(xlabel="log rate")


if __name__ == "__main__":
    command("experiments.edge_of_chaos", __doc__, study, Size(), QUICK)
