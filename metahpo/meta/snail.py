"""SNAIL: temporal convolutions and causal attention over the support and one query."""

import math
from typing import Any, NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Params, Problem, TaskFamily
from metahpo.meta import amortised
from metahpo.meta.layers import Dense, attention, dense, init_dense
from metahpo.problems.few_shot import Examples


class Gated(TypedDict):
    """A causal convolution of two taps, from [past, present] to [filter, gate].

    Its dilation is 2 to the power of its place in its block.
    """

    taps: Dense


class Look(TypedDict):
    """A causal attention, from an item to its [query, key, value] of equal widths."""

    look: Dense


class SnailParams(TypedDict):
    """What is learned; without an encoder ``network`` is empty.

    ``blocks`` are, in turn, an attention (``Look``) and a list of convolutions (``Gated``).
    """

    network: Params
    blocks: list[Look | list[Gated]]
    head: Dense


class SnailState(NamedTuple):
    """All that predictions need.

    Attributes:
        params: the hyperparameters.
        seen: what each layer saw of the support, f[n, c] each; queries look back at it.
        there: ``bool[n]``, which rows of it are no padding; ``None`` if all are.
    """

    params: SnailParams
    seen: list[chex.Array]
    there: chex.Array | None = None


def snail(
    family: TaskFamily,
    *,
    ways: int | None = None,
    filters: int = 32,
    keys: int = 32,
    blocks: int = 2,
    encode: bool | None = None,
    shuffle: bool = True,
) -> Problem:
    """A sequence model that reads the support and predicts the query (Mishra et al. 2018).

    The sequence is the labelled support and then one query without a label, of which the model
    predicts the target.  As in the paper's few-shot network three causal attentions alternate
    with two blocks of dilated causal convolutions (section 3, figure 2), whose
    dilations 1, 2, 4, ... span the support; each layer's output is appended to its input.  The
    support cannot look at the query, so what the layers see of it is computed once and serves all
    queries, each of which is a sequence of its own.

    Args:
        family: its criterion judges the predictions of the queries.
        ways: number of classes, and of outputs, for which labels are one-hot; without it the
            targets are values ``f[n, d]``.  The weights belong to this number of classes.
        filters: of each convolution.
        keys: width of queries, keys and values of each attention.
        blocks: of convolutions; there is one attention more.
        encode: whether the family's network embeds the inputs, ``f[n, ...] -> f[n, e]``; if not,
            they are flattened.  By default with ``ways`` only.
        shuffle: whether adapting puts the support into a random order, by its key.  Otherwise
            episodes that are sorted by class teach the model to go by places instead of labels.

    Returns:
        A Problem of zero steps with hyperparameters ``SnailParams``.  The number of convolutions
        is that for the support of an episode at the time of ``initial``; adapting to a longer
        support works, though the oldest examples are then seen by the attentions alone.

    Raises:
        ValueError: if ``ways`` is below 2, ``filters``, ``keys`` or ``blocks`` below 1, or the
            family lacks the network or the criterion; when called, for labels or values that do
            not fit and embeddings that are not ``[n, e]``.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = snail(mh.problems.sinusoid(shots=5))
        >>> adapt, predict = mh.meta.learner(problem)
        >>> def answer(key):
        ...     episode = problem.sample(key)
        ...     adapted = adapt(problem.initial(key), episode.support, key)
        ...     return predict(adapted, episode.query.x)
        >>> jax.jit(answer)(jax.random.key(0)).shape
        (100, 1)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    if ways is not None:
        ways = amortised.check_ways(ways)
    filters, keys, blocks = checks.counts(filters=filters, keys=keys, blocks=blocks)
    encode = ways is not None if encode is None else encode
    network = amortised.encoder_of(family) if encode else None

    def embed(params: Params, x: chex.Array) -> chex.Array:
        return x.reshape(len(x), -1) if network is None else amortised.embed(network, params, x)

    def initial(key: Key, support: Examples) -> SnailParams:
        network_key, key = jax.random.split(key)
        params = {} if network is None else network.init(network_key, support.x)
        embeddings = embed(params, support.x)
        y = amortised.targets(support.y, ways, embeddings.dtype)
        start = _labelled(embeddings, y)
        layers, head = _init_blocks(key, start, filters, keys, 2 * blocks + 1, y.shape[1])
        return {"network": params, "blocks": layers, "head": head}

    def represent(hparams: SnailParams, support: Examples) -> SnailState:
        support, there = _padding_first(support)
        embeddings = embed(hparams["network"], support.x)
        h = _labelled(embeddings, amortised.targets(support.y, ways, embeddings.dtype))
        seen = []
        for layer, dilation in _layers(hparams):
            if there is not None:
                h = jnp.where(there[:, None], h, 0)  # as before the beginning of a sequence
            seen.append(h)
            h = _append(layer, dilation, h, None, there)
        return SnailState(hparams, seen, there)

    def predict(state: SnailState, x: chex.Array) -> chex.Array:
        embeddings = embed(state.params["network"], x)
        outputs = state.params["head"]["bias"].size
        h = _labelled(embeddings, jnp.zeros((len(x), outputs), embeddings.dtype), known=0)
        for (layer, dilation), support in zip(_layers(state.params), state.seen, strict=True):
            h = _append(layer, dilation, h, support, state.there)
        return dense(state.params["head"], h)

    return amortised.zero_steps(family, initial, represent, predict, shuffle=shuffle)


def _labelled(embeddings: chex.Array, y: chex.Array, known: float = 1) -> chex.Array:
    """One item a row: embedding, target and whether there is one (a value may well be 0)."""
    return jnp.concatenate([embeddings, y, jnp.full_like(y[:, :1], known)], axis=1)


def _init_blocks(
    key: Key, start: chex.Array, filters: int, keys: int, count: int, outputs: int
) -> tuple[list[Look | list[Gated]], Dense]:
    n, width = start.shape
    dtype = start.dtype
    blocks: list[Look | list[Gated]] = []
    for block in range(count):
        key, block_key = jax.random.split(key)
        if block % 2 == 0:
            blocks.append({"look": init_dense(block_key, width, 3 * keys, dtype)})
            width += keys
            continue
        convolutions: list[Gated] = []
        for each in jax.random.split(block_key, math.ceil(math.log2(n + 1))):
            convolutions.append({"taps": init_dense(each, 2 * width, 2 * filters, dtype)})
            width += filters
        blocks.append(convolutions)
    return blocks, init_dense(key, width, outputs, dtype)


def _layers(params: SnailParams) -> list[tuple[Any, int]]:
    """All layers in their order, with the dilations of those that have one."""
    layers: list[tuple[Any, int]] = []
    for block in params["blocks"]:
        if isinstance(block, list):
            layers += [(layer, 2**i) for i, layer in enumerate(block)]
        else:
            layers.append((block, 0))
    return layers


def _padding_first(support: Examples) -> tuple[Examples, chex.Array | None]:
    """The support, its rows of weight 0 before all others, and which rows have another weight."""
    if support.weight is None:
        return support, None
    there = support.weight > 0
    order = jnp.argsort(there)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], support), there[order]


def _append(
    layer: Any,
    dilation: int,
    h: chex.Array,
    support: chex.Array | None,
    there: chex.Array | None,
) -> chex.Array:
    """A layer's output beside its input, f[m, c + c'].

    Args:
        layer: ``Gated`` or ``Look``.
        dilation: of ``Gated``.
        h: the input: of the support, item by item, or of queries, which all stand in the place
            after the support.
        support: what this layer saw of the support, if ``h`` is of queries.
        there: ``bool[n]``, the rows of the support that are no padding, which stands before them.
    """
    if not dilation:
        return jnp.concatenate([h, _look(layer, h, support, there)], axis=1)
    past = jnp.pad(h if support is None else support, ((dilation, 0), (0, 0)))
    before = past[: len(h)] if support is None else jnp.broadcast_to(past[len(support)], h.shape)
    both = dense(layer["taps"], jnp.concatenate([before, h], axis=1))
    new, gate = jnp.split(both, 2, axis=1)
    return jnp.concatenate([h, jnp.tanh(new) * jax.nn.sigmoid(gate)], axis=1)


def _look(
    layer: Look, h: chex.Array, support: chex.Array | None, there: chex.Array | None
) -> chex.Array:
    queries, keys, values = jnp.split(dense(layer["look"], h), 3, axis=1)
    if support is None:
        earlier = jnp.tri(len(h), dtype=bool)
        if there is not None:  # padding sees itself, because everybody must see something
            earlier &= there | jnp.eye(len(h), dtype=bool)
        return attention(queries, keys, values, earlier)
    seen = None if there is None else jnp.append(there, True)[None]
    _, past_keys, past_values = jnp.split(dense(layer["look"], support), 3, axis=1)

    def one(query: chex.Array, key: chex.Array, value: chex.Array) -> chex.Array:
        every_key = jnp.concatenate([past_keys, key[None]])
        every_value = jnp.concatenate([past_values, value[None]])
        return attention(query[None], every_key, every_value, seen)[0]

    return jax.vmap(one)(queries, keys, values)
