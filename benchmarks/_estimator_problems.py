"""Three problems on which all estimators are measured, and which estimators apply to each.

* ``converged``: ridge regression with an L2 coefficient per feature, trained to the end; truth in
  closed form.
* ``schedule``: a small tanh MLP after a few steps of gradient descent with momentum, one rate and
  one momentum per step; truth by reverse mode in f64.
* ``unstable``: a longer training of such an MLP with too large a rate, judged by the mean of its
  query losses after every window; truth is the gradient of that, smoothed by a Gaussian over the
  hyperparameters, from many antithetic pairs.

All three train on all their examples from a given start, so that whatever varies from estimate to
estimate is the estimator's own doing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from benchmarks import _reference, _regression
from benchmarks._reference import Data, Size
from metahpo import hypergrad
from metahpo.base import Estimator, HParams, Key, Params, Problem, PyTree, State, Task, TaskFamily
from metahpo.inner import scalar_loss
from metahpo.recomputation import least_states


class Entry(NamedTuple):
    """An estimator of a problem.

    Attributes:
        call: how it is made, for people; ``T`` stands for the number of steps.
        estimator: what ``hypergrad`` makes of it.
        runs: how many independent runs; one is enough for a deterministic estimator.
        estimates: how many estimates in a row a run is, for estimators with a memory.
        skipped: how many estimates before, which only warm the memory up.
    """

    call: str
    estimator: Estimator
    runs: int = 1
    estimates: int = 1
    skipped: int = 0


class Subject(NamedTuple):
    """A problem to measure on.

    Attributes:
        name: of the problem.
        training: ``(key, hparams, task) -> (loss, state)``, without a gradient.
        hparams: in f32, as ``task``.
        task: the data.
        truth: ``() -> (f64[h], f64[h])``, the gradient, raveled, and its standard error.
        entries: the estimators that apply.
        excluded: those that do not, and why.
    """

    name: str
    training: Callable[[Key, HParams, Task], tuple[chex.Array, State]]
    hparams: HParams
    task: Task
    truth: Callable[[], tuple[np.ndarray, np.ndarray]]
    entries: tuple[Entry, ...]
    excluded: dict[str, str]


class Sizes(NamedTuple):
    """How large the problems are and how much is sampled."""

    examples: int
    features: int
    batches: int  # of the regression's examples, for single-loop estimators
    ridge_steps: int
    skipped: int  # estimates before single-loop estimators have caught up
    schedule: Size
    unstable: Size
    window: int
    pairs: int
    runs: int  # of a random estimator
    truth_runs: int  # of 256 pairs


def subjects(sizes: Sizes) -> tuple[Subject, ...]:
    return converged(sizes), schedule(sizes), unstable(sizes)


SIGMA = 0.1
"""Of all estimators that perturb the hyperparameters, which are logarithms or logits."""

END_ONLY = "estimates the mean of the losses along training; here the last one alone counts"
MEAN = "judges the end of training alone; here the mean counts"
NOT_INITIAL = "sees initial parameters alone"
NO_INNER_LOSS = "needs an inner loss whose minimum is reached"


def converged(sizes: Sizes) -> Subject:
    """Ridge regression; the hyperparameters are the logarithms of the L2 coefficients."""
    arrays = _regression.arrays("ridge", sizes.examples, sizes.features)
    problem, steps = _regression.problem("ridge", _regression.DESCENT), sizes.ridge_steps
    inner, pairs, runs = _regression.inner_loss("ridge"), sizes.pairs, sizes.runs
    few, window = max(steps // 50, 1), max(steps // 10, 1)

    def implicit(solver: str, steps: int = steps, **options: Any) -> Estimator:
        return hypergrad.implicit(problem, steps, solver, **options)

    def batch_loss(hparams: HParams, task: Task, w: chex.Array, index: chex.Array) -> chex.Array:
        def part(x: chex.Array) -> chex.Array:
            return x.reshape(sizes.batches, -1, *x.shape[1:])[index]

        rows = {k: part(v) if k.startswith("support") else v for k, v in task.items()}
        return inner(hparams, rows, w)

    def single_loop(make: Callable[..., Estimator]) -> Estimator:
        return make(problem, batch_loss, sizes.batches, inner_rate=0.02)

    loop = {"runs": 4, "estimates": sizes.skipped // 4, "skipped": sizes.skipped}
    random = {"runs": runs}
    entries = (
        *_exact(problem, steps),
        Entry(f"forward, directions={pairs}", hypergrad.forward(problem, steps, pairs), **random),
        Entry(f"truncated, window={window}", hypergrad.truncated(problem, steps, window)),
        Entry("one_step", hypergrad.one_step(problem, steps)),
        Entry("implicit, cg, inner_loss", implicit("cg", inner_loss=inner)),
        Entry(f"implicit, cg, inner_loss, {few} steps", implicit("cg", few, inner_loss=inner)),
        Entry("implicit, neumann, inner_loss", implicit("neumann", inner_loss=inner)),
        Entry("implicit, nystrom, inner_loss", implicit("nystrom", inner_loss=inner)),
        Entry("implicit, gmres", implicit("gmres")),
        Entry("implicit, bicgstab", implicit("bicgstab")),
        Entry("implicit, normal_cg", implicit("normal_cg")),
        Entry("implicit, dense", implicit("dense")),
        Entry(f"es, {pairs} pairs", hypergrad.es(problem, steps, pairs, SIGMA), **random),
        _mixture(problem, sizes, steps),
        Entry("first_order", hypergrad.first_order(problem, steps)),
        Entry(f"soba, {sizes.batches} batches", single_loop(hypergrad.soba), **loop),
        Entry(f"saba, {sizes.batches} batches", single_loop(hypergrad.saba), **loop),
    )
    excluded = {"pes": END_ONLY, "nres": END_ONLY, "reptile": NOT_INITIAL}
    truth = _regression.truth("ridge", arrays)
    training = mh.inner.outer_loss(problem, steps)
    hparams = _reference.cast({"log_l2": arrays.pop("log_l2")})
    task = _reference.cast(arrays)
    known = truth, np.zeros_like(truth)
    return Subject("converged", training, hparams, task, lambda: known, entries, excluded)


def schedule(sizes: Sizes) -> Subject:
    """A short training; the hyperparameters are one rate and one momentum per step."""
    steps, pairs, runs = sizes.schedule.steps, sizes.pairs, sizes.runs
    problem = mh.problems.training(_classification(), _heavy_ball)
    mixed = mh.problems.training(_classification(), _heavy_ball, gradient=mh.mixed_gradient)
    ramp = np.linspace(0.0, 1.0, steps)
    made = {"log_rate": np.log(0.5) - ramp, "logit_momentum": ramp}
    data = _reference.data(sizes.schedule)
    window, random = max(steps // 4, 1), {"runs": runs}
    entries = (
        *_exact(problem, steps),
        Entry("reverse, mixed_gradient", hypergrad.reverse(mixed, steps)),
        Entry(f"forward, directions={pairs}", hypergrad.forward(problem, steps, pairs), **random),
        Entry(f"truncated, window={window}", hypergrad.truncated(problem, steps, window)),
        Entry("one_step", hypergrad.one_step(problem, steps)),
        Entry("implicit, gmres", hypergrad.implicit(problem, steps)),
        Entry(f"es, {pairs} pairs", hypergrad.es(problem, steps, pairs, SIGMA), **random),
        _mixture(problem, sizes, steps),
        Entry("first_order", hypergrad.first_order(problem, steps)),
        Entry("reptile", hypergrad.reptile(problem, steps)),
    )
    excluded = dict.fromkeys(("pes", "nres"), END_ONLY)
    excluded |= dict.fromkeys(("soba", "saba"), NO_INNER_LOSS)

    def truth() -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            estimate = jax.jit(hypergrad.reverse(problem, steps).estimate)
            task, hparams = _reference.cast((data, made), jnp.float64)
            grad = raveled(estimate(jax.random.key(0), hparams, task, ())[0].grad)
        return grad, np.zeros_like(grad)

    hparams, task = _reference.cast((made, data))
    training = mh.inner.outer_loss(problem, steps)
    return Subject("schedule", training, hparams, task, truth, entries, excluded)


def unstable(sizes: Sizes) -> Subject:
    """Too large a rate; the hyperparameters are the rate, the momentum and the L2 coefficient."""
    steps, window, pairs, runs = sizes.unstable.steps, sizes.window, sizes.pairs, sizes.runs
    count = steps // window
    problem = mh.problems.training(_classification(), _momentum, _penalised)
    averaged = averaging(problem, window, count)
    made = {"log_l2": np.log(1e-3), "log_rate": np.log(5.0), "logit_momentum": np.zeros(())}
    hparams, task = _reference.cast((made, _reference.data(sizes.unstable)))

    def persistent(make: Callable[..., Estimator]) -> Estimator:
        return make(problem, steps, window, pairs, SIGMA, stagger="even")

    random = {"runs": runs}
    online = {"runs": max(runs // 10, 2), "estimates": count}
    truncated = hypergrad.truncated(problem, steps, window, burn_in=False)
    entries = (
        *_exact(averaged, steps),
        Entry("forward, directions=2", hypergrad.forward(averaged, steps, 2), **random),
        Entry(f"truncated, window={window}, burn_in=False", truncated, estimates=count),
        Entry("implicit, gmres", hypergrad.implicit(problem, steps)),
        Entry(f"es, {pairs} pairs", hypergrad.es(averaged, steps, pairs, SIGMA), **random),
        Entry(f"pes, {pairs} pairs, window={window}", persistent(hypergrad.pes), **online),
        Entry(f"nres, {pairs} pairs, window={window}", persistent(hypergrad.nres), **online),
        _mixture(averaged, sizes, steps),
        Entry("first_order", hypergrad.first_order(averaged, steps)),
    )
    excluded = {
        "truncated, burn_in=True": MEAN,
        "one_step": MEAN,
        "reptile": NOT_INITIAL,
        "soba": NO_INNER_LOSS,
        "saba": NO_INNER_LOSS,
    }
    many = hypergrad.es(averaged, steps, 256, SIGMA)

    def truth() -> tuple[np.ndarray, np.ndarray]:
        run = jax.jit(lambda key: many.estimate(key, hparams, task, ())[0].grad)
        keys = jax.random.split(jax.random.key(1), sizes.truth_runs)
        grads = np.stack([raveled(run(key)) for key in keys])
        return grads.mean(axis=0), grads.std(axis=0, ddof=1) / np.sqrt(len(grads))

    training = mh.inner.outer_loss(averaged, steps)
    return Subject("unstable", training, hparams, task, truth, entries, excluded)


def raveled(tree: PyTree) -> np.ndarray:
    """All numbers of a pytree in f64, leaf by leaf."""
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def averaging(problem: Problem, window: int, count: int) -> Problem:
    """The same training, whose loss is the mean of those after each of ``count`` windows."""

    def init(key: Key, hparams: HParams, task: Task) -> tuple[State, chex.Array, chex.Array]:
        return problem.init(key, hparams, task), jnp.zeros(()), jnp.zeros((), jnp.int32)

    def step(key: Key, hparams: HParams, task: Task, state: State) -> State:
        inner, total, updates = state
        inner, updates = problem.step(key, hparams, task, inner), updates + 1

        def loss() -> chex.Array:
            return scalar_loss(problem, key, hparams, task, inner) / count

        total += jax.lax.cond(updates % window == 0, loss, lambda: jnp.zeros_like(total))
        return inner, total, updates

    return problem._replace(init=init, step=step, loss=lambda key, h, task, state: state[1])


def _exact(problem: Problem, steps: int) -> tuple[Entry, ...]:
    found = []
    for mode in ("none", "step", "sqrt", least_states(steps)):
        shown = f'"{mode}"' if isinstance(mode, str) else mode
        estimator = hypergrad.reverse(problem, steps, mode)
        found.append(Entry(f"reverse, checkpoint={shown}", estimator))
    return (*found, Entry("forward", hypergrad.forward(problem, steps)))


def _mixture(problem: Problem, sizes: Sizes, steps: int) -> Entry:
    estimator = hypergrad.mixture(problem, steps, sizes.pairs, SIGMA)
    return Entry(f"mixture, {sizes.pairs} pairs", estimator, runs=max(sizes.runs // 4, 2))


def _classification() -> TaskFamily:
    """Cross entropy of the MLP that ``_reference.data`` starts."""

    def loss(params: Params, task: Data, split: str) -> chex.Array:
        return _reference.outer_loss(params, *getattr(task, split))

    return TaskFamily(
        lambda key: _reference.data(_reference.SMALL),
        lambda key, task: task.init,
        loss,
        lambda task: jnp.zeros(0),
    )


def _penalised(hparams: HParams) -> TaskFamily:
    family = _classification()

    def loss(params: Params, task: Data, split: str) -> chex.Array:
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        penalty = jnp.exp(hparams["log_l2"]) * squares / 2 if split == "support" else 0.0
        return family.loss(params, task, split) + penalty

    return family._replace(loss=loss)


def _momentum(hparams: HParams) -> optax.GradientTransformation:
    rate, momentum = jnp.exp(hparams["log_rate"]), jax.nn.sigmoid(hparams["logit_momentum"])
    return optax.sgd(rate, momentum=momentum)


class Velocity(NamedTuple):
    """The state of ``_heavy_ball``."""

    step: chex.Array
    velocity: Params


def _heavy_ball(hparams: HParams) -> optax.GradientTransformation:
    """Gradient descent with momentum, where both have an entry per step."""
    rates = jnp.exp(hparams["log_rate"])
    momenta = jax.nn.sigmoid(hparams["logit_momentum"])

    def init(params: Params) -> Velocity:
        return Velocity(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(grads: Params, state: Velocity, params: Params | None = None) -> Any:
        rate, momentum = rates[state.step], momenta[state.step]
        velocity = jax.tree.map(lambda v, g: momentum * v - rate * g, state.velocity, grads)
        return velocity, Velocity(state.step + 1, velocity)

    return optax.GradientTransformation(init, update)
