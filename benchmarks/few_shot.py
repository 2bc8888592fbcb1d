"""Few-shot learning: MAML on the sinusoid and on small images, beside torch and plain JAX.

    python benchmarks/peers/install.py    # once: the peers' environment; without it, our rows only
    python -m benchmarks.few_shot --json FILE

Cases:

* ``sinusoid``: a whole meta-training of 70,000 steps with 25 tasks each, 5 support and 10 query
  points, an MLP 1-40-40-1, with one and with three inner steps of rate 0.01; torch runs 200 steps,
  on one thread, which is faster for products this small, and its seconds are multiplied up;
* ``32 tasks, 3 convolutions``: one meta-step of torchbench's ``functorch_maml_omniglot`` (25
  support and 75 query images of 28 x 28, 64 filters, 5 inner steps of rate 0.1, Adam);
* ``gradients of 32 tasks``: ways of computing one inner step of the same network.

``plain JAX`` is what a user writes without a library: ``vmap`` over tasks, one scan over
meta-steps on the sinusoid, XLA's convolutions, inner steps written out or in a scan.
``torch.func`` batches over tasks as torchbench does; ``task by task`` and ``torchopt`` do not.

Metrics:

* ``run_seconds``; of the gradients, the baseline is what the library does on this device.
* ``total_seconds``: of a meta-training, compilation included.
* ``seconds_by_ours``: of a rival; the baseline is metahpo.  A ratio above 1 says that metahpo is
  faster.
* ``seconds_by_first_order``: of the second order; the baseline is the first order.
* ``compile_seconds``: tracing included; ``last_loss``: the mean loss of the last tenth of a
  meta-training, to see that all learn the same.
* ``peak_bytes``: XLA's temporary memory, or by how much a torch process grew.
* ``relative_error``: of the meta-gradient in f32 against the same in f64, the largest over the
  parameters.

What was learned (CPU):

* Images: tasks one after another, one on every core, are faster than all at once: a task's images,
  patches and derivatives stay in the caches, and no fresh pages are mapped for those of all tasks.
  A 3 x 3 convolution of 64 filters does 126 to 164 GFLOP a second and core in such a loop, by XLA
  or by patches, and 30 to 60 under ``vmap``, whichever way it is computed.
* In a loop XLA's convolution is fast, but its derivatives are not: 22 GFLOP a second with respect
  to the images and 2 with respect to the kernel, where patches reach 181 and 70.  Nine products
  with shifted images, or three with patches of a row, are as fast as one with all nine columns.
* With one task at a time the shared weights before the first inner step are worth nothing.
* A layer of 64 channels and filters, value and both gradients by Winograd's sums, one core, 25
  images: 2.4 times as fast as by patches with outputs of 28 x 28, 2.7 with 14 x 14, 2.0 with 11 x
  11, 1.5 with 7 x 7, 0.9 with 3 x 3.  With 32 it is 2.3 times with 14 x 14 and 1.15 with 7 x 7;
  with 16, and from 1 to 64, slower nearly everywhere.  Sixteen products take two thirds of the time
  of a batched one, whose factors are stacked.  The whole meta-step went from 3.6 to 2.9 s and its
  compilation from 12 to 16 s (one after the other, 8 of the 32 tasks).
* On the sinusoid two devices share the tasks and wait for each other: a ``psum`` alone takes 28 us
  (``all_gather`` 34, ``ppermute`` 39) of a round of 140.  PyTorch is faster on one thread than on
  two.
* Tasks of 50 rounds drawn at once took a round on two devices from 176 to 140 us with one inner
  step and from 297 to 262 with three.  Drawn as [rounds, tasks], with two batch axes, XLA takes
  three times as long to compile their hashes as with one.
* Transposed copies of a layer's inputs for the gradient of its 25 adapted weights saved 5 to 8 us
  of such a round; not done, it takes a derivative rule of one's own in the network.  Adapted
  weights as shared ones and factors of rank shots x steps are slower: 155 us with one step and 576
  with three, for 138 and 355 on one device.
* Beware of the profiler: under it the product with the transposes of the adapted weights took 5 us
  in the first 50 rounds and 22 afterwards, in a second trace of the same process 5 and then 8.  In
  a loop of its own, not profiled, it takes a fifth more than the product with the weights.
* The derivative of ``x.max`` over windows is not only split between ties: compiled, it was wrong by
  a half and more where XLA computed the compared values twice and rounded them differently.
* Pooling costs as much as the convolutions: choosing from two halves of ``lax.split``, whose
  transpose is a concatenation, has the gradient in half the time of slices and a sixth of that of
  ``reduce_window``.  Pooling before the affine part of the norm saves a third of a meta-step.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import _few_shot_convolutions, _few_shot_images, _few_shot_sinusoid, _peers, common
from benchmarks._variants import Effort
from benchmarks.common import Row


class Sizes(NamedTuple):
    """How much is measured."""

    sinusoid: tuple[_few_shot_sinusoid.Setting, ...]
    images: _few_shot_images.Setting
    trainings: Effort
    steps: Effort


FULL = Sizes(
    (_few_shot_sinusoid.Setting(steps=1), _few_shot_sinusoid.Setting(steps=3)),
    _few_shot_images.Setting(),
    trainings=Effort(repeats=3, compilations=3, limit=300.0),
    steps=Effort(repeats=5, compilations=1, limit=300.0),
)
QUICK = Sizes(
    (
        _few_shot_sinusoid.Setting(
            steps=1, rounds=40, measured=20, torch=2, tasks=2, shots=2, queries=2, hidden=(3,)
        ),
    ),
    _few_shot_images.Setting(2, 2, 1, 1, side=6, filters=2, layers=1, steps=2),
    trainings=Effort(repeats=1, compilations=1, limit=5.0),
    steps=Effort(repeats=1, compilations=1, limit=5.0),
)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes = QUICK if quick else FULL
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    for setting in sizes.sinusoid:
        yield from _few_shot_sinusoid.measure(setting, sizes.trainings)
    yield from _few_shot_images.measure(sizes.images, sizes.steps)
    yield from _few_shot_convolutions.measure(sizes.images, sizes.steps)


if __name__ == "__main__":
    common.main(measure, __doc__)
