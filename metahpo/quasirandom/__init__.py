"""Points that fill the unit cube more evenly than random ones."""

from metahpo.quasirandom.sobol_sequence import (
    LARGEST_SIZE,
    Sobol,
    as_fractions,
    directions,
    points,
    scrambled,
)

__all__ = ["LARGEST_SIZE", "Sobol", "as_fractions", "directions", "points", "scrambled"]
