"""The types that every part of metahpo shares: records of pure functions and of arrays.

Nothing here computes anything.  A *problem* describes a training process, an *estimator* gives
hypergradients of it, a *strategy* proposes points of the unit cube, and ``metahpo.run`` drives
them.  All functions are pure, take their key first and may be transformed by ``jit``, ``vmap``
and ``grad`` as a whole.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import numpy as np

from metahpo._deprecation import warn

PyTree = Any
Key: TypeAlias = chex.PRNGKey
Task = PyTree
Params = PyTree
HParams = PyTree
State = PyTree

FULL_BUDGET = int(np.iinfo(np.int32).max)
"""A proposal's budget when the strategy leaves the number of inner steps to the run."""


class StopReason(enum.IntEnum):
    """Why something ended; an ``i32`` in compiled programs, so that it can be stacked and vmapped.

    Attributes:
        RUNNING: it goes on.
        BUDGET: the evaluations that were granted are used up.
        TARGET: the wanted loss is reached.
        STAGNATION: the best loss no longer improves.
        TOLERANCE: the losses, or the points, no longer differ by more than a tolerance.
        CONDITION: the search distribution is too ill-conditioned for its float type.
        COLLAPSE: the population, or the step size, has shrunk to nothing.
    """

    RUNNING = 0
    BUDGET = 1
    TARGET = 2
    STAGNATION = 3
    TOLERANCE = 4
    CONDITION = 5
    COLLAPSE = 6


class Network(NamedTuple):
    """A model as two pure functions; a flax linen module has this interface too.

    Attributes:
        init: ``(key, x) -> params`` for inputs like ``x`` ``f[n, ...]``.
        apply: ``(params, x) -> outputs`` ``f[n, ...]``.
        train: ``(params, x, key) -> outputs`` in the updates of an inner loop, with dropout for
            example; ``None`` where it is ``apply``.
    """

    init: Callable[[Key, chex.Array], Params]
    apply: Callable[[Params, chex.Array], chex.Array]
    train: Callable[[Params, chex.Array, Key], chex.Array] | None = None


def undescribed(task: Task) -> np.ndarray:
    """The ``describe`` of tasks of which nothing is known before training: ``f32[0]``."""
    del task
    return np.zeros(0, np.float32)


class TaskFamily(NamedTuple):
    """Data, model and loss of a distribution of tasks, without any training.

    Attributes:
        sample: ``(key) -> task``, a pytree of arrays of fixed shapes, so that tasks can be vmapped.
        init: ``(key, task) -> params``, the model's initial parameters.
        loss: ``(params, task, split) -> f32[]``; ``split`` is the static string ``"support"``
            (what training sees) or ``"query"`` (what validation sees).  One with a parameter
            ``key`` is told that of the update, for dropout; it must also do without.
        describe: ``(task) -> f32[F]``, what a user would know of the task before training;
            nothing by default.
        network: the model behind ``init`` and ``loss``, of families that have just one.
        criterion: ``(outputs, y) -> f32[]``, what ``loss`` makes of the network's outputs; with
            ``weight=`` for examples that have weights.
    """

    sample: Callable[[Key], Task]
    init: Callable[[Key, Task], Params]
    loss: Callable[..., chex.Array]
    describe: Callable[[Task], chex.Array] = undescribed
    network: Network | None = None
    criterion: Callable[..., chex.Array] | None = None


def unchanged(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
    """The ``lift`` of problems that are not made of another one."""
    return inner_loss


class Problem(NamedTuple):
    """A training process, and the hyperparameters that control it.

    Attributes:
        sample: ``(key) -> task``.
        init: ``(key, hparams, task) -> state``, the training state before the first step.
        step: ``(key, hparams, task, state) -> state``, one inner update.
        loss: ``(key, hparams, task, state) -> f32[]``, the outer loss, always minimised.
        describe: ``(task) -> f32[F]``, as of a ``TaskFamily``.
        predict: ``(state, x) -> outputs`` for inputs ``f[n, ...]``, where there is a model.
        initial: ``(key) -> hparams``, where learning the hyperparameters starts, if that is known.
        lift: ``(inner_loss) -> inner_loss``, of a problem that is made of another one: turns what
            the other's training minimises, ``(hparams, task, params, ...) -> f[]``, into what this
            one's does; a ``ValueError`` says why where it cannot.
    """

    sample: Callable[[Key], Task]
    init: Callable[[Key, HParams, Task], State]
    step: Callable[[Key, HParams, Task, State], State]
    loss: Callable[[Key, HParams, Task, State], chex.Array]
    describe: Callable[[Task], chex.Array] = undescribed
    predict: Callable[[State, chex.Array], chex.Array] | None = None
    initial: Callable[[Key], HParams] | None = None
    lift: Callable[[Callable[..., chex.Array]], Callable[..., chex.Array]] = unchanged


class Estimate(NamedTuple):
    """What an estimator returns for one task.

    Attributes:
        loss: ``f32[]``, the outer loss.
        grad: a pytree like the hyperparameters; zeros for leaves that are not floats.
        info: a dict of diagnostics; unrolled estimators put the final training state under
            ``"state"``.
    """

    loss: chex.Array
    grad: HParams
    info: dict[str, PyTree]


class Estimator(NamedTuple):
    """A hypergradient estimator.

    Attributes:
        init: ``(key, hparams, task) -> state``; ``()`` for estimators without a memory.
        estimate: ``(key, hparams, task, state) -> (Estimate, state)``.
        objective: ``(key, hparams, task) -> f[]``, of estimators without a memory whose estimate
            is its value and its gradient as JAX differentiates it.  The gradient of its mean over
            tasks is then that of all of them together, without one gradient for every task.
        problem: whose gradient it is, so that a run of another problem can refuse it; ``None`` if
            that is not one problem.
        steps: updates of the whole trainings that it goes through, ``None`` if it does not.
    """

    init: Callable[[Key, HParams, Task], PyTree]
    estimate: Callable[[Key, HParams, Task, PyTree], tuple[Estimate, PyTree]]
    objective: Callable[[Key, HParams, Task], chex.Array] | None = None
    problem: Problem | None = None
    steps: int | None = None


class Proposal(NamedTuple):
    """A batch of ``P`` candidates in the unit cube of ``D`` dimensions.

    Attributes:
        unit: ``f32[P, D]``, points of ``[0, 1]^D``.
        parent: ``i32[P]``; -1 trains from scratch, ``i`` goes on from the training that member
            ``i`` had after the round before.
        budget: ``i32[P]``, inner steps granted in this round; the run caps it at its own
            ``steps``, so ``FULL_BUDGET`` leaves the number to the run.  A slot with budget 0 is
            *idle*: no evaluation, and its loss is ``inf``.  So populations shrink in static shapes.
        note: what ``ask`` wants back in ``tell``, any pytree of arrays.  With it a tell need not
            follow its ask at once.
    """

    unit: chex.Array
    parent: chex.Array
    budget: chex.Array
    note: PyTree = ()


class Evaluation(NamedTuple):
    """What is known of a proposal when it is told.

    A member is *pending* if its budget is not 0 and yet there are no ``steps`` behind its loss: its
    loss comes with another tell of the same proposal, or never.  A member is told once.

    Attributes:
        loss: ``f32[P]``; ``inf`` for a member whose loss was not finite, for one that is pending
            and for an idle slot.
        grad: ``f32[P, D]``, the gradient with respect to the unit cube, or ``None`` for a strategy
            that does not need it; zeros for a member whose gradient was not finite.
        steps: ``i32[P]``, the updates behind each loss, those of earlier rounds included if the
            member went on from a training; at least 1 for every loss that was evaluated, and
            ``None`` where whoever tells does not count them and nothing is pending.
    """

    loss: chex.Array
    grad: chex.Array | None
    steps: chex.Array | None = None


class RoundSize(NamedTuple):
    """A round as a program must be ready for it; static.

    Attributes:
        members: that train in it.
        steps: the most updates of any of them.
        scratch: whether all of them train from scratch, or all go on; ``None`` for either.
    """

    members: int
    steps: int
    scratch: bool | None = None


class Needs(NamedTuple):
    """What a strategy asks of the run that drives it; static.

    The defaults suit every strategy whose tells follow their asks.  Whoever needs less says so,
    and the run saves memory and time.

    Attributes:
        gradients: ``Evaluation.grad`` must be there.
        trainings: members may go on from the trainings of members (``parent`` of at least 0), so
            these must be kept from round to round.
        budgets: budgets may be below the run's number of steps.
        order: a proposal must be told as a whole, before the next ask.  Without that need tells
            may be partial (some members pending) and come in any order.
        sizes: the rounds that come, of a strategy that knows them: a run then compiles a program
            for each of them beside the one for all members, and idle slots take no time.
        rounds: the most that it has room for, ``None`` if it does not matter.
    """

    gradients: bool = False
    trainings: bool = True
    budgets: bool = True
    order: bool = True
    sizes: tuple[RoundSize, ...] = ()
    rounds: int | None = None

    @property
    def steps(self) -> int:
        """The fewest ``steps`` of a run that grants what ``sizes`` ask for; 1 without them."""
        return max((size.steps for size in self.sizes), default=1)


ANYTHING = Needs()
"""What a strategy needs of which nothing is known."""


class _Strategy(NamedTuple):
    init: Callable[[Key], PyTree]
    ask: Callable[[Key, PyTree], tuple[Proposal, PyTree]]
    tell: Callable[[Key, PyTree, Proposal, Evaluation], PyTree]
    needs: Needs = ANYTHING
    stop: Callable[[PyTree], chex.Array] | None = None
    space: PyTree = None


class Strategy(_Strategy):
    """Ask and tell on the unit cube.

    Attributes:
        init: ``(key) -> state``.
        ask: ``(key, state) -> (Proposal, state)``.
        tell: ``(key, state, Proposal, Evaluation) -> state``.
        needs: what it asks of the run (static).
        stop: ``(state) -> i32[]``, a ``StopReason``: why the strategy has nothing left to do that
            could help.  It may be asked to go on nevertheless.  ``None`` if it never says so.
        space: that it was made for, so that a run can refuse it in another; ``None`` if unknown.
    """

    __slots__ = ()

    def __new__(
        cls,
        init: Callable[[Key], PyTree],
        ask: Callable[[Key, PyTree], tuple[Proposal, PyTree]],
        tell: Callable[[Key, PyTree, Proposal, Evaluation], PyTree],
        needs: Needs | bool = ANYTHING,
        stop: Callable[[PyTree], chex.Array] | None = None,
        space: PyTree = None,
        *,
        needs_grad: bool | None = None,
    ) -> "Strategy":
        """Takes the old spelling ``needs_grad`` as well."""
        if isinstance(needs, bool):
            needs_grad, needs = needs, ANYTHING
        if needs_grad is not None:
            warn("Strategy(needs_grad=...) is now Strategy(needs=Needs(gradients=...))")
            needs = needs._replace(gradients=needs_grad)
        return super().__new__(cls, init, ask, tell, needs, stop, space)

    @property
    def needs_grad(self) -> bool:
        """``needs.gradients``."""
        return self.needs.gradients
