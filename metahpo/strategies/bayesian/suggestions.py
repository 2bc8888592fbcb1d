"""A round's points from a Gaussian process: fitted, conditioned, one chosen after the other."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key
from metahpo.space import Dimension
from metahpo.surrogates import acquisition as acquisitions
from metahpo.surrogates import derivatives, fit, promising
from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates.acquisition import Acquisition
from metahpo.surrogates.gaussian_process import Observations
from metahpo.surrogates.prior import Prior
from metahpo.surrogates.promising import Where
from metahpo.surrogates.warping import warped

FIT_STEPS = 16  # with 60, far closer to the mode, regrets on tables are no lower
STEPS, STEEP_STEPS = 12, 48  # to the next point: gradients say more closely where it is
CENTRES = 3  # of the best so far
LEAST_STD = 1e-6
SAME = 1 - 1e-4  # correlation of points that are as good as one
STEEPEST = 100.0  # no length scale explains more


Offset = Callable[[chex.Array], chex.Array]
TRUST = 4.0  # evaluations that it takes to halve the trust in an expectation that is wrong


class Known(NamedTuple):
    """What a process learns from, in ``N`` slots.

    Attributes:
        unit: ``f[N, D]``, points.
        loss: ``f[N]``.
        told: ``bool[N]``, whose losses are known.
        pending: ``bool[N]``, whose are not known yet.
        grad: ``f[N, D]``, of the losses on the unit cube, or ``()``.
    """

    unit: chex.Array
    loss: chex.Array
    told: chex.Array
    pending: chex.Array
    grad: chex.Array | tuple


class Model(NamedTuple):
    """What is known when a point is chosen.

    Attributes:
        prior: of the process.
        lengths: ``f[D]``, length scales.
        process: conditioned on losses, pending points and the points of this round so far.
        best: ``f[]``, the highest that was observed.
        dims: of the coordinates.
        centres: ``f[C, D]``, the best points.
        slots: of the process, the last of which hold points and the first their derivatives.
        offset: ``(points f[M, D]) -> f[M]``, what is added to the process.
    """

    prior: Prior
    lengths: chex.Array
    process: gp.Posterior
    best: chex.Array
    dims: Sequence[Dimension]
    centres: chex.Array
    slots: int
    offset: Offset

    def unless_known(self, where: Where, seen: chex.Array, value: chex.Array) -> chex.Array:
        """``-inf`` for points of which nothing can be learned: as good as evaluated, or pending.

        Noise makes a process expect something of the same point again and again.
        """
        data = self.process.data
        points, mask = data.x[-self.slots :], data.mask[-self.slots :]
        kernel, numbers = self.prior.kernel, self.process.numbers.kernel
        if where.edges is not None:
            # In a small box all points are alike, whatever their lengths.
            numbers = self.prior.numbers(jnp.append(jnp.log(where.edges), 0.0)).kernel
        same = kernel.covariance(numbers, seen, points) > SAME
        return jnp.where((same & mask).any(1), -jnp.inf, value)


Choose = Callable[[Key, Model], chex.Array]
Suggest = Callable[[Key, Known, chex.Array], tuple[chex.Array, chex.Array]]
Places = Callable[[Model], Where]


def anywhere(model: Model) -> Where:
    """The whole cube, more closely near the best points."""
    return promising.everywhere(model.dims, model.centres)


def check_acquisition(acquisition: str | Acquisition) -> None:
    """Raises ``ValueError`` unless there is a ``chooser`` by it."""
    if isinstance(acquisition, str):
        checks.one_of("acquisition", acquisition, [*acquisitions.BY_NAME, "thompson"])
    else:
        checks.function("acquisition", acquisition, "(mean, std, best) -> value", *range(3))


def chooser(
    acquisition: str | Acquisition, steps: int = STEPS, places: Places = anywhere
) -> Choose:
    """``(key, model) -> f[D]``, by the name of an acquisition function, ``"thompson"``, or one.

    It is climbed in so many steps from the best of the candidates that are drawn in ``places``.
    """
    if acquisition == "thompson":
        return _sampled(places)
    if isinstance(acquisition, str):
        acquisition = acquisitions.BY_NAME[acquisition]
    return _most_promising(acquisition, steps, places)


def _most_promising(acquisition: Acquisition, steps: int, places: Places) -> Choose:
    """The point at which ``acquisition`` is highest."""

    def choose(key: Key, model: Model) -> chex.Array:
        where = places(model)

        def value(points: chex.Array) -> chex.Array:
            seen = model.prior.seen(points)
            mean, variance = gp.predict(model.prior.kernel, model.process, seen)
            mean += model.offset(points)
            std = jnp.sqrt(jnp.maximum(variance, LEAST_STD**2))
            return model.unless_known(where, seen, acquisition(mean, std, model.best))

        return promising.highest(key, value, model.dims, where, steps)

    return choose


def _sampled(places: Places) -> Choose:
    """The best of many candidates in one sample of the process (Thompson 1933)."""

    def choose(key: Key, model: Model) -> chex.Array:
        points_key, sample_key = jax.random.split(key)
        where = places(model)
        points = promising.candidates(points_key, model.dims, where)
        seen = model.prior.seen(points)
        sample = gp.sample(sample_key, model.prior.kernel, model.process, seen)
        sample += model.offset(points)
        return points[jnp.argmax(model.unless_known(where, seen, sample))]

    return choose


def suggestions(
    slots: int,
    dims: Sequence[Dimension],
    prior: Prior,
    choose: Choose,
    population: int,
    steep: int,
    expected: Offset | None = None,
) -> Suggest:
    """What a process of so many slots suggests.

    Args:
        slots: points that it can hold; those of ``Known`` behind them are not looked at.
        dims: of the ``D`` coordinates.
        prior: of the process; with ``steep``, that of ``derivatives.of_space``.
        choose: the next point.
        population: points a round, ``P``.
        steep: points of which gradients are observed, the best ones; 0 for none.
        expected: ``(points f[M, D]) -> f[M]``, losses that are expected, of any scale.

    Returns:
        ``(key, known, free f[F]) -> (f[P, D], f[F])``: a round's points, and the process's numbers
        as they are now, which are fitted from ``free`` and from the prior's mode.
    """

    def suggest(key: Key, known: Known, free: chex.Array) -> tuple[chex.Array, chex.Array]:
        unit, loss, told = (leaf[:slots] for leaf in (known.unit, known.loss, known.told))
        y, slope = warped(loss, told)
        offset = _no_offset if expected is None else _trusted(expected, unit, y, told)
        data = Observations(prior.seen(unit), y - offset(unit), told)
        if steep:
            grad = slope[:, None] * known.grad[:slots]  # type: ignore[call-overload]
            data = derivatives.joined(_derivatives(data, grad, dims, steep), data)
        before = len(data.y) - slots
        starts = jnp.stack([free, prior.mode.astype(unit.dtype)])
        free = fit.mode(prior.kernel, prior.numbers, prior.log_density, starts, data, FIT_STEPS)
        numbers = prior.numbers(free)
        process = gp.posterior(prior.kernel, numbers, data)
        # Pending points, too, are as if what is predicted there had been observed.
        asked = data.mask | jnp.pad(known.pending[:slots], (before, 0))
        mean, _ = gp.predict(prior.kernel, process, data.x)
        data = Observations(data.x, jnp.where(data.mask, data.y, mean), asked)
        process = gp.posterior(prior.kernel, numbers, gp.extended(data, population))
        seen = jnp.where(told, y, -jnp.inf)
        _, order = jax.lax.top_k(seen, CENTRES)
        room, lengths = slots + population, prior.lengths(free)
        model = Model(prior, lengths, process, seen.max(), dims, unit[order], room, offset)

        def one(process: gp.Posterior, i: chex.Array) -> tuple[gp.Posterior, chex.Array]:
            point = choose(jax.random.fold_in(key, i), model._replace(process=process))
            seen = prior.seen(point[None])[0]
            return gp.imagined(prior.kernel, process, before + slots + i, seen), point

        _, points = jax.lax.scan(one, process, jnp.arange(population))
        return points, free

    return suggest


def _no_offset(points: chex.Array) -> chex.Array:
    return jnp.zeros(len(points), points.dtype)


def _trusted(expected: Offset, unit: chex.Array, y: chex.Array, told: chex.Array) -> Offset:
    """What was expected, in units of ``y``, as far as it is borne out.

    A multiple of it is fitted to what was observed, from 1 by ridge regression: an expectation that
    has nothing to do with the losses soon counts nothing, and what is left the process learns.
    """
    count = jnp.maximum(told.sum(), 1)

    def standardised(values: chex.Array) -> tuple[chex.Array, chex.Array]:
        centre = jnp.where(told, values, 0.0).sum() / count
        spread = jnp.sqrt(jnp.where(told, (values - centre) ** 2, 0.0).sum() / count)
        # What is the same everywhere has no spread but that of rounding.
        return centre, jnp.where(spread > 1e-5 * jnp.abs(centre), spread, 1.0)

    of_loss = expected(unit)
    centre, spread = standardised(of_loss)
    z = jnp.where(told, (centre - of_loss) / spread, 0.0)  # higher is better, as of ``y``
    observed = jnp.where(told, y, 0.0)
    multiple = (z @ observed + TRUST) / (z @ z + TRUST)
    multiple = jnp.maximum(multiple, 0.0)
    return lambda points: multiple * (centre - expected(points)) / spread


def _derivatives(
    data: Observations, grad: chex.Array, dims: Sequence[Dimension], steep: int
) -> Observations:
    """Those of the best points, of which there are gradients ``f[N, D]``.

    A gradient of zeros stands for one that was not finite.
    """
    columns = derivatives.floats(dims)
    grad = grad[:, columns]
    there = data.mask[:, None] & (jnp.abs(grad) < STEEPEST)
    there &= (there & (grad != 0)).any(1, keepdims=True)
    _, best = jax.lax.top_k(jnp.where(there.any(1), data.y, -jnp.inf), steep)
    return derivatives.observations(data.x[best, :-1], grad[best], there[best], columns)
