"""The first-order hypergradient: training is differentiated as if its steps were constants."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, State, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.hypergrad.unrolled import begun
from metahpo.inner import advance, judge, repeat


def first_order(problem: Problem, steps: int, *, unrolled: bool = False) -> Estimator:
    """FOMAML's approximation (Finn et al. 2017, section 5.2) for any Problem.

    The Jacobian of a step with respect to the state is replaced by the identity; the derivative of
    a step with respect to the hyperparameters stays.  With the outer loss ``g`` at the final
    parameters, the initial parameters get ``g'``, and a learning rate gets
    ``-g' . sum_t grad f(params_t)``: no second derivative anywhere.  The identity holds for every
    float of the state, momentum included, so what a hyperparameter does to the moments of an
    optimiser is lost.

    Because the outer gradient passes every step unchanged, nothing is stored: training runs a
    second time and each step's derivative is added up on the way.  Hyperparameters that only the
    initial state sees cost no second time.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        unrolled: writes the steps out one by one, as ``inner.unroll`` does on request.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (final training state), ``grad_norm``,
        ``finite``, ``zero_grad``.

    Raises:
        ValueError: if ``steps`` is negative; when called, if no
            hyperparameter is a float.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> fomaml = mh.hypergrad.first_order(mh.meta.maml(family, learning_rate=0.01), steps=1)
        >>> task = jax.jit(family.sample)(jax.random.key(0))
        >>> params = family.init(jax.random.key(1), task)
        >>> estimate, _ = jax.jit(fomaml.estimate)(jax.random.key(2), params, task, ())
        >>> bool(estimate.info["finite"])
        True
    """
    mode = "unrolled" if unrolled else "none"
    train = advance(problem, steps, mode)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        leaves, merge = floats.split(hparams)
        first, pull_start = begun(problem, key, leaves, merge, task)
        last = train(hparams, first)
        at_end, merge_state = floats.parts(last.state)

        def loss(at_end: floats.Floats, leaves: floats.Floats) -> jax.Array:
            return judge(problem, merge(leaves), last._replace(state=merge_state(at_end)))

        value, (by_state, direct) = jax.value_and_grad(loss, argnums=(0, 1))(at_end, leaves)

        def step(key: Key, carry: PyTree) -> PyTree:
            state, total = carry
            state, pull = _vjp(lambda h: problem.step(key, merge(h), task, state), leaves)
            return state, _add(total, pull(by_state))

        start = (first.state, _add(direct, pull_start(by_state)))
        _, total = repeat(step, steps, mode)(first.keys.steps, start)
        grad = floats.gradient_tree(hparams, total)
        info = {"state": last.state, **gradient_info(value, grad)}
        return Estimate(value, grad, info), memory

    return Estimator(no_memory, estimate, problem=problem, steps=steps)


def _vjp(
    fn: Callable[[floats.Floats], State], leaves: floats.Floats
) -> tuple[State, Callable[[floats.Floats], floats.Floats]]:
    """The new state, and the pull-back of its float leaves' cotangents."""

    def of_floats(leaves: floats.Floats) -> tuple[floats.Floats, State]:
        state = fn(leaves)
        return floats.parts(state)[0], state

    _, pull, state = jax.vjp(of_floats, leaves, has_aux=True)
    return state, lambda cotangents: pull(cotangents)[0]


def _add(a: floats.Floats, b: floats.Floats) -> floats.Floats:
    return jax.tree.map(jnp.add, a, b)
