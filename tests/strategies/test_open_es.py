"""OpenES against an independent computation of the paper's estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.strategies import open_es

SPACE = {"x": mh.Float(0.0, 1.0, shape=(3,))}
OPTIMUM = jnp.array([0.1, 0.9, 0.4])


def generations(strategy, count):
    """The states around each of ``count`` generations on a sphere, and their samples."""
    state, states, samples = strategy.init(jax.random.key(0)), [], []
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for seed in range(count):
        proposal, state = ask(jax.random.key(seed), state)
        states.append(state)
        samples.append(proposal.note.z)
        loss = ((proposal.unit - OPTIMUM) ** 2).sum(1)
        state = tell(jax.random.key(seed), state, proposal, mh.Evaluation(loss, None, ()))
    return [*states, state], samples


def estimate(state, z, mean):
    """The paper's gradient of the expected loss, with centred ranks of the losses."""
    z, std = np.asarray(z), np.asarray(state.std)
    loss = ((np.clip(mean + std * z, 0, 1) - np.asarray(OPTIMUM)) ** 2).sum(1)
    rank = np.argsort(np.argsort(loss))
    return ((rank / (len(z) - 1) - 0.5)[:, None] * z).mean(0) / std


def test_one_generation_with_gradient_descent_is_the_papers():
    with jax.enable_x64(True):
        strategy = open_es(SPACE, 6, optimizer=optax.sgd(0.01), sigma=0.2, decay=1.0)
        (before, after), (z,) = generations(strategy, 1)
    expected = 0.5 - 0.01 * estimate(before, z, 0.5)
    np.testing.assert_allclose(after.mean, expected, rtol=1e-12)
    np.testing.assert_array_equal(after.std, 0.2)


def test_three_generations_with_adam_decay_sigma_and_the_rate_together():
    with jax.enable_x64(True):
        states, samples = generations(
            open_es(SPACE, 8, learning_rate=0.03, sigma=0.2, decay=0.9), 3
        )
    mean, first, second = np.full(3, 0.5), np.zeros(3), np.zeros(3)
    for t, (state, z) in enumerate(zip(states, samples, strict=False)):
        np.testing.assert_allclose(state.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(state.std, 0.2 * 0.9**t, rtol=1e-12)
        gradient = estimate(state, z, mean)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8)
        mean = mean - 0.03 * 0.9**t * step
    np.testing.assert_allclose(states[3].mean, mean, rtol=1e-9)


def test_samples_are_mirrored_pairs():
    _, (z,) = generations(open_es(SPACE, 6), 1)
    np.testing.assert_array_equal(z[3:], -z[:3])
    assert len(np.unique(np.abs(z))) == 9


def test_weight_decay_pulls_towards_the_middle_of_the_cube():
    initial = jnp.array([[0.1, 0.5, 0.7]])
    strategy = open_es(SPACE, 4, initial, optimizer=optax.sgd(0.1), weight_decay=0.5)
    proposal, state = jax.jit(strategy.ask)(jax.random.key(0), strategy.init(jax.random.key(1)))
    evaluation = mh.Evaluation(jnp.ones(4), None, ())  # no gradient
    state = jax.jit(strategy.tell)(jax.random.key(2), state, proposal, evaluation)
    np.testing.assert_allclose(state.mean, [0.1 + 0.02, 0.5, 0.7 - 0.01], rtol=1e-6)


def test_decay_ends_at_the_smallest_sigma():
    states, _ = generations(open_es(SPACE, 4, sigma=0.2, decay=0.5, smallest_sigma=0.03), 5)
    np.testing.assert_allclose(
        [float(s.std[0]) for s in states], [0.2, 0.1, 0.05, 0.03, 0.03, 0.03], rtol=1e-6
    )


@pytest.mark.parametrize("population", [3, 5, 21])
def test_odd_populations_are_refused(population):
    message = f"antithetic pairs, so its population must be even, got {population}"
    with pytest.raises(ValueError, match=message):
        open_es(SPACE, population)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"decay": 1.5}, "decay must be at most 1, got 1.5"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative, got -0.1"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        open_es(SPACE, 4, **options)
