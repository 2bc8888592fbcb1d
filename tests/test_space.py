"""Search spaces: what a point of the unit cube means, and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.space import (
    check,
    decode,
    dimensions,
    encode,
    is_continuous,
    pullback,
    readable,
    sample,
    size,
    thresholds,
)

pytestmark = pytest.mark.versions

DISCRETE = [
    mh.Int(4, 64),
    mh.Int(-3, 3),
    mh.Int(0, 1),
    mh.Int(1, 64, log=True),
    mh.Int(1, 50_000, log=True),
    mh.Int(0, 100_000),
    mh.Choice(("only",)),
    mh.Choice(("relu", "tanh", "gelu")),
    mh.Choice(tuple(range(100, 200))),
]
FLOATS = [
    mh.Float(-2.0, 5.0),
    mh.Float(0.1, 0.3),
    mh.Float(1e-8, 1e-1, log=True),
    mh.Float(3.0, 3.1, log=True),
]
# Dictionaries come in the order of sorted keys, sequences in their own.
NESTED = {
    "optimizer": [mh.Float(1e-4, 1.0, log=True), mh.Choice(("sgd", "adam"))],
    "model": {"width": mh.Int(4, 64), "dropout": mh.Float(0.0, 0.5)},
}
NESTED_NAMES = ["model.dropout", "model.width", "optimizer.0", "optimizer.1"]
NESTED_UNIT = [0.5, 0.0, 0.5, 1.0]


def ends_of(dim):
    return (0, len(dim.values) - 1) if isinstance(dim, mh.Choice) else (dim.low, dim.high)


def values_of(dim):
    low, high = ends_of(dim)
    return range(low, high + 1)


@pytest.mark.parametrize("dim", DISCRETE, ids=str)
@pytest.mark.parametrize("x64", [False, True])
def test_every_whole_value_survives_encode_and_decode(dim, x64):
    with jax.enable_x64(x64):
        values = jnp.array(values_of(dim))
        unit = dim.encode(values)
        assert unit.min() > 0 and unit.max() < 1
        np.testing.assert_array_equal(dim.decode(unit), values)


@pytest.mark.parametrize("dim", FLOATS, ids=str)
@pytest.mark.parametrize("x64", [False, True])
def test_floats_survive_decode_and_encode_up_to_rounding(dim, x64):
    with jax.enable_x64(x64):
        unit = jnp.linspace(0, 1, 1001)
        error = jnp.abs(dim.encode(dim.decode(unit)) - unit)
        # What an ulp of the value, or of its logarithm, makes on the unit interval.
        ends = np.log([dim.low, dim.high]) if dim.log else np.array([dim.low, dim.high])
        ulp = jnp.finfo(unit.dtype).eps * max(1.0, *abs(ends)) / (ends[1] - ends[0])
        assert error.max() < 4 * (ulp + jnp.finfo(unit.dtype).eps)


def test_linear_float_is_affine():
    np.testing.assert_allclose(
        mh.Float(-2.0, 6.0).decode(jnp.array([0.0, 0.25, 1.0])), [-2.0, 0.0, 6.0]
    )


def test_logarithmic_float_is_geometric():
    np.testing.assert_allclose(
        mh.Float(1e-4, 1.0, log=True).decode(jnp.array([0.0, 0.25, 0.5, 1.0])),
        [1e-4, 1e-3, 1e-2, 1.0],
        rtol=1e-5,
    )


def test_float64_is_exact_to_float64():
    with jax.enable_x64(True):
        hparams = decode([mh.Float(0.1, 0.7), mh.Float(1e-8, 1e-1, log=True)], jnp.full(2, 0.3))
        assert hparams[0] == pytest.approx(0.1 + 0.3 * 0.6, rel=1e-15)
        assert hparams[1] == pytest.approx(1e-8 * 1e7**0.3, rel=1e-14)


@pytest.mark.parametrize("number", [float, np.float64, np.float32])
def test_unit_decides_the_type_of_floats_even_under_x64(number):
    space = {"x": mh.Float(number(0.5), number(2.0)), "y": mh.Float(number(1), number(2), log=True)}
    with jax.enable_x64(True):
        for dtype in (np.dtype("float32"), np.dtype("float64")):
            hparams = decode(space, jnp.full(2, 0.5, dtype))
            assert {x.dtype for x in hparams.values()} == {dtype}
    assert {x.dtype for x in decode(space, jnp.full(2, 0.5)).values()} == {np.dtype("float32")}


@pytest.mark.parametrize("dim", [mh.Int(np.int64(1), np.int64(9)), mh.Choice(["ab"])], ids=str)
def test_whole_values_are_int32_even_under_x64(dim):
    for x64 in (False, True):
        with jax.enable_x64(x64):
            assert dim.decode(jnp.array(0.5)).dtype == jnp.int32


@pytest.mark.parametrize("dim", FLOATS + DISCRETE, ids=str)
@pytest.mark.parametrize("x64", [False, True])
def test_bounds_are_never_left(dim, x64):
    with jax.enable_x64(x64):
        tiny = jnp.finfo(jnp.result_type(float)).eps
        unit = jnp.concatenate([jnp.array([0.0, tiny, 1 - tiny, 1.0]), jnp.linspace(0, 1, 999)])
        value = dim.decode(unit)
        low, high = ends_of(dim)
        assert value.min() >= jnp.asarray(low, value.dtype)
        assert value.max() <= jnp.asarray(high, value.dtype)


@pytest.mark.parametrize("dim", [d for d in DISCRETE if len(values_of(d)) < 200], ids=str)
def test_ends_of_the_unit_interval_are_the_extreme_values(dim):
    assert (dim.decode(0.0), dim.decode(1.0)) == ends_of(dim)


@pytest.mark.parametrize("dim", [mh.Int(4, 64), mh.Int(-3, 3), mh.Choice(tuple("abcde"))], ids=str)
def test_linear_cells_are_equally_wide(dim):
    count = len(values_of(dim))
    per_cell = 100
    unit = (jnp.arange(count * per_cell) + 0.5) / (count * per_cell)
    _, sizes = np.unique(dim.decode(unit), return_counts=True)
    np.testing.assert_array_equal(sizes, np.full(count, per_cell))


def test_logarithmic_cells_are_as_wide_as_documented():
    dim = mh.Int(1, 8, log=True)
    _, sizes = np.unique(dim.decode((jnp.arange(100_000) + 0.5) / 100_000), return_counts=True)
    k = np.arange(1, 9)
    expected = np.log((k + 0.5) / (k - 0.5)) / np.log(8.5 / 0.5)
    np.testing.assert_allclose(sizes / 100_000, expected, atol=2e-5)


def test_nested_space_has_names_in_the_order_of_the_cube():
    assert list(dimensions(NESTED)) == NESTED_NAMES
    assert size(NESTED) == 4
    np.testing.assert_array_equal(is_continuous(NESTED), [True, False, True, False])


def test_nested_space_decodes_into_its_own_structure():
    hparams = decode(NESTED, jnp.array(NESTED_UNIT))
    assert readable(NESTED, hparams) == {
        "optimizer": [pytest.approx(0.01), "adam"],
        "model": {"width": 4, "dropout": pytest.approx(0.25)},
    }
    np.testing.assert_allclose(encode(NESTED, hparams), [0.5, 0.5 / 61, 0.5, 0.75], rtol=1e-5)


def test_a_single_dimension_is_a_space():
    space = mh.Float(0.0, 2.0)
    assert size(space) == 1
    assert decode(space, jnp.array([0.5])) == 1.0


def test_readable_gives_python_values():
    out = readable(NESTED, decode(NESTED, jnp.array(NESTED_UNIT)))
    assert [type(leaf) for leaf in jax.tree.leaves(out)] == [float, int, float, str]


def test_gradient_of_a_linear_float_is_its_range_also_on_the_bounds():
    dim = mh.Float(-2.0, 6.0)
    np.testing.assert_array_equal(jax.vmap(jax.grad(dim.decode))(jnp.array([0.0, 0.3, 1.0])), 8.0)


def test_gradient_of_a_logarithmic_float_is_value_times_log_range_also_on_the_bounds():
    dim = mh.Float(1e-3, 10.0, log=True)
    with jax.enable_x64(True):
        unit = jnp.array([0.0, 0.3, 1.0])
        slope = jax.vmap(jax.grad(dim.decode))(unit)
        np.testing.assert_allclose(slope, dim.decode(unit) * math.log(1e4), rtol=1e-12)


def test_gradients_flow_through_floats_alone():
    def loss(unit):
        h = decode(NESTED, unit)
        return jnp.log(h["optimizer"][0]) + 3 * h["model"]["dropout"] + h["model"]["width"]

    gradient = jax.grad(loss)(jnp.array(NESTED_UNIT))
    np.testing.assert_allclose(gradient, [1.5, 0.0, math.log(1e4), 0.0], rtol=1e-5)


@pytest.mark.parametrize("unit", [[0.5, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]])
def test_pullback_is_the_chain_rule(unit):
    def fn(h):
        return h["optimizer"][0] ** 2 * jnp.cos(h["model"]["dropout"]) * h["model"]["width"]

    with jax.enable_x64(True):
        unit = jnp.array(unit)
        hparams = decode(NESTED, unit)
        outer = jax.grad(fn, allow_int=True)(hparams)  # float0 for integers
        expected = jax.grad(lambda u: fn(decode(NESTED, u)))(unit)
        assert jnp.abs(expected).max() > 0
        np.testing.assert_allclose(pullback(NESTED, unit, outer), expected, rtol=1e-13)


def test_pullback_ignores_what_stands_at_integers():
    space = {"n": mh.Int(1, 9), "x": mh.Float(0.0, 2.0)}
    grad = {"n": jnp.array(jnp.nan), "x": jnp.array(3.0)}
    np.testing.assert_array_equal(pullback(space, jnp.array([0.5, 0.5]), grad), [0.0, 6.0])


def test_decode_and_encode_work_under_jit_and_vmap():
    unit = jax.random.uniform(jax.random.key(0), (50, 4))
    one_by_one = jnp.stack([encode(NESTED, decode(NESTED, u)) for u in unit])
    batched = jax.jit(jax.vmap(lambda u: encode(NESTED, decode(NESTED, u))))(unit)
    np.testing.assert_allclose(batched, one_by_one, rtol=1e-5)


def test_samples_are_uniform_in_the_unit_cube():
    keys = jax.random.split(jax.random.key(0), 4000)
    hparams = jax.jit(jax.vmap(lambda key: sample(key, NESTED)))(keys)
    unit = jax.vmap(lambda h: encode(NESTED, h))(hparams)
    assert unit.min() >= 0 and unit.max() <= 1
    # Means of cells are the means of the cube; 5 standard errors.
    np.testing.assert_allclose(unit.mean(0), 0.5, atol=5 / math.sqrt(12 * 4000))
    for i in range(100):
        check(NESTED, jax.tree.map(lambda leaf, i=i: leaf[i], hparams))


GOOD = {"lr": 0.1, "n": 3, "c": 1}
SPACE = {"lr": mh.Float(1e-3, 1.0, log=True), "n": mh.Int(1, 5), "c": mh.Choice(("a", "b"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1.1}, r"lr must be in \[0.001, 1.0\], got 1.1"),
        ({"lr": 0.0}, r"lr must be in \[0.001, 1.0\], got 0.0"),
        ({"lr": math.nan}, r"lr must be in .* got nan"),
        ({"lr": 0.5j}, r"lr must be a real number, got 0.5j"),
        ({"lr": "fast"}, r"lr must be a real number, got 'fast'"),
        ({"lr": np.ones(2)}, r"lr must be a scalar, got shape \(2,\)"),
        ({"n": 6}, r"n must be in \[1, 5\], got 6"),
        ({"n": 2.0}, r"n must be a whole number, got 2.0"),
        ({"n": True}, r"n must be a whole number, got True"),
        ({"c": 2}, r"c must be in \[0, 1\], got 2"),
        ({"c": "z"}, r"c must be one of \('a', 'b'\), or its index as an array, got 'z'"),
        ({"extra": 1}, r"do not match the space: .*extra"),
    ],
)
def test_check_names_the_dimension_the_rule_and_the_value(change, message):
    check(SPACE, GOOD)
    with pytest.raises(ValueError, match=message):
        check(SPACE, GOOD | change)


def test_check_forgives_float32_an_ulp_and_no_more():
    space = mh.Float(1e-12, 1e-9, log=True)
    high = np.float32(1e-9)
    check(space, np.nextafter(high, np.float32(1)))
    with pytest.raises(ValueError, match="must be in"):
        check(space, high * np.float32(1.001))


@pytest.mark.parametrize("function", [encode, check, readable])
def test_hyperparameters_that_do_not_match_are_refused(function):
    with pytest.raises(ValueError, match="do not match the space"):
        function(SPACE, {"lr": 0.1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mh.Float(2.0, 1.0), r"low must be below high, got Float\(low=2.0, high=1.0"),
        (lambda: mh.Float(1.0, 1.0), r"low must be below high, got Float\(low=1.0, high=1.0"),
        (lambda: mh.Float(0.0, 1.0, log=True), r"needs low > 0, got Float\(low=0.0"),
        (lambda: mh.Float(-1.0, 1.0, log=True), r"needs low > 0, got Float\(low=-1.0"),
        (lambda: mh.Float(0.0, math.inf), r"bounds must be finite, got Float\(low=0.0, high=inf"),
        (lambda: mh.Float(math.nan, 1.0), r"bounds must be finite, got Float\(low=nan"),
        (lambda: mh.Int(5, 4), r"low must be below high, got Int\(low=5, high=4"),
        (lambda: mh.Int(0, 4, log=True), r"needs low > 0, got Int\(low=0"),
        (lambda: mh.Int(1.5, 4), r"must be whole numbers, got Int\(low=1.5"),
        (lambda: mh.Int(1, math.inf), r"bounds must be finite, got Int\(low=1, high=inf"),
        (lambda: mh.Int(0, 2**31), r"must fit into 32 bits, got Int\(low=0, high=2147483648"),
        (lambda: mh.Choice(()), "at least one value, got an empty sequence"),
        (lambda: mh.Choice("relu"), "a sequence of values, got 'relu'"),
        (lambda: mh.Choice(3), "a sequence of values, got 3"),
        (lambda: mh.Choice(("a", "b", "a")), r"must differ, got \('a', 'b', 'a'\)"),
    ],
)
def test_dimension_refuses_with_rule_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lr": 0.1}, r"its leaf \['lr'\] is 0.1"),
        (lambda x: x, r"its leaf \(root\) is <function"),
        ({"a": [mh.Int(1, 2), "b"]}, r"its leaf \['a'\]\[1\] is 'b'"),
        ({}, "at least one dimension, got {}"),
        ({"a.b": mh.Int(1, 2), "a": {"b": mh.Int(1, 2)}}, r"must differ, got \['a.b', 'a.b'\]"),
    ],
)
def test_what_is_not_a_space_is_refused_with_rule_and_value(space, message):
    with pytest.raises(ValueError, match=message):
        size(space)


@pytest.mark.parametrize("shape", [(3,), (5,), (1, 4), ()])
def test_decode_refuses_a_unit_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"unit must have shape \(4,\) for this space, got"):
        decode(NESTED, jnp.zeros(shape))


ARRAYS = {
    "act": mh.Choice(("a", "b", "c"), shape=(2,)),
    "l2": mh.Float(1e-4, 1.0, log=True),
    "rates": mh.Float(0.0, 2.0, shape=(2, 3)),
    "width": mh.Int(1, 4, shape=2),
}


def test_an_array_of_dimensions_has_a_coordinate_for_each_entry():
    assert size(ARRAYS) == 2 + 1 + 6 + 2
    names = list(dimensions(ARRAYS))
    assert names[:5] == ["act[0]", "act[1]", "l2", "rates[0][0]", "rates[0][1]"]
    assert dimensions(ARRAYS)["rates[1][2]"] == mh.Float(0.0, 2.0)
    assert is_continuous(ARRAYS).tolist() == [False] * 2 + [True] * 7 + [False] * 2


def test_an_array_of_dimensions_is_decoded_like_its_entries():
    unit = jax.random.uniform(jax.random.key(0), (11,))
    hparams = decode(ARRAYS, unit)
    assert jax.tree.map(jnp.shape, hparams) == {
        "act": (2,), "l2": (), "rates": (2, 3), "width": (2,)
    }  # fmt: skip
    flat = np.concatenate([np.ravel(hparams[name]) for name in ARRAYS])
    each = [dim.decode(u) for dim, u in zip(dimensions(ARRAYS).values(), unit, strict=True)]
    np.testing.assert_allclose(flat, np.array(each, dtype=flat.dtype), rtol=1e-6)
    check(ARRAYS, hparams)
    again = decode(ARRAYS, encode(ARRAYS, hparams))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), again, hparams)
    assert readable(ARRAYS, hparams)["act"] == ["abc"[i] for i in hparams["act"]]
    assert readable(ARRAYS, hparams)["rates"].shape == (2, 3)


def test_gradients_of_arrays_are_pulled_back_entry_by_entry():
    unit = jnp.full(11, 0.25)
    grad = pullback(ARRAYS, unit, decode(ARRAYS, unit))
    np.testing.assert_array_equal(grad[:2], 0.0)  # choices
    np.testing.assert_allclose(grad[3:9], 0.5 * 2.0)  # value 0.5, slope 2
    np.testing.assert_array_equal(grad[9:], 0.0)  # integers


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rates", jnp.zeros(6), r"hyperparameter rates must have shape \(2, 3\), got shape \(6,\)"),
        ("rates", jnp.full((2, 3), 3.0), r"hyperparameter rates must be in \[0.0, 2.0\]"),
        ("width", jnp.array([1, 9]), r"hyperparameter width must be in \[1, 4\]"),
    ],
)
def test_arrays_outside_their_dimension_are_refused(name, value, message):
    hparams = decode(ARRAYS, jnp.full(11, 0.5)) | {name: value}
    with pytest.raises(ValueError, match=message):
        check(ARRAYS, hparams)


@pytest.mark.parametrize("shape", [(0,), (2, -1), (1.5,)])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(ValueError, match="a shape must hold positive whole numbers, got Float"):
        mh.Float(0.0, 1.0, shape=shape)


@pytest.mark.parametrize("dim", DISCRETE[:5] + DISCRETE[6:], ids=str)
def test_the_value_changes_at_each_threshold_and_nowhere_else(dim):
    (bounds,) = thresholds({"x": dim})
    low, high = ends_of(dim)
    assert len(bounds) == high - low
    with jax.enable_x64(True):
        edges = np.concatenate([[0.0], bounds, [1.0]])
        inside = edges[:-1] + np.outer([0.001, 0.5, 0.999], np.diff(edges))
        assert (np.asarray(dim.decode(jnp.asarray(inside))) == np.arange(low, high + 1)).all()


def test_floats_and_vast_integers_have_no_thresholds():
    space = {"a": mh.Float(0.0, 1.0), "b": mh.Int(0, 2**30), "c": mh.Int(0, 1)}
    assert [len(bounds) for bounds in thresholds(space)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mh.Float(0.0, 1e39), "must lie within 3.4e"),
        (lambda: mh.Float(-3e38, 3e38), "no longer in float32"),
        (lambda: mh.Float(1e-50, 1.0, log=True), "on a logarithmic scale in float32"),
        (lambda: mh.Float(1.0, 1.0 + 1e-9), "100 different numbers in float32"),
        (lambda: mh.Float(1.6e9, 1.6e9 + 3600), "100 different numbers in float32"),
        (lambda: mh.links.logit(0.0, 1e39), "must lie within 3.4e"),
    ],
)
def test_ranges_that_the_float_type_cannot_hold_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_double_precision_holds_more():
    with jax.enable_x64(True):
        assert mh.Float(1.6e9, 1.6e9 + 3600).high == 1.6e9 + 3600


@pytest.mark.parametrize(
    "dim", [mh.Int(2**25, 2**25 + 7), mh.Int(20_260_101, 20_260_131), mh.Int(-(2**31), 2**31 - 1)]
)
def test_large_whole_numbers_are_reached_and_never_left(dim):
    values = np.asarray(jax.vmap(dim.decode)(jnp.linspace(0, 1, 10_001)), np.int64)
    assert values.min() == dim.low and values.max() == dim.high
    assert len(np.unique(values)) == min(dim.high - dim.low + 1, 10_001)


def test_cells_of_whole_numbers_are_half_open():
    values = jax.vmap(mh.Int(0, 3).decode)(jnp.arange(8) / 8)
    assert values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_python_values_of_choices_come_back():
    space = {
        "nesterov": mh.Choice((True, False)),
        "layers": mh.Choice((1, 2, 4)),
        "optimizer": mh.Choice(("adam", "sgd")),
        "each": mh.Choice(("a", "b"), shape=(2,)),
    }
    best = {"nesterov": True, "layers": 2, "optimizer": "sgd", "each": ["b", "a"]}
    assert readable(space, decode(space, encode(space, best))) == best
    check(space, best)
    with pytest.raises(ValueError, match=r"layers must be one of \(1, 2, 4\), or its index as"):
        encode(space, best | {"layers": 3})


def test_an_array_is_the_index_of_a_choice():
    space = {"layers": mh.Choice((1, 2, 4))}
    back = decode(space, encode(space, {"layers": jnp.int32(2)}))
    assert readable(space, back) == {"layers": 4}


def test_readable_floats_do_not_leave_their_bounds_by_rounding():
    space = {"x": mh.Float(0.7, 0.9), "y": mh.Float(0.1, 0.3)}
    assert readable(space, decode(space, jnp.array([0.0, 1.0]))) == {"x": 0.7, "y": 0.3}
