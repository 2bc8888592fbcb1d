"""Few-shot learning of handwritten digits that training never saw; nothing is downloaded.

scikit-learn's 1,797 digits of 8 x 8 pixels.  Ten times three digits are held out, in cyclic
triples, so that each is held out three times; the other seven, each in four rotations, train the
learner.  Judged are 2,000 episodes of the three held-out digits, 3-way, 15 queries a class;
guessing is right in 33.3 %.

Seven classes teach little about new ones, so the first question is whether a learner beats the
pixels themselves: the nearest class mean, and ridge regression with its l2 at 1.  Networks are
dense, ReLU, 64-128-128-3, or -64 for embeddings; 16 tasks a round with 5 queries a class, 3,000
rounds of Adam on a cosine from 1e-3 to 0.  MAML takes 5 steps of 0.1 and so does ANIL, Reptile's
are 10 of 0.05, Meta-SGD and MAML++ learn theirs from 0.1.  Nothing was tuned.

Means and 95 % intervals are over the ten splits; differences from the class means in pixels are
paired by split.

    python -m experiments.digits_few_shot [--quick] [--resume]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

import metahpo as mh
from metahpo.base import Key, Network
from metahpo.problems.digits_few_shot import DenseClassifier
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, beside, column, command, draw_intervals, paired, panels

WAYS, SHOTS, TASKS = 3, (1, 5), 16
TRAIN_QUERIES, QUERIES = 5, 15
SPLITS = tuple(tuple(sorted((i + j) % 10 for j in (0, 1, 3))) for i in range(10))  # held out
BASE = "pixels, class means"


class Size(NamedTuple):
    """How much is computed."""

    splits: int = 10
    rounds: int = 3_000
    episodes: int = 2_000


QUICK = Size(splits=2, rounds=100, episodes=100)


class Method(NamedTuple):
    """A learner on a family, how it is differentiated, its steps, and what its network puts out."""

    problem: Callable[[mh.TaskFamily], mh.Problem]
    estimator: Callable[[mh.Problem], mh.Estimator] | None  # None: there is nothing to train
    steps: int = 0
    outputs: int | None = WAYS  # None: the pixels are the features


def through(steps: int) -> Callable[[mh.Problem], mh.Estimator]:
    return lambda problem: mh.hypergrad.reverse(problem, steps, "unrolled")


META = mh.meta
METHODS = {
    BASE: Method(lambda f: META.prototypical(f, ways=WAYS), None, outputs=None),
    "pixels, ridge": Method(lambda f: META.ridge_head(f, ways=WAYS), None, outputs=None),
    "MAML": Method(lambda f: META.maml(f, 0.1), through(5), 5),
    "FOMAML": Method(
        lambda f: META.maml(f, 0.1), lambda p: mh.hypergrad.first_order(p, 5, unrolled=True), 5
    ),
    "Reptile": Method(
        lambda f: META.maml(f, 0.05), lambda p: mh.hypergrad.reptile(p, 10, unrolled=True), 10
    ),
    "ANIL": Method(lambda f: META.anil(f, 0.1), through(5), 5),
    "Meta-SGD": Method(lambda f: META.meta_sgd(f, initial_rate=0.1), through(1), 1),
    "MAML++": Method(lambda f: META.maml_plus_plus(f, 5, initial_rate=0.1), through(5), 5),
    "ridge head": Method(lambda f: META.ridge_head(f, ways=WAYS), through(0), outputs=64),
    "logistic head": Method(lambda f: META.logistic_head(f, ways=WAYS), through(0), outputs=64),
    "prototypical": Method(lambda f: META.prototypical(f, ways=WAYS), through(0), outputs=64),
    "matching": Method(lambda f: META.matching(f, ways=WAYS, scale=10.0), through(0), outputs=64),
    "relation": Method(lambda f: META.relation(f, ways=WAYS), through(0), outputs=64),
}


def samplers(part: str, shots: int, splits: int) -> list[Callable[[Key], mh.problems.Episode]]:
    """Of each split, episodes of its held-out digits (``"test"``) or of the others, turned."""
    training = part == "train"
    return [
        mh.problems.digits_few_shot(
            WAYS,
            shots,
            TRAIN_QUERIES if training else QUERIES,
            classes=[digit for digit in range(10) if (digit in held_out) != training],
            rotations=training,
        ).sample
        for held_out in SPLITS[:splits]
    ]


def accuracies(method: Method, shots: int, size: Size) -> np.ndarray:
    """In % of every split, f[splits]; all meta-trainings and their scores are one program."""
    if method.outputs is None:
        network = Network(lambda key, x: (), lambda params, x: x.reshape(len(x), -1))
    else:
        model = DenseClassifier(method.outputs, (128, 128))
        network = Network(model.init, model.apply)
    samples = {part: samplers(part, shots, size.splits) for part in ("train", "test")}

    def problem(part, split):
        def sample(key):
            return jax.lax.switch(split, samples[part], key)

        return method.problem(mh.problems.few_shot(sample, network, mh.problems.cross_entropy))

    def one(split):
        init_key, train_key, test_key = jax.random.split(jax.random.key(split), 3)
        train, test = problem("train", split), problem("test", split)
        hparams = train.initial(init_key)
        if method.estimator is not None:
            adam = optax.flatten(optax.adam(optax.cosine_decay_schedule(1e-3, size.rounds)))
            options = {"rounds": size.rounds, "tasks": TASKS}
            estimator = method.estimator(train)
            result = mh.meta_train(train_key, train, estimator, hparams, adam, **options)
            hparams = result.hparams
        learner, right = mh.meta.learner(test, method.steps), mh.problems.accuracy
        options = {"episodes": size.episodes, "modes": ("transductive",)}
        scores = mh.meta.evaluate(test_key, learner, hparams, test.sample, right, **options)
        return scores["transductive"].mean

    run = jax.jit(lambda: jax.lax.map(one, np.arange(size.splits)))
    return 100 * np.asarray(run())


def study(size: Size, work: Work) -> Findings:
    """Accuracies in % of each split, of every learner and number of shots."""

    def compute(name):
        return {"accuracies": accuracies(METHODS[name[0]], name[1], size)}

    parts = work.each([(name, shots) for name in METHODS for shots in SHOTS], compute)
    found = {name: part["accuracies"] for name, part in parts.items()}
    each = {f"{name}, {shots}-shot": values for (name, shots), values in found.items()}
    return Findings(
        tabulate(found),
        notes={"held out": SPLITS[: size.splits], "accuracies %": each},
    )


def tabulate(found):
    rows = {name: {"learner": name, "steps": METHODS[name].steps} for name in METHODS}
    for shots in SHOTS:
        accuracies = {name: found[name, shots] for name in METHODS}
        cells = paired(accuracies, BASE, f"{shots}-shot %", f"{shots}-shot, minus pixels")
        rows = {name: row | cells[name] for name, row in rows.items()}
    return list(rows.values())


def plot(results, path) -> None:
    """Each split's difference from the pixels, and their mean."""
    rows, each = results["rows"], results["accuracies %"]
    minus = {shots: column(rows, f"{shots}-shot, minus pixels", "learner") for shots in SHOTS}
    few = minus[SHOTS[0]]
    names = sorted((name for name in few if name != BASE), key=lambda name: -few[name].mean)
    best = next(name for name in names if METHODS[name].estimator is not None)
    one, five = (beside(minus[shots][best].mean, ".1f", " points") for shots in SHOTS)
    title = f"The best learner, {best}, ends {one} the pixels with 1 shot and {five} with 5"
    shape = {"sharex": True, "sharey": True}
    with panels(path, 1, len(SHOTS), size=(8, 4.4), title=title, **shape) as axes:
        for axis, shots in zip(axes, SHOTS, strict=True):
            base = np.array(each[f"{BASE}, {shots}-shot"])
            for i, name in enumerate(names):
                values = np.array(each[f"{name}, {shots}-shot"]) - base
                axis.plot(values, np.full(len(values), i + 0.3), ".", color="0.7", ms=4)
            draw_intervals(axis, {name: minus[shots][name] for name in names}, color=COLORS[0])
            axis.axvline(0, color="0.4", linewidth=0.8)
            axis.set_title(f"{WAYS}-way {shots}-shot, pixels at {base.mean():.1f} %", fontsize=10)
            axis.set(xlabel="accuracy minus that of the pixels,\n% points, and 95 % intervals")


PICTURES = {"digits_few_shot.png": plot}


if __name__ == "__main__":
    command("experiments.digits_few_shot", __doc__, study, Size(), QUICK, PICTURES)
