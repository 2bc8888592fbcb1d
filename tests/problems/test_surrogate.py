"""Surrogate networks: each operator and a small network against ONNX's reference, real ones
against onnxruntime."""

import csv
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems.surrogate.graph import evaluate, read_graph
from metahpo.problems.surrogate.operators import OPERATORS
from metahpo.problems.surrogate.problem import predictions
from metahpo.problems.surrogate.yahpo import SCENARIOS, STATISTICS
from metahpo.testing import check_problem

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
helper = onnx.helper
FLOAT, INT32, INT64, DOUBLE = 1, 6, 7, 11

DATA = (
    Path(os.environ.get("METAHPO_DATA", Path(mh.__file__).parents[2] / "shared" / "data")) / "yahpo"
)


def saved(path, nodes, constants, outputs=("out",), opset=15, sizes=(1, 8)):
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info("x_cat", INT32, ["n", sizes[0]]),
            helper.make_tensor_value_info("x_cont", FLOAT, ["n", sizes[1]]),
        ],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def by_reference(path, categories, numbers):
    """What the definition of ONNX says, in NumPy."""
    given = {"x_cat": np.asarray(categories, "i4"), "x_cont": np.asarray(numbers, "f4")}
    return reference.ReferenceEvaluator(str(path)).run(None, given)[0]


def by_runtime(path, categories, numbers):
    """As YAHPO does it."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"x_cat": np.asarray(categories, "i4"), "x_cont": np.asarray(numbers, "f4")}
    return session.run(None, given)[0]


def ours(path, categories, numbers):
    graph = read_graph(path)
    run = jax.jit(lambda a, b: evaluate(graph, {"x_cat": a, "x_cont": b}))
    return run(jnp.asarray(categories, "i4"), jnp.asarray(numbers, "f4"))


def node(operator, inputs, output="out", **attributes):
    return helper.make_node(operator, inputs, [output], **attributes)


RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(8, 5)).astype("f4")
ONE_OF_EACH = {
    "add": ([node("Add", ["x_cont", "c"])], {"c": MATRIX[:, 0]}),
    "batch_normalization": (
        [node("BatchNormalization", ["x_cont", "a", "b", "c", "d"], epsilon=0.1)],
        {"a": MATRIX[:, 0], "b": MATRIX[:, 1], "c": MATRIX[:, 2], "d": MATRIX[:, 3] ** 2},
    ),
    "cast": (
        [node("Cast", ["x_cont"], "i", to=INT64), node("Cast", ["i"], to=FLOAT)],
        {},
    ),
    "concat": ([node("Concat", ["x_cont", "x_cont"], axis=-1)], {}),
    "constant": (
        [
            node("Constant", [], "c", value=onnx.numpy_helper.from_array(MATRIX[:, 1])),
            node("Mul", ["x_cont", "c"]),
        ],
        {},
    ),
    "div": ([node("Div", ["x_cont", "c"])], {"c": MATRIX[:, 0]}),
    "div_whole": (
        [
            node("Cast", ["x_cont"], "i", to=INT64),
            node("Div", ["i", "c"], "d"),
            node("Cast", ["d"], to=FLOAT),
        ],
        {"c": np.array([-2, 3, 2, 5, -1, 7, 2, 2])},
    ),
    "exp": ([node("Exp", ["x_cont"])], {}),
    "gather": ([node("Gather", ["c", "x_cat"])], {"c": MATRIX}),
    "gather_column": ([node("Gather", ["x_cont", "c"], axis=1)], {"c": np.array(-2)}),
    "gemm": ([node("Gemm", ["x_cont", "a"])], {"a": MATRIX}),
    "gemm_scaled": (
        [node("Gemm", ["x_cont", "a", "c"], alpha=0.5, beta=2.0, transB=1)],
        {"a": MATRIX.T.copy(), "c": MATRIX[0]},
    ),
    "gemm_transposed": ([node("Gemm", ["x_cont", "x_cont"], transA=1)], {}),
    "log": ([node("Mul", ["x_cont", "x_cont"], "s"), node("Log", ["s"])], {}),
    "neg": ([node("Neg", ["x_cont"])], {}),
    "relu": ([node("Relu", ["x_cont"])], {}),
    "shape": ([node("Shape", ["x_cont"], "s"), node("Cast", ["s"], to=FLOAT)], {}),
    "sigmoid": ([node("Sigmoid", ["x_cont"])], {}),
    "slice": (
        [node("Slice", ["x_cont", "a", "b", "axes", "steps"])],
        {"a": np.array([1, 0]), "b": np.array([-1, 2**40]), "axes": np.array([1, 0]),
         "steps": np.array([3, 1])},
    ),
    "slice_default": ([node("Slice", ["x_cont", "a", "b"])], {"a": np.array([1]),
                                                               "b": np.array([3])}),
    "sub": ([node("Sub", ["c", "x_cont"])], {"c": MATRIX[:, 0]}),
    "unsqueeze": ([node("Unsqueeze", ["x_cont", "a"])], {"a": np.array([1, -1])}),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_every_operator_is_that_of_the_definition(case, tmp_path):
    path = saved(tmp_path / "model.onnx", *ONE_OF_EACH[case])
    categories, numbers = RNG.integers(0, 8, (6, 1)), 3 * RNG.normal(size=(6, 8))
    expected = by_reference(path, categories, numbers)
    found = ours(path, categories, numbers)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_there_is_a_case_for_every_operator():
    covered = {n.op_type for nodes, _ in ONE_OF_EACH.values() for n in nodes}
    assert covered == set(OPERATORS)


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([node("Erf", ["x_cont"])], {}, "operators must be among .*; got Erf"),
        ([node("Relu", ["x_cont"])], {"opset": 12}, r"must have opset 13 or newer, got \[12\]"),
        (
            [node("Relu", ["x_cont"], "a"), node("Relu", ["x_cont"], "b")],
            {"outputs": ("a", "b")},
            r"must have one output, got \['a', 'b'\]",
        ),
        ([node("Constant", [], value_float=1.0)], {}, "a Constant must be a tensor"),
    ],
)
def test_networks_of_another_kind_are_refused(nodes, options, message, tmp_path):
    path = saved(tmp_path / "model.onnx", nodes, {}, **options)
    with pytest.raises(ValueError, match=message):
        read_graph(path)


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_text("nothing")
    with pytest.raises(ValueError, match="no network in the format ONNX"):
        read_graph(tmp_path / "model.onnx")


INSTANCES = ["7", "31", "5"]


@pytest.fixture
def folder(tmp_path):
    """A small network with lcbench's columns: an embedding, a hidden layer, six metrics."""
    place = tmp_path / "lcbench"
    place.mkdir()
    names = SCENARIOS["lcbench"].continuous
    entries: list[dict] = [
        {"name": name, "type": "uniform_float", "log": False, "lower": 0.0, "upper": 1.0}
        for name in names[1:]
    ]
    entries.append({"name": "epoch", "type": "uniform_int", "log": False, "lower": 1, "upper": 6})
    entries.append({"name": "OpenML_task_id", "type": "categorical", "choices": INSTANCES})
    space = {"hyperparameters": entries, "conditions": [], "forbiddens": []}
    (place / "config_space.json").write_text(json.dumps(space))
    encoding = {"OpenML_task_id": {"#na#": 0, "31": 1, "5": 2, "7": 3}}
    (place / "encoding.json").write_text(json.dumps(encoding))
    with (place / STATISTICS).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["metric", "statistic", "value", "scenario", "instance"])
        for metric in SCENARIOS["lcbench"].minimised:
            for i, instance in enumerate(INSTANCES):
                writer.writerow([metric, "min", i, "lcbench", instance])
                writer.writerow([metric, "max", 10 + i, "lcbench", instance])
    draw = np.random.default_rng(1).normal
    constants = {
        "embedding": draw(size=(4, 3)).astype("f4"),
        "a": draw(size=(11, 16)).astype("f4"),
        "b": draw(size=(16, 6)).astype("f4"),
        "zero": np.array(0),
    }
    nodes = [
        node("Gather", ["x_cat", "zero"], "code", axis=1),
        node("Gather", ["embedding", "code"], "embedded"),
        node("Concat", ["embedded", "x_cont"], "joined", axis=1),
        node("Gemm", ["joined", "a"], "hidden"),
        node("Sigmoid", ["hidden"], "active"),
        node("Gemm", ["active", "b"]),
    ]
    saved(place / "model.onnx", nodes, constants)
    return place


def drawn(found, count):
    keys = jax.random.split(jax.random.key(0), count)
    hparams = jax.vmap(lambda key: mh.space.sample(key, found.space))(keys)
    tasks = jax.random.randint(jax.random.key(1), (count,), 0, len(found.instances))
    times = jax.random.uniform(
        jax.random.key(2), (count,), minval=found.fidelity.low, maxval=found.fidelity.high
    )
    return hparams, tasks, times


def compared(place, theirs, count=1000):
    """Our metrics and theirs, ``[count, M]`` each."""
    found = mh.problems.read_surrogate(place)
    scenario = found.scenario
    hparams, tasks, times = drawn(found, count)
    mine = jax.jit(jax.vmap(predictions(found)))(hparams, tasks, times)
    given = {name: np.asarray(x) for name, x in hparams.items()}
    given |= {name: np.full(count, x) for name, x in scenario.fixed.items()}
    given |= {scenario.fidelity: np.asarray(times), scenario.instance: np.asarray(tasks)}
    # Categories by their names, through the file, as YAHPO does it.
    encoding = json.loads((place / "encoding.json").read_text())
    values = {scenario.instance: found.instances}
    values |= {n: d.values for n, d in found.space.items() if isinstance(d, mh.Choice)}
    codes = [[encoding[n][values[n][i]] for i in given[n]] for n in scenario.categorical]
    numbers = [given[name] for name in scenario.continuous]
    return np.asarray(mine), theirs(place / "model.onnx", np.stack(codes, 1), np.stack(numbers, 1))


@pytest.mark.parametrize("theirs", [by_reference, by_runtime])
def test_a_small_network_is_theirs(folder, theirs):
    mine, expected = compared(folder, theirs)
    np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_real_networks_are_onnxruntimes_to_a_hundred_thousandth_of_their_range(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}; METAHPO_DATA says where it is")
    mine, expected = compared(DATA / name, by_runtime)
    apart = np.abs(mine - expected).max(axis=0) / np.ptp(expected, axis=0)
    assert apart.max() < 1e-5


def test_metrics_that_are_maximised_are_negated_and_the_rest_is_not(folder):
    found = mh.problems.read_surrogate(folder)
    predict = predictions(found)
    h = mh.space.decode(found.space, jnp.full(7, 0.3))
    for place, (metric, less) in enumerate(found.scenario.minimised.items()):
        problem = mh.problems.surrogate(found, metric)
        loss = mh.inner.outer_loss(problem, 4)(jax.random.key(0), h, 2)[0]
        assert float(loss) == pytest.approx(float(predict(h, 2, 4.0)[place]) * (1 if less else -1))
        np.testing.assert_array_equal(found.best[metric], [0, 1, 2] if less else [-10, -11, -12])
        np.testing.assert_array_equal(found.worst[metric], [10, 11, 12] if less else [0, -1, -2])
    regret = mh.problems.normalised_regret(
        -9.0, found.best["val_accuracy"][0], found.worst["val_accuracy"][0]
    )
    assert regret == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("steps", "done", "epoch"), [(None, 0, 1), (None, 3, 3), (None, 9, 6), (3, 1, 2), (4, 3, 4)]
)
def test_training_time_is_the_share_of_the_updates_that_were_made(folder, steps, done, epoch):
    """Of six epochs; three quarters of them are 4.5, which rounds to the even 4."""
    found = mh.problems.read_surrogate(folder)
    h = mh.space.decode(found.space, jnp.full(7, 0.3))
    problem = mh.problems.surrogate(found, "time", steps)
    loss = mh.inner.outer_loss(problem, done)(jax.random.key(0), h, 1)[0]
    assert float(loss) == pytest.approx(float(predictions(found)(h, 1, float(epoch))[0]))


def test_it_keeps_the_rules_of_a_problem_and_has_gradients(folder):
    found = mh.problems.read_surrogate(folder)
    problem = mh.problems.surrogate(found, "val_cross_entropy")
    check_problem(problem, space=found.space)
    with jax.enable_x64(True):
        h = mh.space.decode(found.space, jnp.full(7, 0.3))
        loss = lambda x: problem.loss(None, h | {"momentum": x}, 0, jnp.int32(6))  # noqa: E731
        slope, step, loss = jax.jit(jax.grad(loss))(0.4), 1e-5, jax.jit(loss)
        by_hand = (loss(0.4 + step) - loss(0.4 - step)) / (2 * step)
        assert float(slope) == pytest.approx(float(by_hand), rel=1e-6)


def test_all_tasks_are_searched_in_one_program(folder):
    found = mh.problems.read_surrogate(folder)
    problem = mh.problems.surrogate(found, "val_accuracy")
    run = lambda task: mh.search(  # noqa: E731
        jax.random.key(0), problem, found.space, mh.strategies.random(found.space, 8), rounds=3,
        steps=6, task=task,
    ).best_loss  # fmt: skip
    losses = jax.jit(jax.vmap(run))(jnp.arange(len(found.instances)))
    alone = [float(run(task)) for task in range(len(found.instances))]
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert len(set(alone)) == len(alone)


def rewritten(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config_space.json", lambda c: c["hyperparameters"].pop(2), r"not so: \['momentum'\]"),
        ("config_space.json", lambda c: c["conditions"].append("x"), "must have no conditions"),
        (
            "config_space.json",
            lambda c: c["hyperparameters"][0].update(type="normal_float"),
            "batch_size must be categorical, uniform_int or uniform_float, got normal_float",
        ),
        ("encoding.json", lambda c: c["OpenML_task_id"].pop("5"), "must encode all values.*5"),
    ],
)
def test_files_of_another_kind_are_refused(folder, file, change, message):
    rewritten(folder / file, change)
    with pytest.raises(ValueError, match=message):
        mh.problems.read_surrogate(folder)


def test_ranges_that_are_missing_are_refused(folder):
    lines = (folder / STATISTICS).read_text().splitlines()
    (folder / STATISTICS).write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"range of \('test_balanced_accuracy', 'max', '5'\)"):
        mh.problems.read_surrogate(folder)


def test_a_missing_file_and_another_scenario_are_refused(folder):
    (folder / "encoding.json").unlink()
    with pytest.raises(FileNotFoundError, match="no file .*encoding.json.\nExpected are"):
        mh.problems.read_surrogate(folder)
    with pytest.raises(ValueError, match="must be one of .*lcbench.*, got 'fcnet'"):
        mh.problems.read_surrogate(folder.parent / "fcnet")


def test_wrong_arguments_are_refused(folder):
    found = mh.problems.read_surrogate(folder)
    with pytest.raises(ValueError, match="read must be a Surrogate"):
        mh.problems.surrogate(str(folder), "time")
    with pytest.raises(ValueError, match="metric must be one of"):
        mh.problems.surrogate(found, "accuracy")
    with pytest.raises(ValueError, match="steps must be a whole number"):
        mh.problems.surrogate(found, "time", steps=0)


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"\[surrogate\]"):
        mh.problems.read_surrogate(folder)
