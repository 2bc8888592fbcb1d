"""Meta-trains the rules that the package ships, on small networks and images of digits.

Tasks are dense networks of 16, 32 and 12-12 hidden units on 64 to 400 of the training images of
scikit-learn's digits, for 50 to 200 updates (log-uniformly), with batches of 8 to 64 rows and every
tensor in a unit of its own (0.3 to 3); of one kind a fifth of the labels is wrong, and one learns a
random direction of the images under noise by squared error.  Two rules of ``steered``, 466 weights
each, follow the gradient through all updates of the logarithm of a loss:

* ``fit``: of the training loss;
* ``generalize``: of the validation loss; a second kind has few images and wrong labels.

The weights with the best mean on fresh tasks at 4 times the longest horizon, of every fifth of the
meta-training, are kept.  ``make weights`` puts them into the package.  What they are worth on other
data says ``experiments.beyond_the_horizon``.  Under ten minutes of CPU time.

    python -m experiments.pretrained_rules [--quick] [--resume]
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
from metahpo.study import Findings, Work, command

HORIZONS = (50, 200)
LONGER = 4
FLOOR = 1e-3  # below which a loss counts as nothing
RULE = lo.steered()


class Size(NamedTuple):
    """How much is computed: percent of the rounds, tasks of a kind in a round, tasks to judge."""

    percent: int = 100
    tasks: int = 4
    judged: int = 8
    horizon: int = HORIZONS[1]


QUICK = Size(percent=2, tasks=1, judged=1, horizon=20)


class Kind(NamedTuple):
    """One kind of task."""

    hidden: tuple[int, ...]
    examples: int
    batch: int
    wrong: float = 0.0  # share of the labels
    regression: bool = False


class Learning(NamedTuple):
    """How a rule is learned: the rate of its weights, their updates, and one kind of its tasks."""

    rate: float
    rounds: int
    own: Kind

    @property
    def kinds(self) -> tuple[Kind, ...]:
        noisy = Kind((12, 12), 200, 64, wrong=0.2)
        return Kind((16,), 400, 32), self.own, noisy, Kind((16,), 100, 8, regression=True)


RULES = {
    "fit": Learning(0.002, 160, Kind((32,), 100, 16)),
    "generalize": Learning(0.01, 400, Kind((32,), 64, 16, wrong=0.2)),
}


def digits(kind: Kind, seed: int = 0) -> mh.problems.Split:
    """The training and the validation images, cut where the library's digits tasks cut them."""
    rng = np.random.default_rng(seed)
    found = load_pools()
    parts = []
    directions = rng.normal(size=64) / 8
    for x, y in found:
        order = rng.permutation(len(y))
        x, y = x[order], y[order]
        if kind.regression:
            y = (x @ directions + rng.normal(size=len(y))).astype("f4")
            parts.append(mh.problems.Examples(x, y))
            continue
        other = rng.integers(0, 10, len(y)).astype(y.dtype)
        parts.append(mh.problems.Examples(x, np.where(rng.random(len(y)) < kind.wrong, other, y)))
    return mh.problems.Split(*parts)


def log_loss(problem: mh.Problem) -> mh.Problem:
    """Tasks of every difficulty count alike."""

    def loss(*args):
        return jnp.log(problem.loss(*args) + FLOOR)

    return problem._replace(loss=loss)


def training(kind: Kind, on: str) -> mh.Problem:
    """Training with the rule; ``fit`` is judged by what trains."""
    family = mh.problems.small_mlps(digits(kind), kind.hidden, examples=kind.examples)
    if on == "fit":
        inner = family.loss

        def loss(params, task, split):
            return inner(params, task, "support")

        family = family._replace(loss=loss)
    family = mh.problems.augmented(family, scales=(0.3, 3.0))
    rows = mh.problems.minibatch(kind.batch)

    def minibatch(key, task):
        return task._replace(task=rows(key, task.task))

    return log_loss(mh.problems.training(family, RULE.transform, minibatch=minibatch))


def learn(name: str, size: Size):
    """The best weights, the validation losses of every fifth, and the CPU seconds."""
    begin, learning = time.process_time(), RULES[name]
    together = mh.problems.joint([training(kind, name) for kind in learning.kinds])
    shortest = max(size.horizon * HORIZONS[0] // HORIZONS[1], 1)
    varied = mh.problems.log_uniform_horizons(together, shortest, size.horizon)
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(varied, size.horizon), 1.0)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(7), list(RULES).index(name)), 3)
    rounds = -(-learning.rounds * size.percent // 500)
    rate = optax.cosine_decay_schedule(learning.rate, 5 * rounds, 0.1)

    @jax.jit
    def judge(weights):
        longer = LONGER * size.horizon
        return mh.run.fresh_losses(
            keys[1], together, weights, steps=longer, tasks=size.judged
        ).mean()

    optimizer = optax.adam(rate)
    weights, state = RULE.init(keys[2]), None
    found = [(float(judge(weights)), weights)]
    for _ in range(5):
        result = mh.meta_train(
            keys[0], varied, estimator, weights, optimizer, rounds=rounds,
            tasks=size.tasks, state=state, on_divergence="leave_out",
        )  # fmt: skip
        state = result.state
        found.append((float(judge(result.hparams)), result.hparams))
    losses = np.array([loss for loss, _ in found])
    best = found[int(np.nanargmin(losses))][1]
    return best, losses, time.process_time() - begin


def study(size: Size, work: Work) -> Findings:
    def part(name):
        weights, losses, seconds = learn(name, size)
        return {"losses": losses, "seconds": seconds, **weights._asdict()}

    parts = work.each(RULES, part)
    rows = [
        {
            "rule": name,
            "untrained": float(found["losses"][0]),
            "learned": float(np.nanmin(found["losses"])),
            "CPU s": float(found["seconds"]),
        }
        for name, found in parts.items()
    ]
    weights = {name: {f: found[f] for f in RULE_FIELDS} for name, found in parts.items()}
    return Findings(
        rows,
        formats={"untrained": ".3f", "learned": ".3f", "CPU s": ".0f"},
        settings={"seconds": work.seconds},
        notes={"losses": {name: found["losses"].tolist() for name, found in parts.items()}},
        arrays=weights,
    )


RULE_FIELDS = lo.SteeredWeights._fields


if __name__ == "__main__":
    command("experiments.pretrained_rules", __doc__, study, Size(), QUICK)
