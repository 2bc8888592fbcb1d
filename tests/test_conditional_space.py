"""Constants, ordered choices, and sub-spaces of which one is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.space import (
    Branch,
    active,
    by_name,
    canonical,
    check,
    decode,
    decoder,
    dimensions,
    encode,
    is_continuous,
    names,
    pullback,
    readable,
    size,
    thresholds,
)

pytestmark = pytest.mark.versions

KERNEL = mh.OneOf(rbf={"gamma": mh.Float(0.25, 1.0)}, linear={})
SPACE = {
    "lr": mh.Float(0.0, 2.0),
    "model": mh.OneOf(
        svm={"C": mh.Float(0.0, 4.0), "kernel": KERNEL, "seed": mh.Constant(7)},
        forest={"depth": mh.Int(1, 9), "split": mh.Choice(("gini", "entropy"))},
        naive={},
    ),
}
NAMES = [
    "lr",
    "model",
    "model.svm.C",
    "model.svm.kernel",
    "model.svm.kernel.rbf.gamma",
    "model.forest.depth",
    "model.forest.split",
]
# lr, model, C, kernel, gamma, depth, split
RBF = [0.5, 0.1, 0.25, 0.1, 0.0, 0.2, 0.2]
LINEAR = [0.5, 0.1, 0.25, 0.9, 0.0, 0.2, 0.2]
FOREST = [0.5, 0.5, 0.25, 0.1, 0.0, 0.0, 0.9]
NAIVE = [0.5, 0.9, 0.25, 0.1, 0.0, 0.0, 0.9]
POINTS = jnp.array([RBF, LINEAR, FOREST, NAIVE])
READ = [
    {
        "lr": 1.0,
        "model": Branch("svm", {"C": 1.0, "kernel": Branch("rbf", {"gamma": 0.25}), "seed": 7}),
    },
    {"lr": 1.0, "model": Branch("svm", {"C": 1.0, "kernel": Branch("linear", {}), "seed": 7})},
    {"lr": 1.0, "model": Branch("forest", {"depth": 1, "split": "entropy"})},
    {"lr": 1.0, "model": Branch("naive", {})},
]


def test_the_choice_comes_first_and_then_the_coordinates_of_all_branches():
    assert list(dimensions(SPACE)) == NAMES
    assert size(SPACE) == 7
    assert dimensions(SPACE)["model"] == mh.Choice(("svm", "forest", "naive"))
    assert names(SPACE) == [*NAMES[:5], "model.svm.seed", *NAMES[5:]]
    assert is_continuous(SPACE).tolist() == [True, False, True, False, True, False, False]
    assert [len(row) for row in thresholds(SPACE)] == [0, 2, 0, 1, 0, 8, 1]


def test_coordinates_are_active_in_chosen_branches_alone():
    expected = [
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 1, 1],
        [1, 1, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(active(SPACE, POINTS), np.array(expected, bool))
    each = jax.jit(jax.vmap(lambda unit: active(SPACE, unit)))(POINTS)
    np.testing.assert_array_equal(each, np.array(expected, bool))
    flat = {"x": mh.Float(0.0, 1.0), "c": mh.Constant(1)}
    assert active(flat, jnp.zeros((2, 1))).all()


def test_values_do_not_depend_on_coordinates_that_are_not_active():
    drawn = jax.random.uniform(jax.random.key(0), (4, 7))
    other = jnp.where(active(SPACE, POINTS), POINTS, drawn)
    run = jax.jit(jax.vmap(lambda unit: decode(SPACE, unit)))
    jax.tree.map(np.testing.assert_array_equal, run(POINTS), run(other))
    np.testing.assert_array_equal(canonical(SPACE, POINTS), canonical(SPACE, other))
    grads = jax.vmap(jax.grad(lambda unit: decode(SPACE, unit)["model"]["svm"]["C"]))(POINTS)
    np.testing.assert_array_equal(grads != 0, np.eye(7, dtype=bool)[[2, 2, 0, 0]] & (POINTS < 0.5))
    ones = jax.tree.map(jnp.ones_like, decode(SPACE, POINTS[2]))
    np.testing.assert_array_equal(pullback(SPACE, POINTS[2], ones), [2.0, 0, 0, 0, 0, 0, 0])


def test_on_the_host_only_the_chosen_branch_is_there():
    assert decoder(SPACE)(POINTS) == READ
    hparams = [decode(SPACE, unit) for unit in POINTS]
    assert [readable(SPACE, h, digits=6) for h in hparams] == READ
    assert by_name(SPACE, READ[2]) == {
        "lr": 1.0,
        "model": "forest",
        "model.forest.depth": 1,
        "model.forest.split": "entropy",
    }


@pytest.mark.parametrize("i", range(4))
def test_what_is_decoded_or_read_is_encoded_to_the_same_point(i):
    inside = np.array([0.5, [1, 1, 3, 5][i] / 6, 0.25, [1, 3, 1, 1][i] / 4, 0, 1 / 18, 0.75])
    expected = np.where(active(SPACE, POINTS[i]), inside, 0.5)
    np.testing.assert_allclose(encode(SPACE, decode(SPACE, POINTS[i])), expected, atol=1e-6)
    np.testing.assert_allclose(encode(SPACE, READ[i]), expected, atol=1e-6)
    name, values = READ[i]["model"]
    plain = READ[i] | {"model": {name: values}}
    np.testing.assert_allclose(encode(SPACE, plain), expected, atol=1e-6)
    check(SPACE, READ[i])
    check(SPACE, decode(SPACE, POINTS[i]))


def test_switch_goes_on_with_the_chosen_branch_in_a_program_and_on_the_host():
    def loss(h):
        return h["lr"] + h["model"].switch(
            {"naive": lambda h: 0.0},
            svm=lambda h: h["C"] + h["kernel"].switch(rbf=lambda h: h["gamma"], linear=lambda h: 0),
            forest=lambda h: 10.0 * h["depth"],
        )

    traced = jax.vmap(lambda unit: loss(decode(SPACE, unit)))(POINTS)
    np.testing.assert_allclose(traced, [2.25, 2.0, 11.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose([loss(h) for h in READ], [2.25, 2.0, 11.0, 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"one function for each of .*'naive'.*, got \('svm',\)"):
        decode(SPACE, POINTS[0])["model"].switch(svm=lambda h: h["C"])


@pytest.mark.parametrize("space", [KERNEL, mh.OneOf(a=mh.Float(0.0, 1.0), b=mh.Constant(0.5))])
def test_a_space_may_be_nothing_but_branches_and_a_branch_nothing_but_a_dimension(space):
    assert list(dimensions(space))[0] == "which"
    for unit in ([0.0, 0.25], [0.9, 0.25]):
        hparams = readable(space, decode(space, jnp.array(unit)))
        np.testing.assert_allclose(
            encode(space, hparams), [unit[0] // 0.5 / 2 + 0.25, 0.25 if unit[0] < 0.5 else 0.5]
        )


def test_constants_are_arrays_in_a_program_and_themselves_on_the_host():
    values = {"a": 3, "b": 0.5, "c": True, "d": "adam"}
    space = {"x": mh.Int(0, 1)} | {name: mh.Constant(value) for name, value in values.items()}
    hparams = jax.jit(lambda unit: decode(space, unit))(jnp.zeros(1))
    types = {name: hparams[name].dtype.name for name in values}
    assert types == {"a": "int32", "b": "float32", "c": "bool", "d": "int32"}
    assert readable(space, hparams) == {"x": 0} | values
    assert encode(space, hparams).tolist() == encode(space, {"x": 0} | values).tolist() == [0.25]
    check(space, hparams)
    check(space, {"x": 0} | values)
    with pytest.raises(ValueError, match="a is constant, it must be 3, got 4"):
        check(space, {"x": 0} | values | {"a": 4})


def test_an_ordered_choice_is_its_index_to_programs_and_a_number_to_strategies():
    ordered, plain = mh.Choice((16, 32, 64), ordered=True), mh.Choice((16, 32, 64))
    assert dimensions({"n": ordered}) == {"n": mh.Int(0, 2)}
    for u in (0.0, 0.3, 0.4, 1.0):
        number = dimensions({"n": ordered})["n"].decode(u)
        assert ordered.decode(u) == plain.decode(u) == number
        assert ordered.encode(number) == dimensions({"n": ordered})["n"].encode(number)
    assert readable({"n": ordered}, {"n": jnp.array(2)}) == {"n": 64}
    assert encode({"n": ordered}, {"n": 64}).tolist() == pytest.approx([5 / 6])


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: mh.OneOf(), "at least one branch, got none"),
        (lambda: mh.OneOf([{}, {}]), r"must have names, got \[{}, {}\]"),
        (lambda: mh.OneOf({"": {}}), "a text, not empty, got ''"),
        (lambda: mh.OneOf({3: {}}), "a text, not empty, got 3"),
        (lambda: mh.OneOf({"a": {}}, a={}), r"given once, got \['a'\] twice"),
        (lambda: size({"m": mh.OneOf(a={"x": 3})}), r"leaf \['m'\].*is 3; mh.Constant\(3\) is"),
        (lambda: size({"a": mh.Constant(3)}), "needs at least one dimension"),
        (lambda: size({"m": KERNEL, "m.rbf.gamma": mh.Int(0, 1)}), "names .* must differ"),
        (lambda: mh.Constant([1]), r"a number, a truth value or a text, got \[1\] \(list\)"),
        (lambda: mh.Constant(None), "got None"),
        (lambda: mh.Constant(float("nan")), "not be NaN"),
        (lambda: mh.Constant(2**31), "fit into 32 bits, got 2147483648"),
        (lambda: mh.Choice((16,), ordered=True), r"at least two values, got \(16,\)"),
        (lambda: mh.Choice((1, 2), ordered=1), "True or False, got 1"),
        (lambda: active(SPACE, jnp.zeros(3)), r"shape \[..., 7\], got \(3,\)"),
        (lambda: KERNEL["poly"], "'poly' is not one of the branches"),
    ],
)
def test_bad_spaces_are_refused(make, rule):
    with pytest.raises((ValueError, KeyError), match=rule):
        make()


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (("svn", {}), r"model must be one of the branches \('svm', .*\), got 'svn'"),
        (
            {"svm": {}, "naive": {}},
            r"for the chosen branch alone, .* got some for \('svm', ",
        ),
        (("naive", {"C": 1.0}), "do not match the space in model.naive"),
        (("forest", {"depth": 3, "split": "gini", "C": 1.0}), "match the space in model.forest"),
        (("forest", {"depth": 30, "split": "gini"}), r"model.forest.depth must be in \[1, 9\]"),
        ("naive", "a pair of a branch's name and its values, got 'naive'"),
    ],
)
def test_values_of_branches_that_do_not_fit_are_refused(model, rule):
    for function in (encode, check) if "must be in" not in rule else (check,):
        with pytest.raises(ValueError, match=rule):
            function(SPACE, {"lr": 1.0, "model": model})
    with pytest.raises(ValueError, match=rule):
        mh.strategies.tpe(SPACE, 4, initial={"lr": 1.0, "model": model}, capacity=8)
