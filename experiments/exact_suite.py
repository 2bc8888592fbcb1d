"""Agents on processes whose best value is known: how much of what there is to gain they gain.

- LeadingOnes (Biedenkapp et al. 2022): how many bits a local search flips, from the portfolios of
  the publication.  PPO, 1 M steps.  The policy and its critic are linear in bumps and in
  polynomials of the number of leading ones, the advantages those of single steps, the critic learns
  whole returns, and what counts is the *exact* value of the most probable actions, by the closed
  form.  For 200 bits and an even portfolio of 7 so many steps do not suffice, and it is left out:
  seven of ten seeds end with an action that is nearly stuck somewhere.
- Sigmoid (Biedenkapp et al. 2020), 1 to 5 dimensions of three actions.  PPO, 100,000 steps; the
  value of the most probable actions is the mean over 10,000 fresh instances.
- Luby (the same, version of 2020), episodes of 8, 16 and 32.  PPO, 100,000 steps, a policy that
  sees nothing but its own last 32 actions; all is deterministic, so one episode is its value.
- Quadratics with curvatures from 1 / 100 to 1, 20 steps of gradient descent, the logarithm of the
  rate a continuous action.  REINFORCE with 64 episodes an update; the value is minus the worst
  ratio of errors that the most probable rates leave, the best one that of Chebyshev's.

Ten seeds; every agent is one compiled program over them.  Each family has one configuration.
``gained`` is the share of the way from the best policy that always does the same to the optimum.

    python -m experiments.exact_suite [--quick] [--resume]
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import rl
from metahpo.report import interval
from metahpo.report.plots import COLORS
from metahpo.study import Findings, Work, command, draw_intervals, panels

LEADING_ONES = {
    "n 50, {1, 2, 3, 4}": (50, (1, 2, 3, 4)),
    "n 50, {1, 2, 4, 8}": (50, (1, 2, 4, 8)),
    "n 50, powers of 2": (50, (1, 2, 4, 8, 16)),
    "n 50, evenly 3": (50, (1, 17, 33)),
    "n 100, evenly 3": (100, (1, 34, 67)),
    "n 100, evenly 7": (100, tuple(range(1, 100, 14))[:7]),
    "n 100, evenly 15": (100, tuple(range(1, 100, 6))[:15]),
    "n 100, evenly 20": (100, tuple(range(1, 100, 5))[:20]),
    "n 200, evenly 7": (200, tuple(range(1, 200, 28))[:7]),
}
CURVES, LENGTHS = (1, 2, 3, 5), (8, 16, 32)
CONDITION, DESCENT = 100.0, 20
# Of double DQN: Biedenkapp et al. 2022 (on "n 100, evenly 15" it diverged) and 2020.
PUBLISHED = {
    "n 50, {1, 2, 3, 4}": 0.049,
    "n 50, {1, 2, 4, 8}": 0.037,
    "n 100, evenly 7": 0.090,
    "n 100, evenly 20": 0.221,
    "1D3M": 0.024,
}


class Size(NamedTuple):
    """How much is computed."""

    seeds: int = 10
    steps: int = 1_000_000  # on LeadingOnes
    short: int = 100_000  # on Sigmoid and Luby
    updates: int = 6_000  # on quadratics
    instances: int = 10_000
    families: tuple[str, ...] = ("LeadingOnes", "Sigmoid", "Luby", "quadratics")
    seed: int = 0


QUICK = Size(seeds=2, steps=100_000, short=20_000, updates=200, instances=500)


class Case(NamedTuple):
    """A process, an agent and what it is measured against.

    Attributes:
        environment: the process.
        policy: of the agent, with the weights that are learned.
        agent: the estimator.
        optimizer: of the weights.
        rounds: updates.
        tasks: environments side by side.
        optimal: the best value.
        static: that of the best policy that always does the same.
        value: ``(key, weights) -> result``, inside the program.
        judge: ``(result) -> float``, of the most probable actions, on the host.
        steps: that the agent makes.
    """

    environment: rl.Environment
    policy: rl.Policy
    agent: mh.Estimator
    optimizer: optax.GradientTransformation
    rounds: int
    tasks: int
    optimal: float
    static: float
    value: Callable[[Any, Any], Any]
    judge: Callable[[np.ndarray], float]
    steps: int


def falling(rate: float, rounds: int) -> optax.GradientTransformation:
    """Adam whose rate falls to zero."""
    return optax.adam(optax.linear_schedule(rate, 0.0, rounds))


def greedy_return(environment: rl.Environment, policy: rl.Policy, steps: int, count: int):
    """The mean return of the most probable actions over fresh episodes."""

    def one(key, weights):
        task_key, reset_key, run_key = jax.random.split(key, 3)
        start = environment.reset(reset_key, environment.sample(task_key))
        act = lambda key, observation: policy.mode(weights, observation)  # noqa: E731
        return rl.episode(run_key, environment, act, steps, start)[1].reward.sum()

    def mean(key, weights):
        return jax.vmap(one, (0, None))(jax.random.split(key, count), weights).mean()

    return mean


def leading_ones(name: str, size: Size) -> Case:
    """Single steps tell which action is better, whole returns what the next level is worth."""
    bits, portfolio = LEADING_ONES[name]
    known = rl.leading_ones(bits, portfolio)

    def step(key, state, action):  # rewards of unit size for the critic
        state, transition = known.environment.step(key, state, action)
        return state, transition._replace(reward=transition.reward / bits)

    environment = known.environment._replace(step=step)

    def bumps(ones, count=16):
        place = jnp.log1p(ones) / math.log(bits + 1) * (count - 1)
        return jax.nn.softmax(-((place - jnp.arange(count)) ** 2))

    def polynomials(ones):
        x = 2 * ones / bits - 1
        return jnp.stack([x, 1.5 * x**2 - 0.5, 2.5 * x**3 - 1.5 * x])

    policy = rl.with_value(
        rl.softmax_policy(environment, (), features=bumps), environment, (), features=polynomials
    )
    long = bits > 100
    steps, tasks, repeats = (1024, 1, 2) if long else (64, 16, 2)
    rounds = size.steps // (steps * tasks) * repeats**2
    agent = rl.ppo(
        environment,
        policy,
        steps,
        epochs=repeats,
        minibatches=repeats,
        clip=100.0,  # a rare success is worth a hundred steps, and a clip would ignore that
        discount=1.0,
        decay=0.0,
        critic_decay=1.0,
        entropy=(0.1 if long else 0.01) / bits,
    )
    layer = {"bias": "still", "kernel": "policy"}  # the bumps sum to 1 already
    optimizer = optax.multi_transform(
        {
            "policy": falling(0.02, rounds),
            "value": falling(0.1, rounds),
            "still": optax.set_to_zero(),
        },
        {"policy": {"params": {"Dense_0": layer}}, "value": "value"},
    )

    def actions(key, weights):
        return jax.vmap(policy.mode, (None, 0))(weights, jnp.arange(bits))

    return Case(
        environment, policy, agent, optimizer, rounds, tasks, known.optimal(), known.static(),
        actions, known.value, rounds // repeats**2 * steps * tasks,
    )  # fmt: skip


def networks(
    environment, features, steps: int, length: int, known, size: Size, entropy: float = 0.15
) -> Case:
    """PPO with networks of two layers; the entropy keeps all actions in play to the end."""
    tasks = 16
    policy = rl.softmax_policy(environment, (64, 64), features=features)
    policy = rl.with_value(policy, environment, (64, 64), features=features)
    epochs, minibatches = 4, 2
    rounds = size.short // (steps * tasks) * epochs * minibatches
    agent = rl.ppo(
        environment,
        policy,
        steps,
        epochs=epochs,
        minibatches=minibatches,
        discount=0.9,
        decay=0.5,
        entropy=entropy,
    )
    count = size.instances if jax.tree.leaves(known.environment.sample(jax.random.key(0))) else 1
    value = greedy_return(environment, policy, length, count)
    return Case(
        environment, policy, agent, falling(3e-3, rounds), rounds, tasks, known.optimal(),
        known.static(), value, float, rounds // (epochs * minibatches) * steps * tasks,
    )  # fmt: skip


def sigmoid(name: str, size: Size) -> Case:
    """A contextual choice: nothing that is done changes what comes."""
    dimensions = int(name[0])
    known = rl.sigmoid(dimensions, 3)
    entropy = 0.25 / dimensions  # of each, as rewards are products and smaller the more there are

    def features(seen):
        time = (seen["remaining"][None] - 5) / 5
        return jnp.concatenate([time, (seen["centre"] - 5) / 5, seen["slope"]])

    return networks(known.environment, features, 10, 10, known, size, entropy)


def luby(name: str, size: Size) -> Case:
    """The history of actions tells the time, and so the target."""
    known = rl.luby(int(name.split()[1]))
    environment = rl.with_history(known.environment, 32, alone=True)
    return networks(environment, None, 32, 64, known, size)


def quadratics(name: str, size: Size) -> Case:
    """No network: the means of the 20 logarithms of rates, which begin far apart."""
    middle, half = (1 + 1 / CONDITION) / 2, (1 - 1 / CONDITION) / 2
    curvature = middle + half * np.cos(np.arange(DESCENT + 1) * math.pi / DESCENT)

    def step(key, state, rate):
        errors, time = state
        left = jnp.maximum(jnp.abs(1 - jnp.asarray(curvature, errors.dtype) * rate), 1e-12)
        new = errors + jnp.log(left)
        reward = errors.max() - new.max()
        return (new, time + 1), rl.Transition(reward, time + 1 >= DESCENT, jnp.array(False))

    environment = rl.Environment(
        reset=lambda key, task: (jnp.zeros(DESCENT + 1), jnp.int32(0)),
        step=step,
        observe=lambda state: jnp.minimum(state[1], DESCENT),
        action_space=mh.Float(1.0, CONDITION, log=True),
        observation_space=mh.Choice(range(DESCENT + 1)),
    )
    spread = 80.0  # makes the first weights differ: equal rates are a saddle

    def features(time):
        return spread * jax.nn.one_hot(time, DESCENT + 1)

    policy = rl.gaussian_policy(environment, (), features=features, scale=0.02)
    agent = rl.reinforce(environment, policy, DESCENT, rollouts=64)
    optimizer = optax.multi_transform(
        {
            "mean": falling(0.03 / spread, size.updates),
            "log_scale": falling(3e-3, size.updates),
        },
        {"mean": "mean", "log_scale": "log_scale"},
    )
    known = rl.chebyshev(CONDITION, DESCENT)

    def rates(key, weights):
        return jax.vmap(policy.mode, (None, 0))(weights, jnp.arange(DESCENT))

    def judge(rates):
        return -float(np.abs(1 - curvature * np.asarray(rates, float)[:, None]).prod(axis=0).max())

    return Case(
        environment, policy, agent, optimizer, size.updates, 1, -math.exp(-known.optimal()),
        -math.exp(-known.static()), rates, judge, size.updates * 64 * DESCENT,
    )  # fmt: skip


FAMILIES = {
    "LeadingOnes": (leading_ones, tuple(LEADING_ONES)),
    "Sigmoid": (sigmoid, tuple(f"{count}D3M" for count in CURVES)),
    "Luby": (luby, tuple(f"L {length}" for length in LENGTHS)),
    "quadratics": (quadratics, ("condition 100",)),
}


def train(case: Case, size: Size) -> dict[str, np.ndarray]:
    """All seeds in one program; ``values f[seeds]``."""
    process = rl.problem(case.environment, case.policy)

    def learn(key):
        start_key, run_key, value_key = jax.random.split(key, 3)
        result = mh.meta_train(
            run_key, process, case.agent, case.policy.init(start_key), case.optimizer,
            rounds=case.rounds, tasks=case.tasks,
        )  # fmt: skip
        return case.value(value_key, result.hparams), result.skipped

    keys = jax.random.split(jax.random.key(size.seed), size.seeds)
    found, skipped = jax.jit(jax.vmap(learn))(keys)
    values = np.array([case.judge(one) for one in np.asarray(found)])
    return {"values": values, "skipped": np.asarray(skipped)}


def row_of(family: str, name: str, values: np.ndarray, size: Size) -> dict[str, Any]:
    """What the seeds' values are beside the optimum."""
    case = FAMILIES[family][0](name, size)
    way = case.optimal - case.static
    row = {"process": family, "case": name, "steps": case.steps}
    row |= {"optimum": case.optimal, "static": case.static}
    row |= {"agent": interval(values), "worst seed": float(values.min())}
    row |= {"gained": interval((values - case.static) / way)}
    row |= {"regret": interval((case.optimal - values) / max(abs(case.optimal), 1e-9))}
    if not case.optimal:
        row["regret"] = interval(case.optimal - values)
    return row | {"published regret": PUBLISHED.get(name)}


def study(size: Size, work: Work) -> Findings:
    """Every family's agent on all of its processes."""
    jobs = [(family, name) for family in size.families for name in FAMILIES[family][1]]
    parts = work.each(jobs, lambda job: train(FAMILIES[job[0]][0](job[1], size), size))
    rows = [row_of(*job, parts[job]["values"], size) for job in jobs]
    formats = {"optimum": ".4g", "static": ".4g", "agent": ".4g", "gained": ".1%"}
    formats |= {"regret": ".2%", "worst seed": ".4g", "published regret": ".1%"}
    return Findings(rows, formats=formats)


def plot(results, path) -> None:
    """The share of what there is to gain, a line a process."""
    rows = results["rows"]
    families = [family for family in FAMILIES if any(r["process"] == family for r in rows)]
    lowest = min(row["gained"]["mean"] for row in rows)
    title = (
        f"Of the way from the best static policy to the exact optimum the agents go "
        f"{math.floor(100 * lowest)} % or more"
    )
    with panels(path, size=(7.0, 5.0), title=title, legends=False) as axes:
        color = dict(zip(families, COLORS, strict=False))
        data = {f"{row['process']} {row['case']}": row["gained"] for row in rows}
        shown = {name: mh.report.Interval(**value) for name, value in data.items()}
        each = {f"{row['process']} {row['case']}": color[row["process"]] for row in rows}
        draw_intervals(axes, shown, colors=each)
        axes.axvline(1.0, color="0.6", linewidth=0.8)
        axes.xaxis.set_major_formatter(lambda x, at: f"{100 * x:.4g} %")
        axes.set_xlabel("gained (mean of 10 seeds, 95 % interval)")
        axes.tick_params(labelsize=9)


PICTURES = {"exact_suite.png": plot}


if __name__ == "__main__":
    command(
        "experiments.exact_suite", __doc__, study, Size(), QUICK, PICTURES, choices=("families",)
    )
