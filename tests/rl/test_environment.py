import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

DOWN, STAY, UP = 0, 1, 2
START = {"rate": 0.1, "start": 2.0}


def play(environment, actions, task=1.0, key=0):
    """The states after each action, and the rewards."""
    step = jax.jit(environment.step)
    state, states, rewards = jax.jit(environment.reset)(jax.random.key(key), task), [], []
    for action in actions:
        state, transition = step(jax.random.key(99), state, jnp.array(action))
        states.append(state)
        rewards.append(float(transition.reward))
    return states, rewards


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("first", [[STAY, STAY], [UP, DOWN]])
def test_staying_after_the_first_move_is_one_straight_training(descent, space, first, x64):
    with jax.enable_x64(x64):
        environment = mh.rl.tuning_environment(descent, space, 4, segments=3, hparams=START)
        states, _ = play(environment, [first, [STAY, STAY], [STAY, STAY]], task=0.7)
        unit = mh.space.encode(space, START) + 0.1 * (jnp.array(first) - 1)
        train = jax.jit(mh.inner.unroll(descent, steps=12))
        expected = train(jax.random.key(0), mh.space.decode(space, unit), 0.7)
        assert states[-1].training.state.dtype == jnp.result_type(float)
        np.testing.assert_allclose(states[-1].training.state, expected, rtol=1e-12 if x64 else 1e-5)
        np.testing.assert_allclose(states[-1].loss, 0.7 * expected**2, rtol=1e-12 if x64 else 1e-5)


def test_later_moves_change_the_running_training(descent, space):
    environment = mh.rl.tuning_environment(descent, space, 4, segments=2, hparams=START)
    (first, second), _ = play(environment, [[STAY, STAY], [UP, STAY]])
    raised = {"rate": jnp.float32(0.1 * 10**0.4), "start": 2.0}  # a tenth of four decades
    expected = mh.inner.advance(descent, 4)(raised, first.training)
    np.testing.assert_allclose(second.training.state, expected.state, rtol=1e-5)
    assert first.training.steps == 4 and second.training.steps == expected.steps == 8


@pytest.mark.parametrize("log", [False, True])
def test_rewards_sum_to_the_decrease_of_the_loss(descent, space, log):
    environment = mh.rl.tuning_environment(
        descent, space, 2, segments=4, hparams=START, log_reward=log
    )
    states, rewards = play(environment, [[UP, STAY], [STAY, UP], [DOWN, DOWN], [UP, UP]])
    before, after = states[-1].initial, states[-1].loss
    expected = jnp.log(before / after) if log else before - after
    assert abs(expected) > 0.1
    assert sum(rewards) == pytest.approx(float(expected), rel=1e-4)


def test_initial_loss_is_that_of_the_untrained_start(descent, space):
    environment = mh.rl.tuning_environment(descent, space, 1, segments=2, hparams=START)
    state = environment.reset(jax.random.key(0), 0.7)
    untrained = descent.init(mh.inner.keys(jax.random.key(0)).init, START, 0.7)
    assert float(state.loss) == pytest.approx(float(0.7 * untrained**2))


@pytest.mark.parametrize("log", [False, True])
def test_diverged_training_costs_a_finite_penalty_and_is_counted(descent, space, log):
    wild = {"rate": 10.0, "start": 2.0}
    environment = mh.rl.tuning_environment(
        descent, space, 40, segments=3, hparams=wild, penalty=2.0, log_reward=log
    )
    states, rewards = play(environment, [[STAY, STAY]] * 3)
    assert not jnp.isfinite(states[-1].loss)
    assert int(states[-1].diverged) == 3
    initial = float(states[-1].initial)
    expected = -np.log(3.0) if log else -2.0 * initial
    np.testing.assert_allclose(rewards, [expected, 0.0, 0.0], rtol=1e-5)
    assert jnp.isfinite(environment.observe(states[-1])).all()


def test_a_finite_loss_is_not_worse_than_a_diverged_one(descent, space):
    # Two steps at rate 10 multiply x by (1 - 20)^2: finite, and far above the cap.
    wild = {"rate": 10.0, "start": 2.0}
    environment = mh.rl.tuning_environment(descent, space, 2, segments=1, hparams=wild)
    (state,), rewards = play(environment, [[STAY, STAY]])
    assert jnp.isfinite(state.loss) and state.loss > 1e4 and int(state.diverged) == 0
    assert rewards[0] == pytest.approx(-float(state.initial))


def test_moves_stay_in_the_cube_and_leave_out_what_is_not_adjusted(descent, space):
    environment = mh.rl.tuning_environment(
        descent, space, 1, segments=9, hparams=START, adjust=["start"], moves=(-0.4, 0.0, 0.4)
    )
    with pytest.deprecated_call():
        assert (environment.decisions, environment.choices) == (1, 3)
    assert environment.action_space == mh.Choice((-0.4, 0.0, 0.4), shape=(1,))
    states, _ = play(environment, [[UP], [UP], [DOWN], [DOWN], [DOWN]])
    np.testing.assert_allclose([s.unit[1] for s in states], [0.9, 1.0, 0.6, 0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose([s.unit[0] for s in states], 0.5, atol=1e-6)


def test_a_move_that_is_a_number_goes_as_far_and_not_beyond_its_bounds(descent, space):
    continuous, discrete = (
        mh.rl.tuning_environment(descent, space, 4, segments=2, hparams=START, moves=moves)
        for moves in (mh.Float(-0.2, 0.1), (-0.2, 0.05, 0.1))
    )
    assert continuous.action_space == mh.Float(-0.2, 0.1, shape=(2,))
    numbers, _ = play(continuous, [[0.05, 0.7], [-0.2, 0.05]])
    choices, _ = play(discrete, [[1, 2], [0, 1]])
    np.testing.assert_allclose(numbers[-1].unit, choices[-1].unit, rtol=1e-6)
    np.testing.assert_allclose(numbers[-1].loss, choices[-1].loss, rtol=1e-4)
    # Of the rate, which has four decades, a move is the logarithm of a factor.
    rates = [mh.space.decode(space, state.unit)["rate"] for state in numbers]
    assert float(rates[1] / rates[0]) == pytest.approx(10 ** (4 * -0.2), rel=1e-4)


def test_the_last_segment_terminates_an_episode_and_nothing_truncates_it(descent, space):
    environment = mh.rl.tuning_environment(descent, space, 1, segments=3, hparams=START)
    state = environment.reset(jax.random.key(0), 1.0)
    ends = []
    for _ in range(4):
        state, transition = environment.step(jax.random.key(0), state, jnp.array([STAY, STAY]))
        ends.append((bool(transition.terminated), bool(transition.truncated)))
    assert ends == [(False, False), (False, False), (True, False), (True, False)]
    mh.space.check(environment.observation_space, environment.observe(state))


def test_observation_tells_hyperparameters_losses_time_and_task(descent, space):
    environment = mh.rl.tuning_environment(
        descent, space, 2, segments=4, hparams=START, mean=jnp.array([0.1]), scale=jnp.array([0.2])
    )
    states, _ = play(environment, [[UP, DOWN], [STAY, STAY]], task=1.2)
    first, state = states
    logs = [np.log(float(x)) for x in (state.initial, first.loss, state.loss)]
    losses = np.array([logs[0], logs[2] - logs[0], 10.0 * (logs[2] - logs[1])])
    expected = [
        *(2.0 * np.array([0.6, 0.4]) - 1.0),
        *(losses / (1.0 + np.abs(losses))),
        2.0 * 2 / 4 - 1.0,
        (np.log(1.2) - 0.1) / 0.2,
    ]
    observed = environment.observe(state)
    np.testing.assert_allclose(observed, expected, rtol=1e-3, atol=1e-6)
    with pytest.deprecated_call():
        assert observed.shape == (environment.observations,)
    mh.space.check(environment.observation_space, observed)


def test_environment_can_be_jitted_and_vmapped_over_tasks(descent, space):
    environment = mh.rl.tuning_environment(descent, space, 3, segments=2, hparams=START)

    def episode(key, task):
        state = environment.reset(key, task)
        return environment.step(key, state, jnp.array([UP, DOWN]))[1].reward

    tasks = jnp.array([0.5, 1.0, 2.0])
    together = jax.jit(jax.vmap(episode, (None, 0)))(jax.random.key(0), tasks)
    alone = [play(environment, [[UP, DOWN]], task=task)[1][0] for task in tasks]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_steps": 0}, "segment_steps.*got 0"),
        ({"segments": 0}, "segments.*got 0"),
        ({"adjust": ["momentum"]}, "adjust must name.*momentum"),
        ({"adjust": []}, "adjust must name"),
        ({"adjust": ["rate", "rate"]}, "adjust must name different"),
        ({"moves": ()}, "moves must be finite"),
        ({"moves": (0.0, float("nan"))}, "moves must be finite"),
        ({"moves": (0.1, 0.1)}, "must differ.*0.1"),
        ({"moves": mh.Float(0.1, 1.0, log=True)}, "moves must be a plain Float.*log=True"),
        ({"penalty": 0.0}, "penalty must be positive.*0.0"),
        ({"hparams": {"rate": 0.1}}, "do not match the space"),
    ],
)
def test_bad_arguments_are_refused(descent, space, change, message):
    arguments = {"segment_steps": 1, "segments": 2} | change
    with pytest.raises(ValueError, match=message):
        mh.rl.tuning_environment(descent, space, **arguments)
