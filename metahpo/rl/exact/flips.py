"""So many different bits of a string, drawn without sorting."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import draws
from metahpo.base import Key


def flips(key: Key, bits: int, count: chex.Numeric) -> chex.Array:
    """``bool[bits]`` with just ``count`` flags up, all sets equally likely.

    Selection sampling (Fan, Muller & Rezucha 1962; Knuth's algorithm S): a bit is taken with the
    chance of what is still needed over what is left.  A loop over bits that does all lanes of a
    ``vmap`` at once is many times faster than sorting random numbers.

    Args:
        key: of the draw.
        bits: length of the string.
        count: ``i[]``, from 0 to ``bits``.
    """
    chances = draws.uniform(key, (bits,))

    def bit(
        needed: chex.Array, drawn: tuple[chex.Array, chex.Array]
    ) -> tuple[chex.Array, chex.Array]:
        chance, left = drawn
        taken = chance * left < needed
        return needed - taken, taken

    needed = jnp.asarray(count, jnp.int32)
    left = np.arange(bits, 0, -1).astype(chances.dtype)
    return jax.lax.scan(bit, needed, (chances, left))[1]
