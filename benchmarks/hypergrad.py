"""Hypergradients: seconds, operations, memory and error of metahpo and of its peers.

    python benchmarks/peers/install.py    # once: the peers' environment; without it, our rows only
    python -m benchmarks.hypergrad --json FILE

Cases, with one weight per training example, the L2 coefficient and the rate as hyperparameters:

* ``reference``: 64 steps of gradient descent on a tanh MLP 256-256-256-256-10, 256 examples;
* ``64 tasks``: 100 steps on a 16-32-4 MLP for each of 64 tasks of 32 examples, in JAX all at once,
  in torch one after another on one thread;
* ``1000 steps`` of a 64-64-64-10 MLP where the gradient may take 2 MiB, 58 sets of its parameters;
* ``10000 steps`` of it in 60 stored states, and compile seconds beside those of 100 steps;
* ``ridge`` and ``logistic``: implicit differentiation of regressions with an L2 coefficient per
  feature (256, 1,024 examples), after 200 steps of gradient descent in all libraries, and after
  each library's own L-BFGS or BFGS (20 steps of L-BFGS for ours).

``plain JAX`` is what a user writes without a library: ``jax.grad`` of one scan, without and with
``jax.checkpoint`` around a step, or training, conjugate gradients and one vector-Jacobian product.

Metrics:

* ``run_seconds``: the baseline is the same training without a gradient, in JAX.  All programs of a
  case run in turns; a peer times itself.
* ``seconds_by_ours``: of a rival; the baseline is metahpo (``auto`` where there is a choice, the
  capped one under the cap).  A ratio above 1 says that metahpo is faster.
* ``compile_seconds``: tracing included; the baseline is the case's first program by hand.
  ``first_seconds``: a peer's first run, with the compilation if it has one.
* ``operations``: those of the compiled program, loops counted as often as they run, see
  ``benchmarks._flops``; the baseline is training.
* ``peak_bytes``: XLA's temporary memory, or by how much a torch or JAX peer's process grew; the
  baseline is one set of parameters.  ``bytes_by_budget``: the same beside the cap.
* ``relative_error``: the largest over the hyperparameters, of the gradient in f32 against the same
  in f64; of regressions, against the gradient at the exact solution.

What was learned (CPU):

* Operations are 2.77, 3.76 and 4.75 times training's with everything, every state and ``2 sqrt(T)``
  states kept, seconds 3.9, 4.0 and 4.9 times; forward mode over two numbers takes 4.5 of either.
* Keeping everything is bound by memory: each call maps and clears its pages anew (105,000 faults
  and a third of the CPU time of the plain loop on ``reference``).  Of a step's values an MLP's
  activations follow from its matrix products; where ``none`` keeps products alone, its memory falls
  from 539 sets of parameters to 261 and its seconds from 4.6 to 3.9 times training's, at the same
  number of operations.  What is left are the weights, two products a layer and the weights'
  gradient, which the derivative with respect to the rate needs.
* Many small tasks are bound by memory too: ``step`` is faster than ``none`` there, and so is
  ``jax.checkpoint`` than none by hand.  Hence ``auto`` never keeps everything on a CPU.  What
  ``auto`` and ``memory_budget`` weigh is one task's memory, even under ``vmap``.
* Nested loops also round less: after 10,000 steps the gradient in f32 is off by 7e-5 where one loop
  adds up all steps, by 1e-5 where nested loops add up parts.
* A number of states compiles longer the more nested loops it needs: 10,000 steps in 60 states take
  1.7 times the seconds of 100 steps; the other modes take the same at any number of steps.
* XLA's programs suffer little from neighbours on the same cores.  Torch with a thread a core
  suffers tenfold and more, because its threads wait for each other: its figures mean something on a
  quiet machine alone.
* At equal steps of gradient descent all libraries find the same implicit gradient to 1e-6; BFGS of
  optimistix stops earlier at the same tolerance, and its gradient is off by 2e-4 to 4e-4.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import _implicit, _peers, _unrolled, common
from benchmarks._reference import REFERENCE, SMALL, Size
from benchmarks._regression import DESCENT, KINDS, QUASI_NEWTON, Inner
from benchmarks._variants import Effort
from benchmarks.common import Row


class Sizes(NamedTuple):
    """How much is measured."""

    reference: Size
    small: Size
    tasks: int
    long: Size
    budget: int  # bytes, for the long training
    longest: Size
    states: int  # to be stored of the longest training
    short: int  # steps that compile seconds are compared with
    examples: int  # of the regressions
    features: int
    regressions: tuple[tuple[str, Inner], ...]
    modes: tuple[str, ...]
    growing: tuple[str | int, ...]  # modes whose compile seconds should not
    effort: Effort
    repeats: int  # of the regressions, which take milliseconds


FULL = Sizes(
    REFERENCE,
    SMALL,
    tasks=64,
    long=Size((64, 64, 64, 10), batch=64, steps=1000),
    budget=2 * 2**20,
    longest=Size((64, 64, 64, 10), batch=64, steps=10_000),
    states=60,
    short=100,
    examples=1024,
    features=256,
    regressions=tuple((kind, inner) for kind in KINDS for inner in (DESCENT, QUASI_NEWTON)),
    modes=("none", "step", "sqrt", "auto"),
    growing=("none", "step", "sqrt", 60),
    effort=Effort(repeats=7, compilations=3, limit=30.0),
    repeats=50,
)
QUICK = Sizes(
    Size((6, 8, 4), batch=6, steps=5),
    Size((4, 6, 3), batch=5, steps=4),
    tasks=2,
    long=Size((6, 8, 4), batch=6, steps=30),
    budget=100_000,
    longest=Size((6, 8, 4), batch=6, steps=100),
    states=20,
    short=10,
    examples=40,
    features=5,
    regressions=(("ridge", DESCENT),),
    modes=("auto",),
    growing=("sqrt",),
    effort=Effort(repeats=1, compilations=1, limit=5.0),
    repeats=1,
)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes = QUICK if quick else FULL
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    modes, effort = sizes.modes, sizes.effort
    yield from _unrolled.one_training(sizes.reference, modes, effort)
    yield from _unrolled.many_trainings(sizes.small, sizes.tasks, modes, effort)
    yield from _unrolled.under_a_cap(sizes.long, sizes.budget, effort)
    yield from _unrolled.in_few_states(sizes.longest, sizes.states, effort)
    yield from _unrolled.compile_growth(sizes.longest, sizes.short, sizes.growing, effort)
    often = effort._replace(repeats=sizes.repeats)
    for kind, inner in sizes.regressions:
        yield from _implicit.regression(kind, inner, sizes.examples, sizes.features, often)


if __name__ == "__main__":
    common.main(measure, __doc__)
