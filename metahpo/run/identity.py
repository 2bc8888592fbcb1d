"""What a run computes, as a digest: the same in every process, another for every other run."""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from metahpo.base import Key, PyTree
from metahpo.run.loop import Loop, loop_keys, one_round, strongly_typed

_ADDRESS = re.compile(r"0x[0-9a-f]+")


def loop_digest(loop: Loop) -> str:
    """Of the first state and of a round, wherever and in whatever pieces they are computed."""
    plain = loop if loop.plain is None else loop.plain()

    def beginning(key: Key) -> PyTree:
        init_key, round_key = loop_keys(key)
        carry = jax.tree.map(strongly_typed, plain.init(init_key))
        return one_round(plain, round_key, carry)

    return program_digest(beginning, jax.eval_shape(lambda: jax.random.key(0)))


def program_digest(function: Callable[..., PyTree], *args: PyTree) -> str:
    """Of the program that JAX traces, with all its constants."""
    traced = jax.make_jaxpr(function)(*args)
    sha = hashlib.sha256(_ADDRESS.sub("", str(traced)).encode())
    for constant in _constants(traced):
        sha.update(array_bytes(constant))
    return sha.hexdigest()


def array_bytes(leaf: Any) -> bytes:
    """Type, shape and numbers of an array or of a key."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(jax.device_get(leaf))
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def _constants(program: Any) -> Iterator[Any]:
    """Of a program and of those within, which its text only names."""
    if isinstance(program, ClosedJaxpr):
        yield from program.consts
        program = program.jaxpr
    for equation in program.eqns:
        inner = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)
        )
        for part in inner:
            if isinstance(part, ClosedJaxpr | Jaxpr):
                yield from _constants(part)
