"""A2C and PPO against full enumeration, hand computation and each other; the Gaussian policy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm
from test_reinforce import STEPS, WEIGHTS, all_episodes, exact, table_policy, two_states

import metahpo as mh
from metahpo.rl.agents.actor_critic import Batch
from metahpo.rl.agents.ppo import clipped_gain

rl = mh.rl
CRITIC = np.array([0.7, -1.3])


def actor():
    """The logits and the critic's values of the two states are the weights."""
    plain = table_policy()

    def on_policy(fn):
        return lambda weights, *what: fn(weights["policy"], *what)

    def entropy(weights, observation):
        p = jax.nn.softmax(observation @ weights["policy"])
        return -(p * jnp.log(p)).sum()

    return rl.Policy(
        lambda key: {"policy": jnp.asarray(WEIGHTS), "value": jnp.asarray(CRITIC)},
        lambda key, weights, observation: plain.sample(key, weights["policy"], observation),
        on_policy(plain.log_prob),
        on_policy(plain.mode),
        entropy,
        lambda weights, observation: observation @ weights["value"],
    )


def states_of(episode):
    """Which states the episode went through, the last one included."""
    at = [int(np.abs(score[1]).sum() > 0) for score in episode.scores]
    return at


def entropy_slope(state):
    p = np.exp(WEIGHTS[state]) / np.exp(WEIGHTS[state]).sum()
    slope = np.zeros((2, 2))
    slope[state] = -p * (np.log(p) - (p * np.log(p)).sum())
    return slope


@pytest.mark.slow
def test_the_policy_gradients_are_the_exact_ones_within_three_standard_errors():
    """The critic is no part of the objective, but of what comes after the last step."""
    with jax.enable_x64(True):
        # No value of the last state: its observation is zero.
        environment = two_states()._replace()
        last = rl.Environment(
            reset=lambda key, task: (jnp.zeros((), jnp.int32), jnp.int32(0)),
            step=lambda key, state, action: _limited(environment, key, state, action),
            observe=lambda state: environment.observe(state[0]),
            action_space=environment.action_space,
            observation_space=environment.observation_space,
        )
        policy = actor()
        weights = policy.init(None)
        bonus = 0.3
        agents = {
            "a2c": rl.a2c(last, policy, STEPS, discount=1.0, decay=1.0, entropy=bonus),
            "ppo": rl.ppo(
                last, policy, STEPS, epochs=1, minibatches=1, discount=1.0, decay=1.0,
                entropy=bonus,
            ),
        }  # fmt: skip
        without_value = rl.reinforce(
            last, policy._replace(value=None), STEPS, rollouts=2, entropy=bonus
        )

        def one(key):
            grads = {}
            for name, agent in agents.items():
                memory = agent.init(key, weights, None)
                grads[name] = agent.estimate(key, weights, None, memory)[0].grad["policy"] * STEPS
            estimate, _ = without_value.estimate(key, weights, None, ())
            return grads | {"reinforce": estimate.grad["policy"]}

        samples = jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, 20_000)))(
            jax.random.key(0)
        )

    def loss_slope(episode):
        slope = -episode.scores.sum(axis=0) * episode.rewards.sum()
        return slope - bonus * sum(entropy_slope(state) for state in states_of(episode))

    expected = exact(loss_slope)
    assert sum(e.probability for e in all_episodes()) == pytest.approx(1.0)
    for name, found in samples.items():
        found = np.array(found)
        error = found.std(axis=0, ddof=1) / len(found) ** 0.5
        assert (np.abs(found.mean(axis=0) - expected) < 3.0 * error).all(), name
        assert (error < 0.1 * np.abs(expected)).all(), name


def _limited(environment, key, state, action):
    inner, time = state
    new, transition = environment.step(key, inner, action)
    return (new, time + 1), transition._replace(terminated=time + 1 >= STEPS)


@pytest.fixture(scope="module")
def estimates():
    """The first estimates of both agents, and PPO's stretch."""
    with jax.enable_x64(True):
        policy = actor()
        weights = policy.init(None)

        @jax.jit
        def both(key):
            found = {}
            options = {"discount": 0.9, "decay": 0.8, "critic_decay": 0.3, "entropy": 0.01}
            options["critic"] = 0.7
            for name, agent in {
                "a2c": rl.a2c(two_states(), policy, 8, **options),
                "ppo": rl.ppo(two_states(), policy, 8, epochs=1, minibatches=1, **options),
            }.items():
                memory = agent.init(key, weights, None)
                found[name] = agent.estimate(key, weights, None, memory)
            # The keys and the start are those of PPO's stretch.
            play_key, _ = jax.random.split(key)
            found["stretch"] = rl.rollout(
                play_key,
                two_states(),
                lambda key, observation: policy.sample(key, weights, observation),
                8,
                state=jnp.int32(0),
            )[1]
            return found

        return policy, weights, jax.device_get(both(jax.random.key(0)))


def test_at_ratio_one_ppo_has_the_gradient_of_a2c(estimates):
    policy, weights, found = estimates
    estimate, memory = found["ppo"]
    batch = memory.batch

    def by_hand(weights):
        gain, error, spread = 0.0, 0.0, 0.0
        for t in range(8):
            seen = jnp.asarray(batch.observation[t])
            gain += policy.log_prob(weights, seen, batch.action[t]) * batch.advantage[t] / 8
            error += 0.5 * (policy.value(weights, seen) - batch.value[t]) ** 2 / 8
            spread += policy.entropy(weights, seen) / 8
        return 0.7 * error - gain - 0.01 * spread

    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(by_hand))(weights)
        assert float(estimate.info["clipped"]) == 0
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), estimate.grad, slope
        )


def test_advantages_and_what_the_critic_learns_have_each_their_decay(estimates):
    _, _, found = estimates
    batch, stretch = found["ppo"][1].batch, found["stretch"]
    value, after = batch.observation @ CRITIC, stretch.next_observation @ CRITIC
    errors = stretch.reward + 0.9 * after - value
    for decay, sums in ((0.8, batch.advantage), (0.3, batch.value - value)):
        by_hand = [
            sum((0.9 * decay) ** (later - t) * errors[later] for later in range(t, 8))
            for t in range(8)
        ]
        np.testing.assert_allclose(sums, by_hand, atol=1e-12)
    assert int(found["a2c"][1].score.steps) == 8
    assert float(found["ppo"][1].score.running) == pytest.approx(stretch.reward.sum())


def test_a_ratio_that_went_far_enough_gains_nothing_more():
    policy = actor()
    observation = jnp.eye(2)[jnp.array([0, 0, 1, 1])]
    batch = Batch(
        observation,
        jnp.zeros((4, 1), jnp.int32),
        jnp.log(jnp.array([0.5, 0.5, 0.5, 0.5])),
        jnp.array([1.0, -1.0, 2.0, -3.0]),
        jnp.zeros(4),
    )
    # Probabilities of action 0: 0.65 (ratio 1.3) in state 0 and 0.35 (ratio 0.7) in state 1.
    logits = np.log(np.array([[0.65, 0.35], [0.35, 0.65]]))
    weights = {"policy": jnp.asarray(logits), "value": jnp.zeros(2)}
    gain = jax.jit(lambda w: clipped_gain(policy, w, batch, 0.2))
    value, clipped = gain(weights)
    by_hand = [min(1.3, 1.2), -max(1.3, 1.2), 2 * min(0.7, 0.8), -3 * max(0.7, 0.8)]
    assert float(value) == pytest.approx(np.mean(by_hand), abs=1e-6) and float(clipped) == 1
    slope = jax.grad(lambda w: gain(w)[0])(weights)["policy"]
    # Only the second and the third still pull; d ratio / d logit = ratio (1 - p).
    expected = [-1.3 * 0.35 / 4, 2 * 0.7 * 0.65 / 4]
    np.testing.assert_allclose(slope[:, 0], expected, atol=1e-6)


def test_the_tasks_of_ppo_keep_step_and_a_stretch_serves_all_its_updates():
    lake = rl.frozen_lake().environment
    policy = rl.with_value(rl.softmax_policy(lake, ()), lake, ())
    nothing = mh.problems.function(lambda weights: 0.0)

    def learn(key, clip, rate):
        agent = rl.ppo(lake, policy, 8, epochs=3, minibatches=2, clip=clip, entropy=rate)
        start, run = jax.random.split(key)
        return mh.meta_train(
            run, nothing, agent, policy.init(start), optax.adam(rate), rounds=7, tasks=3
        )

    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([0.01, 0.02])
    clips = jnp.array([0.1, 0.2])
    both = jax.jit(jax.vmap(learn))(keys, clips, rates)
    memory = both.state.memory
    assert memory.score.steps.tolist() == [[16] * 3] * 2  # the second begins in round 7
    assert memory.updates.tolist() == [[7] * 3] * 2
    for i in range(2):
        one = learn_alone(learn, keys[i], clips[i], rates[i])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-6),
            one.hparams,
            both.hparams,
        )
    assert int(both.skipped.sum()) == 0


def learn_alone(learn, *what):
    return jax.jit(learn)(*what)


def continuous():
    """The nearer the action is to 2, on the logarithmic scale, the better."""
    target = jnp.log(2.0)

    def step(key, state, action):
        reward = -((jnp.log(action["rate"]) - target) ** 2) - (action["move"] ** 2).sum()
        return state, rl.Transition(reward, jnp.array(True), jnp.array(False))

    return rl.Environment(
        reset=lambda key, task: jnp.int32(0),
        step=step,
        observe=lambda state: jnp.zeros(1),
        action_space={"rate": mh.Float(0.1, 10.0, log=True), "move": mh.Float(-1, 3, shape=(2,))},
        observation_space=mh.Float(0.0, 1.0, shape=(1,)),
    )


def test_the_gaussian_policy_is_a_truncated_normal_on_the_cube():
    environment = continuous()
    policy = rl.gaussian_policy(environment, (), scale=0.4)
    weights = policy.init(jax.random.key(0))
    weights["mean"]["params"]["Dense_0"]["bias"] = jnp.array([-1.0, 0.0, 2.0])
    seen = jnp.zeros(1)
    keys = jax.random.split(jax.random.key(1), 40_000)
    actions, logs = jax.jit(
        lambda keys: jax.vmap(
            lambda key: (
                (action := policy.sample(key, weights, seen)),
                policy.log_prob(weights, seen, action),
            )
        )(keys)
    )(keys)
    assert actions["move"].shape == (40_000, 2)
    assert float(actions["rate"].min()) >= 0.1 and float(actions["rate"].max()) <= 10
    assert float(actions["move"].min()) >= -1 and float(actions["move"].max()) <= 3
    # Entropy is minus the mean log probability.
    error = float(logs.std()) / 200
    assert abs(float(policy.entropy(weights, seen)) + float(logs.mean())) < 3 * error
    # In one dimension the density sums to 1, on a fine grid of the cube.
    low, high = -0.5 / 0.4, 0.5 / 0.4
    unit = np.linspace(0, 1, 4001)
    density = norm.pdf((unit - 0.5) / 0.4) / 0.4 / (norm.cdf(high) - norm.cdf(low))
    assert float(np.trapezoid(density, unit)) == pytest.approx(1, abs=1e-4)
    space = {"move": environment.action_space["move"], "rate": environment.action_space["rate"]}
    points = np.array(jax.vmap(lambda a: mh.space.encode(space, a))(actions))
    expected = [0.5, float(np.trapezoid(_density(2.0) * unit, unit))]
    middle = [points[:, 1].mean(), points[:, 2].mean()]
    mean_of_first = float(np.trapezoid(_density(-1.0) * unit, unit))
    np.testing.assert_allclose(
        [points[:, 0].mean(), *middle], [mean_of_first, *expected], atol=5e-3
    )
    mode = policy.mode(weights, seen)
    np.testing.assert_allclose(
        mh.space.encode(space, mode), jax.nn.sigmoid(jnp.array([-1.0, 0.0, 2.0])), atol=1e-6
    )


def _density(logit):
    unit, mean = np.linspace(0, 1, 4001), 1 / (1 + np.exp(-logit))
    mass = norm.cdf((1 - mean) / 0.4) - norm.cdf(-mean / 0.4)
    return np.array(norm.pdf((unit - mean) / 0.4) / 0.4 / mass)


def test_ppo_learns_continuous_actions():
    environment = continuous()
    policy = rl.with_value(rl.gaussian_policy(environment, ()), environment, ())
    agent = rl.ppo(environment, policy, 32, epochs=4, minibatches=2)
    nothing = mh.problems.function(lambda weights: 0.0)
    start = policy.init(jax.random.key(0))
    result = mh.meta_train(
        jax.random.key(1), nothing, agent, start, optax.adam(0.03), rounds=800, tasks=1
    )
    action = policy.mode(result.hparams, jnp.zeros(1))
    assert float(action["rate"]) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(action["move"], 0, atol=0.15)


LAKE = rl.frozen_lake().environment
WITHOUT = rl.softmax_policy(LAKE, ())
WITH = rl.with_value(WITHOUT, LAKE, ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.a2c(LAKE, WITHOUT, 4), "a2c needs a policy with a value"),
        (lambda: rl.ppo(LAKE, WITHOUT, 4), "ppo needs a policy with a value"),
        (lambda: rl.a2c(LAKE, WITH, 0), "steps.*got 0"),
        (lambda: rl.ppo(LAKE, WITH, 6), "steps must be a multiple of minibatches=4, got 6"),
        (lambda: rl.ppo(LAKE, WITH, 4, discount=1.5), r"discount must be in \[0, 1\], got 1.5"),
        (lambda: rl.a2c(LAKE, WITH, 4, decay=-0.5), r"decay must be in \[0, 1\], got -0.5"),
        (lambda: rl.ppo(LAKE, WITH, 4, clip=0.0), "clip must be positive, got 0.0"),
        (lambda: rl.a2c(LAKE, WITH, 4, entropy=-1.0), "entropy must be finite and at least 0"),
        (
            lambda: rl.a2c(LAKE, WITH._replace(entropy=None), 4, entropy=0.1),
            "an entropy bonus needs a policy with an entropy",
        ),
        (lambda: rl.gaussian_policy(LAKE), "plain Floats, got an action of Choice"),
        (lambda: rl.gaussian_policy(continuous(), scale=0.0), "scale must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
