"""Wrong arguments to everything public that takes numbers, names, records or functions.

A call counts as named if it raises a ``ValueError`` or ``TypeError`` whose message has the argument
or the wrong value.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from benchmarks import _fault_runs as runs
from metahpo import networks, report
from metahpo.problems.few_shot import Examples

NAN, INF = math.nan, math.inf

WHOLE = [0, -3, 2.5, NAN, "many"]
COUNT_FROM_2 = [1, -3, 2.5, "many"]
POSITIVE = [0.0, -1.0, NAN, INF, "small"]
SHARE = [0.0, -0.1, 1.5, NAN, "half"]
PROBABILITY = [-0.1, 1.5, NAN, "half"]
NAME = ["nonsense", 3]
RECORD = [None, 3, {"loss": 0.0}]
FUNCTION = [3, "loss", lambda: 0.0]
SPACES = [{}, {"x": 0.5}, {"x": (0.0, 1.0)}, None]
POINTS = [np.zeros((2, 7)), np.full((1, 2), 1.5), {"lr": 0.1}, {"lr": 9.0, "momentum": 0.5}]


class Call(NamedTuple):
    """A function, arguments that are right, and wrong ones by name."""

    function: Callable[..., Any]
    right: dict[str, Any]
    wrong: dict[str, list[Any]]


def counted() -> tuple[int, int, list[str]]:
    """How many wrong calls there were, how many were refused by name, and what the others did."""
    calls, named, others = 0, 0, []
    for call in _calls():
        call.function(**call.right)
        for argument, values in call.wrong.items():
            for value in values:
                calls += 1
                end = _end(call, argument, value)
                named += end == "named"
                if end != "named":
                    name = getattr(call.function, "__name__", str(call.function))
                    others.append(f"{name}({argument}={value!r}): {end}")
    return calls, named, others


def _end(call: Call, argument: str, value: Any) -> str:
    try:
        call.function(**call.right | {argument: value})
    except (ValueError, TypeError) as error:
        text = str(error)
        words = [argument.rstrip("s").replace("_", " "), repr(value), *_parts(value)]
        whole = (rf"(?<![\w.]){re.escape(word)}(?!\.?\d)" for word in words)  # 0 is not that of 10
        known = any(
            re.search(word, said) for word in whole for said in (text, text.replace("_", " "))
        )
        return "named" if known else f"{type(error).__name__} without its name: {text[:200]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "accepted"


def _parts(value: Any) -> list[str]:
    """What a message may name instead of the whole."""
    if isinstance(value, tuple):
        return [repr(part) for part in value]
    return [*map(repr, value.values()), *value] if isinstance(value, dict) else []


def _calls() -> Iterator[Call]:
    yield from _strategies()
    yield from _estimators()
    yield from _runs()
    yield from _problems()
    yield from _learners()
    yield from _others()


def _strategies() -> Iterator[Call]:
    s = mh.strategies
    base = {"space": runs.SPACE, "population": 8}
    start = {"space": SPACES, "population": WHOLE, "initial": POINTS}
    cma = {"sigma": POSITIVE, "covariance": NAME, "factor": NAME}
    yield Call(s.random, base, {"space": SPACES, "population": WHOLE})
    yield Call(s.grid, base, {"space": SPACES, "population": WHOLE, "points": WHOLE})
    yield Call(s.cma_es, base, start | cma)
    for restarted in (s.ipop_cma_es, s.bipop_cma_es):
        small = base | {"doublings": 2}
        yield Call(restarted, small, start | cma | {"doublings": [-1, 1.5, "many"]})
    yield Call(s.snes, base, start | {"sigma": POSITIVE, "mean_rate": POSITIVE})
    yield Call(s.xnes, base, start | {"sigma": POSITIVE, "mean_rate": POSITIVE})
    yield Call(s.open_es, base, start | {"sigma": POSITIVE, "learning_rate": POSITIVE})
    de = {"variant": NAME, "crossover_rate": PROBABILITY, "best_share": SHARE}
    yield Call(s.differential_evolution, base, start | de)
    yield Call(s.jade, base, start | {"best_share": SHARE, "weight_mean": NAME})
    yield Call(s.shade, base, start | {"memory_size": WHOLE, "best_share": SHARE})
    budget = base | {"evaluations": 80}
    yield Call(s.l_shade, budget, start | {"evaluations": WHOLE, "memory_size": WHOLE})
    yield Call(s.pso, base, start | {"variant": NAME, "topology": NAME, "inertia": [NAN, "much"]})
    along = {"selection": NAME, "truncation": SHARE, "resample_probability": PROBABILITY}
    yield Call(s.pbt, base, start | along | {"perturbation": POSITIVE, "frozen": [("nobody",)]})
    yield Call(s.pb2, base, start | along | {"frozen": [("nobody",)]})
    yield Call(s.genetic, base, start | {"select": FUNCTION, "mutate": FUNCTION})
    yield Call(s.hypergradient, base, start | {"optimizer": RECORD[1:]})
    yield Call(s.selection.tournament, {}, {"size": WHOLE})
    yield Call(s.selection.truncation, {}, {"share": SHARE})
    yield Call(s.mutation.gaussian, {"space": runs.SPACE}, {"space": SPACES, "sigma": POSITIVE})
    yield Call(s.crossover.uniform, {}, {"rate": PROBABILITY})


def _estimators() -> Iterator[Call]:
    h, problem = mh.hypergrad, runs.problem()
    base = {"problem": problem, "steps": 8}
    both = {"problem": RECORD, "steps": [-3, 2.5, NAN, "many"]}  # 0: nothing is trained
    es = {"pairs": WHOLE, "sigma": POSITIVE}
    yield Call(h.reverse, base, both | {"checkpoint": NAME})
    yield Call(h.forward, base, both | {"directions": WHOLE})
    yield Call(h.truncated, base | {"window": 2}, both | {"window": [0, -1, 2.5, "few"]})
    yield Call(h.first_order, base, both)
    yield Call(h.reptile, base, both)
    yield Call(h.one_step, base, both)
    yield Call(h.es, base | {"pairs": 2, "sigma": 0.1}, both | es)
    window = base | {"window": 2, "pairs": 2, "sigma": 0.1}
    for walker in (h.pes, h.nres):
        yield Call(walker, window, both | es | {"window": [0, 2.5, "few"], "losses": NAME})
    yield Call(h.mixture, base | {"pairs": 2, "sigma": 0.1}, both | es)
    loss = {"inner_loss": lambda hparams, task, params: jnp.sum(params**2)}
    yield Call(h.implicit, base | loss, both | {"solver": NAME})
    clip = {"estimator": h.reverse(problem, 4), "norm": 1.0}
    yield Call(h.clipped, clip, {"estimator": RECORD, "norm": POSITIVE})


def _runs() -> Iterator[Call]:
    key, problem = jax.random.key(0), runs.problem()
    strategy = mh.strategies.random(runs.SPACE, 4)
    other = mh.strategies.random({"x": mh.Float(0.0, 1.0)}, 4)
    base = {"problem": problem, "space": runs.SPACE, "strategy": strategy, "rounds": 1, "steps": 1}
    wrong = {
        "problem": RECORD,
        "space": SPACES,
        "strategy": [*RECORD, other],
        "rounds": WHOLE,
        "steps": WHOLE,
        "chunk": WHOLE,
        "estimator": RECORD[1:],
        "stop": RECORD[1:],
        "metrics": FUNCTION,
    }
    yield Call(mh.search, base | {"key": key}, wrong)
    yield Call(mh.run.search_loop, base, wrong)
    small = {
        "fn": lambda h: h["lr"],
        "space": runs.SPACE,
        "strategy": strategy,
        "rounds": 1,
        "progress": False,
    }
    yield Call(
        mh.minimize,
        small,
        {
            "fn": FUNCTION,
            "space": SPACES,
            "strategy": [*RECORD, other],
            "rounds": WHOLE,
            "workers": WHOLE,
            "on_error": NAME,
            "seed": [-1, 2.5, "one"],
            "stop": RECORD[1:],
            "state": RECORD[1:],
        },
    )
    learned = {
        "problem": problem,
        "estimator": mh.hypergrad.reverse(problem, 2),
        "hparams": {"lr": 0.1, "momentum": 0.5},
        "optimizer": optax.adam(0.1),
        "rounds": 1,
        "tasks": 2,
    }
    wrong = {
        "problem": RECORD,
        "estimator": RECORD,
        "optimizer": RECORD,
        "rounds": WHOLE,
        "tasks": WHOLE,
        "chunk": [0, 3, 2.5],
        "on_divergence": NAME,
    }
    yield Call(mh.meta_train, learned | {"key": key}, wrong)
    yield Call(mh.run.meta_loop, learned, wrong)
    drive = {"loop": mh.run.search_loop(**base), "key": key, "progress": False}
    yield Call(mh.run.drive, drive, {"loop": RECORD, "chunk": WHOLE})
    compared = runs.comparison() | {"progress": False}
    compared["methods"] = {"default": {"lr": 0.1, "momentum": 0.9}}
    yield Call(
        mh.compare,
        compared,
        {
            "problem": RECORD,
            "space": SPACES,
            "methods": [{}, {"own": 3}, {"own": other}],
            "budget": WHOLE,
            "steps": WHOLE,
            "tasks": WHOLE[:3],
            "seeds": WHOLE,
            "reference": NAME,
        },
    )


def _problems() -> Iterator[Call]:
    p = mh.problems
    problem = runs.problem()
    yield Call(p.function, {"fn": lambda h: h["x"]}, {"fn": FUNCTION})
    yield Call(
        p.bbob, {"function": 1, "dimension": 2}, {"function": [0, 25, 1.5], "dimension": WHOLE}
    )
    yield Call(
        p.quadratics, {"dimension": 4}, {"dimension": WHOLE, "mu": POSITIVE, "kappa": POSITIVE}
    )
    yield Call(p.sinusoid, {"shots": 5}, {"shots": WHOLE, "queries": WHOLE})
    shots = {"ways": 2, "shots": 1}
    yield Call(
        p.digits_few_shot,
        shots,
        {"ways": COUNT_FROM_2, "shots": WHOLE, "queries": WHOLE, "part": NAME},
    )
    yield Call(p.digits, {}, {"max_width": WHOLE, "label_smoothing": PROBABILITY})
    yield Call(
        p.averaged,
        {"problem": problem, "repeats": 2},
        {"problem": RECORD, "repeats": WHOLE, "over": NAME, "statistic": NAME},
    )
    early = {"problem": problem, "patience": 2}
    yield Call(p.early_stopping, early, {"problem": RECORD, "patience": WHOLE, "every": WHOLE})
    average = {"problem": problem, "decay": lambda h: 0.9}
    yield Call(p.weight_average, average, {"problem": RECORD, "decay": FUNCTION[:2]})
    yield Call(p.minibatch, {"size": 2}, {"size": WHOLE})
    rows = {"x": jnp.zeros((4, 2)), "y": jnp.zeros(4, int)}
    split = rows | {"train": 2, "validation": 1}
    yield Call(p.split, split, {"train": [0, 9, 2.5, "two"], "validation": [0, 9, 2.5]})
    yield Call(p.padded, {"examples": Examples(**rows), "size": 6}, {"size": [0, 3, 6.5]})
    yield Call(
        mh.Float,
        {"low": 0.1, "high": 1.0},
        {"low": [2.0, NAN, INF], "high": [0.0, NAN], "shape": [(0,), (1.5,)]},
    )
    yield Call(mh.Float, {"low": 0.1, "high": 1.0, "log": True}, {"low": [0.0, -1.0]})
    yield Call(
        mh.Int,
        {"low": 1, "high": 4},
        {"low": [1.5, 9, NAN], "high": [0, 2**40], "step": [0, 2, 1.5]},
    )
    yield Call(mh.Choice, {"values": ("a", "b")}, {"values": ["ab", (), ("a", "a"), 3]})


def _learners() -> Iterator[Call]:
    m = mh.meta
    family = mh.problems.sinusoid(shots=2)
    shots = mh.problems.digits_few_shot(2, 1)
    rate = {"family": family, "learning_rate": 0.1}
    records = {"family": RECORD}
    yield Call(m.maml, rate, records | {"learning_rate": ["fast", None]})
    yield Call(m.anil, rate, records)
    yield Call(m.cavia, rate, records | {"contexts": WHOLE})
    yield Call(m.imaml, rate | {"strength": 1.0}, records | {"strength": [-1.0, NAN, "much"]})
    yield Call(m.meta_sgd, {"family": family}, records | {"initial_rate": [NAN, "fast"]})
    plus = {"family": family, "steps": 2}
    yield Call(m.maml_plus_plus, plus, records | {"steps": WHOLE, "largest_rate": POSITIVE})
    few = {"family": shots, "ways": 2}
    yield Call(m.prototypical, few, records | {"ways": COUNT_FROM_2, "distance": NAME})
    yield Call(m.matching, few, records | {"ways": COUNT_FROM_2})
    yield Call(m.relation, few, records | {"ways": COUNT_FROM_2})
    yield Call(m.ridge_head, few, records | {"initial_l2": POSITIVE, "form": NAME})
    yield Call(m.logistic_head, few, records | {"ways": COUNT_FROM_2, "initial_l2": POSITIVE})
    yield Call(m.neural_process, {"family": family}, records | {"width": WHOLE, "depth": WHOLE})
    yield Call(m.snail, few, records | {"filters": WHOLE, "keys": WHOLE})


def _others() -> Iterator[Call]:
    environment = {
        "problem": runs.problem(),
        "space": runs.SPACE,
        "segment_steps": 2,
        "segments": 3,
    }
    yield Call(
        mh.rl.tuning_environment,
        environment,
        {"problem": RECORD, "space": SPACES, "segment_steps": WHOLE, "segments": WHOLE},
    )
    network = {
        "space": runs.SPACE,
        "default": {"lr": 0.1, "momentum": 0.5},
        "mean": jnp.zeros(3),
        "scale": jnp.ones(3),
    }
    yield Call(
        mh.transfer.network,
        network,
        {"space": SPACES, "default": [{"lr": 0.1}, {"lr": 9.0, "momentum": 0.5}]},
    )
    stop = mh.stopping
    yield Call(
        stop.when,
        {"evaluations": 5},
        {
            "evaluations": WHOLE,
            "stagnation": WHOLE,
            "tolerance": [-1.0, NAN, "tight"],
            "collapse": [-1.0, NAN],
        },
    )
    yield Call(
        mh.links.logit, {"low": 0.0, "high": 1.0}, {"low": [2.0, NAN, "low"], "high": [-1.0, NAN]}
    )
    yield Call(
        networks.conv4,
        {"outputs": 5},
        {"outputs": WHOLE, "filters": WHOLE, "pooling": NAME, "norm": NAME},
    )
    yield Call(report.interval, {"values": [1.0, 2.0]}, {"confidence": [0.0, 1.0, 1.5, NAN]})
    yield Call(
        report.save_json,
        {"path": "/dev/null", "obj": {"a": 1}},
        {"obj": [{"a": object()}, {"a": "NaN"}]},
    )
    s = mh.schedules
    yield Call(
        s.cosine_decay_schedule,
        {"init_value": 1.0, "decay_steps": 5},
        {"decay_steps": [-1, NAN, "many"]},
    )
    base = {"base": optax.sgd(0.1), "learning_rate": 0.1, "hyper_rate": 0.01}
    yield Call(mh.learned_optimizers.hypergradient_descent, base, {"rule": NAME})
    yield Call(mh.learned_optimizers.per_parameter_mlp, {}, {"hidden": WHOLE})
