"""Rules whose weights come with the package."""

from functools import cache
from pathlib import Path

import jax
import optax

from metahpo import checks, report
from metahpo.learned_optimizers.steered import SteeredWeights, steered

PRETRAINED = {
    "fit": "small dense networks, for the training loss",
    "generalize": "small dense networks, for the validation loss",
}
"""The names that ``pretrained`` knows, and what each was learned for."""
_FILE = Path(__file__).with_suffix(".npz")  # made by `make weights`


def pretrained(name: str) -> optax.GradientTransformationExtraArgs:
    """An optimiser that was meta-trained before, without a rate to tune.

    ``steered`` rules of 466 weights, learned on networks of one and two hidden layers and images
    of digits, for 50 to 200 updates.  What they are worth on other data, shapes and horizons, and
    where they lose, say their cards in ``docs/pretrained_optimizers.md``.

    Args:
        name: of ``PRETRAINED``: ``"fit"`` minimises the training loss, ``"generalize"`` the
            validation loss.

    Returns:
        An optax transformation, for ``optax.chain`` among others; its ``update`` needs the
        parameters.  Updates do not change when all gradients are multiplied by a number.

    Raises:
        ValueError: for another name.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> optimizer = optax.chain(optax.clip(1.0), mh.learned_optimizers.pretrained("fit"))
        >>> params = {"w": jnp.ones((3, 2))}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> bool((updates["w"] < 0).all())
        True
    """
    checks.one_of("the name of a pretrained rule", name, sorted(PRETRAINED))
    return optax.with_extra_args_support(steered().transform(pretrained_weights(name)))


def pretrained_weights(name: str) -> SteeredWeights:
    """The weights behind ``pretrained``, where learning on tasks of one's own can go on.

    Args:
        name: of ``PRETRAINED``.

    Raises:
        ValueError: for another name.

    Example:
        >>> pretrained_weights("fit").hidden.shape
        (16, 16)
    """
    checks.one_of("the name of a pretrained rule", name, sorted(PRETRAINED))
    found = _arrays()
    # As numbers of this process's float type, and inside a trace no constants of it.
    with jax.ensure_compile_time_eval():
        return SteeredWeights(
            *(jax.numpy.asarray(found[f"{name}.{field}"]) for field in SteeredWeights._fields)
        )


@cache
def _arrays() -> dict:
    return report.load_npz(_FILE)
