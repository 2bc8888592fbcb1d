import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

GOAL, LIMIT = 3, 5


def corridor(goal=GOAL, limit=LIMIT, **change):
    """Places 0 ... goal, right or left; the task is the place to begin at."""

    def step(key, state, action):
        place, time = state
        place = jnp.clip(place + 2 * action - 1, 0, goal)
        arrived = place == goal
        late = (time + 1 >= limit) & ~arrived
        return (place, time + 1), mh.rl.Transition(-1.0 - place, arrived, late)

    environment = mh.rl.Environment(
        reset=lambda key, task: (task, jnp.int32(0)),
        step=step,
        observe=lambda state: state[0],
        action_space=mh.Choice(("left", "right")),
        observation_space=mh.Choice(range(goal + 1)),
        sample=lambda key: jax.random.randint(key, (), 0, 2),
    )
    return environment._replace(**change)


def right(key, observation):
    return jnp.int32(1)


def shuffle(key, observation):
    return jax.random.randint(key, (), 0, 2)


def test_a_rollout_keeps_the_last_observation_and_begins_anew():
    run = jax.jit(lambda key: mh.rl.rollout(key, corridor(), right, 7, task=jnp.int32(0)))
    state, seen = run(jax.random.key(0))
    assert seen.observation.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert seen.next_observation.tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert seen.terminated.tolist() == [False, False, True] * 2 + [False]
    assert not seen.truncated.any() and (int(state[0]), int(state[1])) == (1, 1)
    np.testing.assert_array_equal(seen.reward, [-2, -3, -4, -2, -3, -4, -2])


def test_a_limit_truncates_and_does_not_terminate():
    left = lambda key, observation: jnp.int32(0)  # noqa: E731
    _, seen = mh.rl.rollout(jax.random.key(0), corridor(), left, 11)
    assert np.flatnonzero(seen.truncated).tolist() == [4, 9] and not seen.terminated.any()


def test_a_rollout_in_parts_is_the_whole_and_a_lane_of_many_is_it_alone():
    @jax.jit
    def whole(key):
        return mh.rl.rollout(key, corridor(), shuffle, 40)

    @jax.jit
    def parts(key):
        state, first = mh.rl.rollout(key, corridor(), shuffle, 13)
        state, second = mh.rl.rollout(key, corridor(), shuffle, 27, state=state, start=13)
        return state, jax.tree.map(lambda *both: jnp.concatenate(both), first, second)

    keys = jax.random.split(jax.random.key(0), 5)
    lanes = jax.vmap(whole)(keys)
    for i, key in enumerate(keys):
        alone = whole(key)
        jax.tree.map(np.testing.assert_array_equal, alone, parts(key))
        jax.tree.map(np.testing.assert_array_equal, alone, jax.tree.map(lambda x, i=i: x[i], lanes))
    starts = {int(o) for t in lanes[1].observation for o in t[:1]}
    assert starts == {0, 1}  # each episode draws a task


def test_lanes_reset_only_in_steps_in_which_an_episode_ends():
    def run(key):
        return mh.rl.rollout(key, corridor(), right, 6)

    # Under vmap a condition of each lane would leave a select, and resets in every step.
    program = str(jax.make_jaxpr(jax.vmap(run))(jax.random.split(jax.random.key(0), 4)))
    assert "cond[" in program


def test_an_episode_stays_where_it_ended():
    run = jax.jit(lambda key: mh.rl.episode(key, corridor(), right, 6, (jnp.int32(1), 0)))
    state, seen = run(jax.random.key(0))
    assert (int(state[0]), int(state[1])) == (3, 2)
    assert mh.rl.first_episode(seen).tolist() == [True, True] + [False] * 4
    assert seen.reward.tolist() == [-3, -4, 0, 0, 0, 0]
    assert seen.next_observation.tolist() == [2, 3, 3, 3, 3, 3]
    assert seen.terminated.tolist() == [False] + [True] * 5


def test_reinforce_credits_nothing_after_an_episodes_end():
    # From place 2 a step to the right ends; one to the left goes on for one more at most.
    environment = corridor(sample=lambda key: jnp.int32(2))
    policy = mh.rl.softmax_policy(environment, hidden=())
    estimator = mh.rl.reinforce(environment, policy, steps=2, rollouts=4000)
    weights = jax.tree.map(jnp.zeros_like, policy.init(jax.random.key(0)))
    estimate, _ = jax.jit(estimator.estimate)(jax.random.key(1), weights, jnp.int32(2), ())
    # Right: -4.  Left: -2, and then -1 - 2 (right) or -1 - 0 (left): -4 on average.
    right_now, left_then = -4.0, (-2.0 - 3.0, -2.0 - 1.0)
    expected = 0.5 * right_now + 0.25 * sum(left_then)
    error = float(estimate.info["standard_error"])
    assert abs(float(estimate.loss) + expected) < 3 * error
    assert float(estimate.info["entropy"]) == pytest.approx(np.log(2), rel=1e-3)
    bias = jax.tree.leaves(estimate.grad)
    # d return / d logit of "left", of both decisions: 1/4 (q_left - q_right) each.
    slope = 0.25 * (np.mean(left_then) - right_now) + 0.5 * 0.25 * (left_then[1] - left_then[0])
    found = next(np.asarray(leaf) for leaf in bias if leaf.shape == (2,))
    np.testing.assert_allclose(found, [-slope, slope], atol=0.06)


def test_the_softmax_policy_decides_a_dict_of_choices_from_a_dict_of_observations():
    environment = corridor(
        action_space={"go": mh.Choice((0, 1)), "say": mh.Choice(["a", "b", "c"], shape=(2,))},
        observation_space={"place": mh.Choice(range(4)), "wind": mh.Float(-1, 1, shape=(2,))},
    )
    policy = mh.rl.softmax_policy(environment)
    assert mh.rl.flat_size(environment.observation_space) == 6
    seen = {"place": jnp.int32(3), "wind": jnp.array([0.5, -0.5])}
    weights = jax.tree.map(lambda w: 9.0 * w + 0.3, policy.init(jax.random.key(0)))
    action = policy.sample(jax.random.key(1), weights, seen)
    mh.space.check(environment.action_space, action)
    every = [
        {"go": jnp.int32(i), "say": jnp.array([j, k])}
        for i in range(2)
        for j in range(3)
        for k in range(3)
    ]
    stacked = jax.tree.map(lambda *ones: jnp.stack(ones), *every)
    logs = jax.jit(jax.vmap(policy.log_prob, (None, None, 0)))(weights, seen, stacked)
    assert float(jnp.exp(logs).sum()) == pytest.approx(1, abs=1e-5)
    best = every[int(logs.argmax())]
    jax.tree.map(np.testing.assert_array_equal, policy.mode(weights, seen), best)


def longer(key, state, action):
    return (state[0], jnp.zeros(2)), mh.rl.Transition(0.0, False, False)


def many(key, state, action):
    return state, mh.rl.Transition(jnp.zeros(3), False, False)


def other_type(key, state, action):
    return (state[0] + 0.5, state[1]), mh.rl.Transition(0.0, False, False)


@pytest.mark.parametrize(
    ("change", "policy", "steps", "message"),
    [
        ({}, right, 0, "steps must be a whole number of at least 1, got 0"),
        ({}, lambda key, seen: jnp.ones(2, int), 3, r"action must have shape \(\), got \(2,\)"),
        ({}, lambda key, seen: jnp.ones(()), 3, "action must be of type integer, got float32"),
        ({}, lambda key, seen: {"go": 1}, 3, "action must have the structure"),
        ({"observe": lambda state: jnp.zeros(4)}, right, 3, r"observation must have shape \(\)"),
        ({"step": longer}, right, 3, r"step must keep shapes, got \(2,\) for \(\) at \[1\]"),
        ({"step": many}, right, 3, r"reward of a step must be a scalar, got \(3,\)"),
        ({"step": other_type}, right, 3, "types of its state, got float32 for int32"),
        ({"step": lambda *args: (args[1], 0.0)}, right, 3, "must be a Transition"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, policy, steps, message):
    environment = corridor(**change)
    with pytest.raises(ValueError, match=message):
        mh.rl.rollout(jax.random.key(0), environment, policy, steps, task=jnp.int32(0))
    with pytest.raises(ValueError, match=message):
        start = environment.reset(None, jnp.int32(0))
        mh.rl.episode(jax.random.key(0), environment, policy, steps, start)


def test_a_softmax_is_no_policy_for_numbers():
    environment = corridor(action_space=mh.Float(-1.0, 1.0))
    with pytest.raises(ValueError, match="decides between choices, got an action of Float"):
        mh.rl.softmax_policy(environment)
