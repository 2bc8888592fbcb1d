"""A flax NNX module as a Problem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.base import HParams, Key, Params, Problem, PyTree, Task
from metahpo.networks.flax_convolution import with_fast_convolutions
from metahpo.problems.batches import as_sampler, minibatch, part_of, with_aux
from metahpo.problems.few_shot import Examples, filled
from metahpo.problems.stateful import StatefulFamily
from metahpo.problems.training import training

Module = Any  # flax.nnx.Module, which is imported where it is used: importing it takes a second


def nnx(
    make: Callable[[Any], Module],
    loss: Callable[[Module, Examples], Any],
    data: Task | Callable[[Key], Task],
    optimizer: Callable[[HParams], optax.GradientTransformation],
    *,
    batch_size: int | None = None,
    training_loss: Callable[[Module, Examples, HParams], Any] | None = None,
    gradient: Callable[..., Callable[[Params], Params]] = jax.grad,
    initial: Callable[[Key], HParams] | None = None,
) -> Problem:
    """Training of a flax NNX module by an optax optimiser.

    The module is in its training mode for updates (``model.train()``) and in its evaluation mode
    when it is judged or predicts (``model.eval()``).  Every update has random numbers of its own.
    What is an ``nnx.Param`` is trained; all other variables (batch statistics) are kept from update
    to update.  Parameters and variables are plain nested dictionaries in the state, by name.

    On a CPU convolutions are matrix products, which stay fast for many members at once; layers with
    a ``conv_general_dilated`` of their own keep it.

    Args:
        make: ``(rngs) -> module``.
        loss: ``(module, examples) -> f[]``, or ``(f[], aux)``: what trains it and what judges it;
            ``examples`` are ``x, y``, and ``x, y, weight`` if they have weights.
        data: a task with the fields ``support`` (trains) and ``query`` (judges), each an
            ``Examples(x, y)``, as ``mh.problems.split`` makes them; or ``(key) -> task``.
        optimizer: ``(hparams) -> optax.GradientTransformation``.
        batch_size: rows of an update, drawn with replacement; all rows by default.
        training_loss: ``(module, (x, y), hparams)``, in place of ``loss`` for updates, where
            hyperparameters shape the loss (label smoothing, augmentation, a regulariser).  What
            judges must not depend on them.
        gradient: as of ``training``.
        initial: ``(key) -> hparams``, where learning the hyperparameters starts.

    Returns:
        A Problem whose state is a ``TrainState``; ``predict`` is the module's call.

    Raises:
        ValueError: for data without the two parts, or more than the rows in a batch.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> from flax import nnx as flax_nnx
        >>> x = jax.random.normal(jax.random.key(0), (30, 2))
        >>> data = mh.problems.split(x, x.sum(1, keepdims=True), train=20, validation=5)
        >>> problem = nnx(
        ...     lambda rngs: flax_nnx.Linear(2, 1, rngs=rngs),
        ...     lambda model, batch: mh.problems.squared_error(model(batch.x), batch.y),
        ...     data,
        ...     lambda h: optax.sgd(h["lr"]),
        ... )
        >>> train = jax.jit(mh.inner.outer_loss(problem, steps=100))
        >>> bool(train(jax.random.key(1), {"lr": 0.1}, data)[0] < 1e-3)
        True
    """
    parts = _Parts(make)

    def init(key: Key, task: Task) -> tuple[Params, PyTree]:
        del task
        return parts.taken_apart(make(_flax().Rngs(key)))

    def family(hparams: HParams | None) -> StatefulFamily:
        def judged(
            key: Key, params: Params, variables: PyTree, task: Task, split: str
        ) -> tuple[chex.Array, PyTree, PyTree]:
            module = parts.together(key, params, variables)
            examples = filled(part_of(task, split))
            if split == "support":
                module.train()
            else:
                module.eval()
            if split == "support" and training_loss is not None:
                value, aux = with_aux(training_loss(module, examples, hparams))
            else:
                value, aux = with_aux(loss(module, examples))
            return value, parts.taken_apart(module)[1], aux

        return StatefulFamily(as_sampler(data), init, judged, predict=predict)

    def predict(params: Params, variables: PyTree, x: chex.Array) -> PyTree:
        module = parts.together(jax.random.key(0), params, variables)  # nothing is drawn
        module.eval()
        return module(x)

    return training(
        family(None),
        optimizer,
        configure=family,
        minibatch=None if batch_size is None else minibatch(batch_size),
        gradient=gradient,
        initial=initial,
    )


class _Shape(NamedTuple):
    """A module without its numbers."""

    graph: Any
    params: Any
    rngs: Any
    variables: Any


class _Parts:
    """Between a module and its parameters and variables as dictionaries."""

    def __init__(self, make: Callable[[Any], Module]):
        self._make = make
        self._shape: _Shape | None = None

    def taken_apart(self, module: Module) -> tuple[Params, PyTree]:
        flax = _flax()
        _, params, _, variables = self._split(module)
        return flax.to_pure_dict(params), flax.to_pure_dict(variables)

    def together(self, key: Key, params: Params, variables: PyTree) -> Module:
        """The module, with random numbers that ``key`` gives."""
        flax, shape = _flax(), self._known()
        states = [jax.tree.map(lambda x: x, state) for state in shape[1:]]
        flax.replace_by_pure_dict(states[0], params)
        states[1] = _reseeded(key, states[1])
        flax.replace_by_pure_dict(states[2], variables)
        return flax.merge(shape.graph, *states)

    def _known(self) -> _Shape:
        if self._shape is None:
            flax = _flax()
            module = flax.eval_shape(lambda: self._make(flax.Rngs(jax.random.key(0))))
            self._shape = _Shape(*self._split(with_fast_convolutions(module)))
        return self._shape

    @staticmethod
    def _split(module: Module) -> Any:
        flax = _flax()
        return flax.split(module, flax.Param, flax.RngState, ...)


def _reseeded(key: Key, state: PyTree) -> PyTree:
    """The random states of a module, begun anew: every stream gets a key of its own."""
    leaves, treedef = jax.tree.flatten(state)

    def begun(number: int, leaf: jax.ShapeDtypeStruct) -> chex.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            own = jax.random.fold_in(key, number)
            return own if leaf.shape == () else jax.random.split(own, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    return jax.tree.unflatten(treedef, [begun(i, leaf) for i, leaf in enumerate(leaves)])


def _flax() -> Any:
    from flax import nnx

    return nnx
