"""Writes acquisition_reference.json: the logarithm of expected improvement to 50 digits.

    python tests/surrogates/acquisition_oracle.py     (needs mpmath, which the tests do not)

``log h(u)`` with ``h(u) = phi(u) + u Phi(u)``, and its slope ``Phi(u) / h(u)``.
"""

import json
from pathlib import Path

import mpmath
import numpy as np

DIGITS = 50


def points():
    far = np.logspace(-3, 6, 37)
    near = np.linspace(-6, 1, 29)  # across the borders of the regimes
    return sorted({0.0, -1.0, -5.0, *(-far).tolist(), *far.tolist(), *near.tolist()})


def exact(u):
    """Value and slope of log h at a float."""
    # 1 - t R(t) loses 2 log10(t) digits, and the tail's own series needs none.
    mpmath.mp.dps = DIGITS + 30
    x = mpmath.mpf(u)
    if x > -200:
        h = mpmath.npdf(x) + x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2
        value, slope = mpmath.log(h), mpmath.erfc(-x / mpmath.sqrt(2)) / 2 / h
    else:
        t, term, ratio, rest = -x, mpmath.mpf(1), mpmath.mpf(1), mpmath.mpf(0)
        for k in range(1, 12):  # t R(t) = 1 - 1/t^2 + 3/t^4 - ..., here to 1e-40
            term *= -(2 * k - 1) / t**2
            ratio, rest = ratio + term, rest - term
        value = mpmath.log(rest) - t**2 / 2 - mpmath.log(2 * mpmath.pi) / 2
        slope = ratio / t / rest
    return float(value), float(slope)


if __name__ == "__main__":
    rows = [(u, *exact(u)) for u in points()]
    path = Path(__file__).with_name("acquisition_reference.json")
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
