"""The random numbers behind the instances of the BBOB functions, in double precision.

Instances are part of the test bed's definition, so its generator is reproduced exactly: the
minimal standard generator of Park & Miller (1988) with a Bays-Durham shuffle table of 32 entries.
"""

import numpy as np

MODULUS, MULTIPLIER = 2**31 - 1, 16807
TABLE, WARM_UP, CELL = 32, 8, 67108865  # 2**26 + 1: the first number's cell is its top five bits
SMALLEST = 1e-99  # stands for zero, of which there is no logarithm


def uniforms(count: int, seed: int) -> np.ndarray:
    """``f64[count]``, numbers in (0, 1)."""
    number = max(seed, 1)
    table = []
    for _ in range(TABLE + WARM_UP):
        number = MULTIPLIER * number % MODULUS
        table.append(number)
    table = table[: WARM_UP - 1 : -1]  # filled from its end, after the warm-up
    shuffled, drawn = table[0], []
    for _ in range(count):
        number = MULTIPLIER * number % MODULUS
        cell = shuffled // CELL
        shuffled, table[cell] = table[cell], number
        drawn.append(shuffled)
    values = np.array(drawn, np.float64) / MODULUS
    return np.where(values == 0, SMALLEST, values)


def normals(count: int, seed: int) -> np.ndarray:
    """``f64[count]``, standard normal by the method of Box & Muller."""
    radius, angle = np.split(uniforms(2 * count, seed), 2)
    values = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)
    return np.where(values == 0, SMALLEST, values)


def rotation(dimension: int, seed: int) -> np.ndarray:
    """``f64[D, D]``, orthogonal: the columns are normals made orthonormal one after the other."""
    rows = normals(dimension**2, seed).reshape(dimension, dimension)
    for i, row in enumerate(rows):
        for other in rows[:i]:
            row -= (row @ other) * other
        row /= np.sqrt(row @ row)
    return rows.T


def optimum(dimension: int, seed: int) -> np.ndarray:
    """``f64[D]``, uniform in [-4, 4] on a grid of width 8e-4, without zero."""
    values = 8 * np.floor(1e4 * uniforms(dimension, seed)) / 1e4 - 4
    return np.where(values == 0, -1e-5, values)


def powers(condition: float, dimension: int) -> np.ndarray:
    """``f64[D]``: ``condition**(i / (D - 1))`` for i = 0 ... D - 1."""
    return condition ** np.linspace(0, 1, dimension)
