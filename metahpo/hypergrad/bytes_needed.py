"""How much memory reverse mode through a training needs, and the fastest plan within a budget."""

from collections.abc import Callable

import jax
import jax.extend
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import HParams, Key, Problem, PyTree, State, Task
from metahpo.inner import scalar_loss
from metahpo.recomputation import Checkpoint, keep_products, least_states, plan

SCRATCH = 1.3
"""What XLA needs for one step, over what JAX keeps of it: convolutions pad and transpose."""


def fastest(
    problem: Problem, steps: int, budget: int, key: Key, hparams: HParams, task: Task
) -> Checkpoint:
    """The fastest way of differentiating ``steps`` updates in ``budget`` bytes.

    Everything is kept if that fits (on a CPU every state), else as many states as fit.  Sizes come
    from shapes alone: what JAX keeps of one step and of the outer loss, states, cotangents.

    Raises:
        ValueError: if not even the fewest states fit; the message says how many bytes would.
    """
    state = jax.eval_shape(problem.init, key, hparams, task)

    def step(hparams: HParams, state: State) -> State:
        return problem.step(key, hparams, task, state)

    def loss(hparams: HParams, state: State) -> PyTree:
        return scalar_loss(problem, key, hparams, task, state)

    one = max(size(state), 1)
    kept = residuals(keep_products(step), hparams, state)
    work = max(residuals(step, hparams, state), residuals(loss, hparams, state))
    # On top come a state and its cotangent, and the hyperparameters' cotangents.
    work = int(SCRATCH * work) + 2 * one + 2 * size(hparams)
    # On a CPU writing and reading what is kept takes as long as computing it again, or longer.
    if jax.default_backend() != "cpu" and work + steps * kept <= budget:
        return "none"
    if work + steps * one <= budget:
        return "step"
    least = least_states(steps)
    for states in range(max(least, (budget - work) // one), least - 1, -1):
        cut = plan(steps, states)
        needed = work + cut.states * one + (cut.block - 1) * kept
        if needed <= budget:
            return states
    raise ValueError(
        f"memory_budget={budget} bytes is too small for {steps} steps: these need about {needed}, "
        f"for {least} states of {one} bytes and the values of one step"
    )


def size(tree: PyTree) -> int:
    """Bytes of the arrays, or shapes, of a pytree."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda: tree))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def residuals(fn: Callable[[HParams, State], PyTree], hparams: HParams, state: State) -> int:
    """Bytes that the reverse mode of ``fn`` keeps besides hyperparameters and constants."""

    def kept(hparams: HParams, state: State) -> list[jax.Array]:
        leaves, merge = floats.parts((hparams, state))

        def of_floats(leaves: floats.Floats) -> list[jax.Array]:
            out = map(jnp.asarray, jax.tree.leaves(fn(*merge(leaves))))
            return floats.parts(list(out))[0]

        return jax.tree.leaves(jax.vjp(of_floats, leaves)[1])

    closed, shapes = jax.make_jaxpr(kept, return_shape=True)(hparams, state)
    jaxpr = closed.jaxpr
    free = {*jaxpr.invars[: len(jax.tree.leaves(hparams))], *jaxpr.constvars}
    found = {
        variable: size(shape)  # a value that is kept twice is stored once
        for variable, shape in zip(jaxpr.outvars, shapes, strict=True)
        if isinstance(variable, jax.extend.core.Var) and variable not in free
    }
    return sum(found.values())
