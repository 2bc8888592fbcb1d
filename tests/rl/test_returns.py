import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

rl = mh.rl


def record(reward, terminated=(), truncated=()):
    """Steps that end where the numbers say."""
    places = np.arange(len(reward))
    flags = (jnp.asarray(np.isin(places, list(ends))) for ends in (terminated, truncated))
    return rl.Transition(jnp.asarray(reward, float), *flags)


# Three episodes: one terminates, one is truncated, the last breaks off.
STEPS = record([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], terminated=[1], truncated=[4])
NEXT = jnp.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0])
VALUE = jnp.array(
    [5.0, 10.0, 8.0, 30.0, 40.0, 9.0, 60.0]
)  # as of what was seen before, but for the starts


def test_td_errors_are_those_of_the_definition():
    cases = list(itertools.product((0.0, 0.5, 1.0), (0.0, 1.0, 2.0)))
    errors = [
        float(rl.td_errors(record([-1.0]), jnp.ones(1), jnp.array([v]), g)[0]) for g, v in cases
    ]
    assert errors == [-2, -2, -2, -2, -1.5, -1, -2, -1, 0]


def test_returns_end_at_a_termination_and_go_on_from_the_value_at_a_truncation():
    found = rl.discounted_returns(STEPS, NEXT, 0.5)
    # 2; 1 + 2/2 | 5 + 50/2; 4 + 30/2; 3 + 19/2 | 7 + 70/2; 6 + 42/2
    np.testing.assert_allclose(found, [2, 2, 12.5, 19, 30, 27, 42])


def test_n_step_returns_look_so_far_and_no_further():
    one = [1 + 5, 2, 3 + 15, 4 + 20, 5 + 25, 6 + 30, 7 + 35]
    two = [1 + 1, 2, 3 + 12, 4 + 15, 30, 6 + 21, 42]
    for n, expected in ((1, one), (2, two)):
        np.testing.assert_allclose(rl.n_step_returns(STEPS, NEXT, 0.5, n), expected)
    for n in (3, 9):
        np.testing.assert_allclose(
            rl.n_step_returns(STEPS, NEXT, 0.5, n), rl.discounted_returns(STEPS, NEXT, 0.5)
        )


def test_gae_is_between_the_td_error_and_monte_carlo_minus_the_baseline():
    @jax.jit
    def at(decay):
        return rl.gae(STEPS, VALUE, NEXT, 0.9, decay)

    errors = rl.td_errors(STEPS, VALUE, NEXT, 0.9)
    np.testing.assert_allclose(at(0.0), errors, rtol=1e-6)
    monte_carlo = rl.discounted_returns(STEPS, NEXT, 0.9) - VALUE
    np.testing.assert_allclose(at(1.0), monte_carlo, rtol=1e-5, atol=1e-5)
    # By hand: sums of errors that (0.9 * 0.5) ** k weighs, within an episode.
    e = np.asarray(errors)
    weights = 0.45 ** np.arange(3)
    expected = [e[0:2] @ weights[:2], e[1], e[2:5] @ weights, e[3:5] @ weights[:2], e[4]]
    np.testing.assert_allclose(at(0.5)[:5], expected, rtol=1e-5)


def test_a_constant_reward_with_a_limit_is_worth_the_endless_sum():
    """Agents that see no last observation, or take the limit for an end, learn less."""
    discount, limit, reward = 0.9, 5, 2.0

    def step(key, state, action):
        late = state + 1 >= limit
        return state + 1, rl.Transition(reward, jnp.array(False), late)

    still = rl.Environment(
        reset=lambda key, task: jnp.int32(0),
        step=step,
        observe=lambda state: jnp.int32(0),  # the time is not seen
        action_space=mh.Choice(("go",)),
        observation_space=mh.Choice(("here",)),
    )
    act = lambda key, observation: jnp.int32(0)  # noqa: E731
    _, seen = rl.rollout(jax.random.key(0), still, act, 23)

    def learned(seen, returns):
        def better(_, value):  # of the one thing that is seen
            return returns(seen, jnp.full(23, value)).mean()

        return float(jax.lax.fori_loop(0, 60, better, 0.0))

    ended = seen._replace(terminated=seen.truncated)
    n_steps = lambda s, v: rl.n_step_returns(s, v, discount, 3)  # noqa: E731
    whole = lambda s, v: rl.discounted_returns(s, v, discount)  # noqa: E731
    advantage = lambda s, v: rl.gae(s, v, v, discount, 0.7) + v  # noqa: E731
    for returns in (n_steps, whole, advantage):
        assert learned(seen, returns) == pytest.approx(reward / (1 - discount), rel=1e-3)
        assert learned(ended, returns) < 0.7 * reward / (1 - discount)


def test_lanes_have_their_own_returns():
    steps = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), STEPS)
    values = jnp.stack([NEXT, 2 * NEXT])
    both = jax.vmap(lambda s, v: rl.discounted_returns(s, v, 0.5))(steps, values)
    np.testing.assert_allclose(both[0], rl.discounted_returns(STEPS, NEXT, 0.5))
    other = jax.tree.map(lambda x: x[1], steps)
    np.testing.assert_allclose(both[1], rl.discounted_returns(other, values[1], 0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rl.td_errors(STEPS, VALUE, NEXT, 1.1), r"discount must be in \[0, 1\], got 1.1"),
        (lambda: rl.gae(STEPS, VALUE, NEXT, 0.9, -0.1), r"decay must be in \[0, 1\], got -0.1"),
        (lambda: rl.gae(STEPS, VALUE[1:], NEXT, 0.9, 0.1), r"value must have the shape \(7,\)"),
        (lambda: rl.discounted_returns(STEPS, NEXT[:3], 1.0), r"next_value .* got \(3,\)"),
        (lambda: rl.discounted_returns(record([]), NEXT[:0], 1.0), "at least one step, got shape"),
        (lambda: rl.n_step_returns(STEPS, NEXT, 0.5, 0), "n must be a whole number .* got 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
