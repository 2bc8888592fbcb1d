"""The benchmark of estimators is right about its problems, and the guide says what it measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from benchmarks import _estimator_problems, _estimator_tables, estimators
from benchmarks.all import topics
from benchmarks.estimators import FULL, QUICK, Sampled, quality

SUBJECTS = {subject.name: subject for subject in _estimator_problems.subjects(QUICK)}
MEASURED = _estimator_tables.measured()


def value(problem, call, metric):
    return MEASURED[problem][call][metric]["value"]


def unbiased(problem, call):
    return value(problem, call, "bias") < 3 * value(problem, call, "bias_error")


def test_bias_and_deviation_are_those_of_the_estimates():
    truth = np.array([3.0, 4.0])
    grads = np.array([[[4.0, 4.0], [6.0, 4.0]], [[3.0, 4.0], [3.0, 4.0]]])
    found = quality(Sampled(grads, {}, ()), (truth, np.zeros(2)))
    assert found["bias"] == pytest.approx(1 / 5)  # the mean is (4, 4)
    assert found["deviation"] == pytest.approx(np.sqrt((0 + 4 + 1 + 1) / 4) / 5)
    assert found["bias_error"] == pytest.approx(1 / 5)  # runs at 5 and 3 are 1 from their mean
    assert found["cosine"] == pytest.approx(28 / np.sqrt(32) / 5)
    one = quality(Sampled(grads[:1, :1], {}, ()), (truth, np.array([0.0, 0.5])))
    assert one["deviation"] == 0 and one["bias_error"] == pytest.approx(0.1)


def test_the_averaged_loss_is_the_mean_over_the_windows():
    count = mh.problems.function(lambda h: 0.0)._replace(
        init=lambda key, h, task: jnp.zeros(()),
        step=lambda key, h, task, s: s + h,
        loss=lambda key, h, task, s: s**2,
    )
    averaged = _estimator_problems.averaging(count, window=2, count=3)
    loss = jax.jit(mh.inner.outer_loss(averaged, 6))(jax.random.key(0), 0.5, None)[0]
    assert loss == pytest.approx((1**2 + 2**2 + 3**2) / 3)


def test_equal_rates_and_momenta_are_ordinary_momentum():
    rate, momentum, target = 0.3, 0.6, jnp.array([1.0, -2.0])
    hparams = {
        "log_rate": jnp.full(5, jnp.log(rate)),
        "logit_momentum": jnp.full(5, jnp.log(momentum / (1 - momentum))),
    }
    ends = []
    for optimizer in (_estimator_problems._heavy_ball(hparams), optax.sgd(rate, momentum)):
        params = jnp.zeros(2)
        state = optimizer.init(params)
        for _ in range(5):
            updates, state = optimizer.update(params - target, state, params)
            params = optax.apply_updates(params, updates)
        ends.append(params)
    np.testing.assert_allclose(*ends, rtol=1e-5)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_estimator_is_measured_or_excluded_with_a_reason(name):
    subject = SUBJECTS[name]
    calls = [entry.call for entry in subject.entries] + list(subject.excluded)
    known = set(mh.hypergrad.__all__) - {"implicit_loss", "clipped"}  # the same gradients
    assert {call.split(",")[0] for call in calls} == known
    assert all(subject.excluded.values())


@pytest.fixture(scope="module")
def rows():
    wanted = ('reverse, checkpoint="step"', "implicit, cg, inner_loss, 1 steps", "saba, 2 batches")
    subject = SUBJECTS["converged"]
    entries = tuple(entry for entry in subject.entries if entry.call in wanted)
    assert len(entries) == 3
    found = {}
    for row in estimators.measure_subject(subject._replace(entries=entries), repeats=1):
        found.setdefault(row.name.removeprefix("estimators/converged, "), {})[row.metric] = row
    return found


def test_the_topic_is_found():
    assert "estimators" in topics()


def test_every_row_of_an_estimator_is_there(rows):
    for call in set(rows) - {"training"}:
        wanted = {"run_seconds", "memory_bytes", "bias", "bias_error", "deviation", "cosine"}
        assert wanted <= set(rows[call])
        assert rows[call]["run_seconds"].baseline == rows["training"]["run_seconds"].value
        assert rows[call]["memory_bytes"].baseline == rows["training"]["memory_bytes"].value


def test_values_and_flags_are_those_of_the_estimators(rows):
    exact, early = rows['reverse, checkpoint="step"'], rows["implicit, cg, inner_loss, 1 steps"]
    assert exact["bias"].value < 1e-4 and exact["deviation"].value == 0
    assert exact["info.exploding"].value == 0
    assert early["bias"].value > 0.01 and early["info.converged"].value == 0
    assert early["info.sees.log_l2"].value == 1
    assert rows["saba, 2 batches"]["deviation"].value > 0  # it moves on with its memory


def test_the_tables_of_the_guide_are_the_committed_rows():
    page = _estimator_tables.PAGE.read_text()
    assert page == _estimator_tables.render(page), "run `python -m benchmarks._estimator_tables`"
    for subject in _estimator_problems.subjects(FULL):
        calls = {"training"} | {entry.call for entry in subject.entries}
        assert calls == set(MEASURED[subject.name]), "measure again"


def test_what_the_guide_says_of_convergence_was_measured():
    for call in (
        'reverse, checkpoint="sqrt"',
        "forward",
        "implicit, cg, inner_loss",
        "implicit, gmres",
    ):
        assert value("converged", call, "bias") < 1e-4
    for call in ("implicit, cg, inner_loss, 4 steps", "implicit, nystrom, inner_loss"):
        assert value("converged", call, "bias") > 0.1
        assert value("converged", call, "info.converged") == 0
    assert (
        value("converged", "one_step", "cosine") > 0.95 > 2 * value("converged", "one_step", "bias")
    )
    assert value("converged", "es, 16 pairs", "deviation") > 1 and unbiased(
        "converged", "es, 16 pairs"
    )
    for call in ("soba, 8 batches", "saba, 8 batches"):
        assert MEASURED["converged"][call]["run_seconds"]["ratio"] < 1
    noise = value("converged", "soba, 8 batches", "deviation")
    assert value("converged", "saba, 8 batches", "deviation") < 1e-3 * noise


def test_what_the_guide_says_of_schedules_was_measured():
    def ratio(call, metric):
        return MEASURED["schedule"][call][metric]["ratio"]

    step, root = 'reverse, checkpoint="step"', 'reverse, checkpoint="sqrt"'
    assert ratio(step, "run_seconds") < ratio(root, "run_seconds") < ratio("forward", "run_seconds")
    assert ratio(step, "memory_bytes") > ratio(root, "memory_bytes")
    assert value("schedule", "implicit, gmres", "info.converged") == 0
    for call in ("truncated, window=10", "one_step"):
        assert value("schedule", call, "bias") > 0.9
        assert value("schedule", call, "info.exploding") == 0
    assert value("schedule", "reptile", "info.sees.log_rate") == 0


def test_what_the_guide_says_of_instability_was_measured():
    for mode in ("none", "step", "sqrt"):
        assert value("unstable", f'reverse, checkpoint="{mode}"', "bias") > 1e8
        assert value("unstable", f'reverse, checkpoint="{mode}"', "info.exploding") == 1
    online = "16 pairs, window=10"
    for call in ("es, 16 pairs", "mixture, 16 pairs", f"pes, {online}", f"nres, {online}"):
        assert unbiased("unstable", call)
    deviations = [value("unstable", f"{name}, {online}", "deviation") for name in ("nres", "pes")]
    assert deviations == sorted(deviations)
    assert 0 < value("unstable", "truncated, window=10, burn_in=False", "info.exploding") < 0.5
    weights = [v for k, v in MEASURED["unstable"]["mixture, 16 pairs"].items() if "es_weight" in k]
    assert len(weights) == 3 and all(row["value"] > 0.999 for row in weights)
    es = MEASURED["unstable"]["es, 16 pairs"]
    assert es["info.standard_error"]["value"] == pytest.approx(es["deviation"]["value"], rel=0.1)


@pytest.mark.parametrize(
    ("shown", "number"),
    [
        ("0", 0.0),
        ("0.014", 0.0143),
        ("1.4", 1.42),
        ("5e-7", 5.1e-7),
        ("2400", 2413.7),
        ("7e8", 7.2e8),
    ],
)
def test_numbers_have_two_digits_or_one(shown, number):
    assert _estimator_tables.number(number) == shown


def test_a_warning_is_shown_once_an_estimate_can_be_believed():
    unseen = {"info.sees.rate": 0.0, "info.stationarity": 0.1, "info.residual": 1e-6}
    assert "rate" in _estimator_tables.said(unseen | {"info.converged": 1.0})
    assert "rate" not in _estimator_tables.said(unseen | {"info.converged": 0.0})
    assert _estimator_tables.said({"info.finite": 1.0, "cosine": -0.5}) == "nothing"
