"""Square roots that can be differentiated at zero.

Optimisers of Adam's family divide by the root of a second moment.  Where a parameter's gradient is
exactly zero (a dead unit, an absent feature, a masked weight), reverse and forward mode meet the
root's infinite slope times zero and return NaN for every hyperparameter of the training, although
``g / (sqrt(g^2) + eps)`` has the derivative ``1 / eps`` there.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.extend import core

from metahpo.base import PyTree


def with_safe_sqrt(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The same function, in which every root has the slope 0 at exactly 0.

    So has a square root of a negative number, whose value stays NaN.  A product or a quotient made
    of a root is a constant where it is not finite, if what it leads to is chosen by a condition: so
    a branch that is not chosen, as in optax's RAdam, no longer turns the gradient into NaN.

    Values do not change, bit for bit: ``sqrt``, ``rsqrt``, ``cbrt`` and constant powers below 1
    are evaluated as before, also inside ``jit``, ``scan``, ``cond`` and ``while``.  Where ``fn``
    has a derivative and reaches a root of 0 only through squares, as in Adam's quotient, zero is
    the right slope; a bare ``sqrt(x)`` has none there.  Functions with custom derivatives are left
    as they are.

    Args:
        fn: any function of pytrees of arrays; is traced once a call.

    Returns:
        A function of the same arguments, for every transformation of JAX and every order.

    Example:
        >>> fn = lambda g: g / (jnp.sqrt(g**2) + 0.5)
        >>> float(jax.grad(fn)(0.0)), float(jax.grad(with_safe_sqrt(fn))(0.0))
        (nan, 2.0)
    """

    def safe(*args: PyTree) -> PyTree:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        closed = closed.replace(jaxpr=_rewritten(closed.jaxpr))
        out = core.jaxpr_as_fun(closed)(*jax.tree.leaves(args))
        # A constant comes back as the Python value that it was.
        return jax.tree.unflatten(jax.tree.structure(shape), map(jnp.asarray, out))

    return safe


@functools.lru_cache(maxsize=256)  # the same program again, so that nothing is compiled twice
def _rewritten(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """The same program with other roots; the same object if there is none in it."""
    products = _products_before_a_choice(jaxpr)
    eqns = [_rewritten_equation(eqn, i in products) for i, eqn in enumerate(jaxpr.eqns)]
    same = all(new is old for new, old in zip(eqns, jaxpr.eqns, strict=True))
    return jaxpr if same else jaxpr.replace(eqns=eqns)


def _rewritten_equation(eqn: core.JaxprEqn, guarded: bool) -> core.JaxprEqn:
    if guarded or _is_root(eqn):
        safe = _safe_product(eqn) if guarded else _safe_root(eqn)
        (call,) = jax.make_jaxpr(safe)(*[x.aval for x in eqn.invars]).eqns
        return eqn.replace(primitive=call.primitive, params=call.params)
    if eqn.primitive.name.startswith("custom_"):
        return eqn
    params = {name: _rewritten_part(value) for name, value in eqn.params.items()}
    same = all(params[name] is value for name, value in eqn.params.items())
    return eqn if same else eqn.replace(params=params)


def _rewritten_part(part: Any) -> Any:
    """A parameter of an equation; those of ``jit``, ``scan``, ``cond`` and others are programs."""
    if isinstance(part, core.Jaxpr):
        return _rewritten(part)
    if isinstance(part, core.ClosedJaxpr):
        inner = _rewritten(part.jaxpr)
        return part if inner is part.jaxpr else part.replace(jaxpr=inner)
    if type(part) is tuple:
        parts = tuple(_rewritten_part(x) for x in part)
        return part if all(new is old for new, old in zip(parts, part, strict=True)) else parts
    return part


def _products_before_a_choice(jaxpr: core.Jaxpr) -> set[int]:
    """The numbers of the products and quotients between a root and a condition that chooses."""
    of_root: set[core.Var] = set()
    found = []
    for i, eqn in enumerate(jaxpr.eqns):
        known = [x for x in eqn.invars if isinstance(x, core.Var) and x in of_root]
        if known and eqn.primitive.name in ("mul", "div") and _is_real(eqn.outvars[0].aval):
            found.append(i)
        if known or _holds(eqn, _is_root):
            of_root.update(eqn.outvars)
    if not found:
        return set()
    chosen: set[core.Var] = set()
    for eqn in reversed(jaxpr.eqns):
        if not chosen.isdisjoint(eqn.outvars) or _holds(eqn, _chooses):
            chosen.update(x for x in eqn.invars if isinstance(x, core.Var))
    return {i for i in found if jaxpr.eqns[i].outvars[0] in chosen}


def _holds(eqn: core.JaxprEqn, what: Callable[[core.JaxprEqn], bool]) -> bool:
    """Whether an equation, or one of the programs in it, is of a kind."""
    return what(eqn) or any(_holds_part(part, what) for part in eqn.params.values())


def _holds_part(part: Any, what: Callable[[core.JaxprEqn], bool]) -> bool:
    if isinstance(part, core.ClosedJaxpr):
        part = part.jaxpr
    if isinstance(part, core.Jaxpr):
        return any(_holds(eqn, what) for eqn in part.eqns)
    return type(part) is tuple and any(_holds_part(each, what) for each in part)


def _chooses(eqn: core.JaxprEqn) -> bool:
    return eqn.primitive.name == "select_n"


def _is_root(eqn: core.JaxprEqn) -> bool:
    """Whether an equation is a root of a real number, or a constant power with such a trap."""
    name = eqn.primitive.name
    if name == "pow":
        exponent = eqn.invars[1]
        root = isinstance(exponent, core.Literal) and float(exponent.val) < 1
    else:
        root = name in ("sqrt", "rsqrt", "cbrt")
    return root and _is_real(eqn.invars[0].aval)


def _is_real(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jnp.floating))


def _safe_root(eqn: core.JaxprEqn) -> Callable[..., chex.Array]:
    """As one call, so that it can stand for the equation.

    Selecting before and after the root, rather than a custom derivative, because JAX forgets
    custom rules of second derivatives within a scan.
    """

    @jax.jit
    def root(x: chex.Array, *exponent: chex.Array) -> chex.Array:
        # Below zero a square root is not a number, and must not spoil a branch that is not chosen.
        square = eqn.primitive.name in ("sqrt", "rsqrt")
        flat = x <= 0 if square else x == 0
        there = eqn.primitive.bind(jax.lax.stop_gradient(x), *exponent, **eqn.params)
        elsewhere = eqn.primitive.bind(jnp.where(flat, 1, x), *exponent, **eqn.params)
        return jnp.where(flat, there, elsewhere)

    return root


def _safe_product(eqn: core.JaxprEqn) -> Callable[..., chex.Array]:
    """As one call, too: a constant where it is not finite, as 0 times that would be NaN."""

    @jax.jit
    def product(x: chex.Array, y: chex.Array) -> chex.Array:
        there = eqn.primitive.bind(*map(jax.lax.stop_gradient, (x, y)), **eqn.params)
        finite = jnp.isfinite(there)
        x, y = (jnp.where(finite, side, jnp.ones_like(side)) for side in (x, y))
        return jnp.where(finite, eqn.primitive.bind(x, y, **eqn.params), there)

    return product
