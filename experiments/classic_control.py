"""The library's agents on CartPole and Acrobot, gymnasium's dynamics, in 100,000 steps.

PPO and double DQN with the library's default arguments, one configuration of each for both tasks:
networks of two layers of 64, Adam, stretches of 32 steps of 16 environments and of 4 steps of one;
PPO with a small bonus for entropy.  Agents get a hundredth of the rewards, which makes values of
about unit size (1 - discount is 0.01): a critic that begins at 0 is then right much sooner.  With
the rewards as they are PPO (without the bonus) solved 9 and 8 of the ten seeds, DQN 9 and 10.
The return of the greedy policy, at most 500 steps, is the mean over fresh episodes: 20 of them
along training, 100 at its end.  Ten seeds, all in one program; intervals are over seeds.  Solved is
a return of 475 and of -100 (the thresholds that gymnasium registers).

    python -m experiments.classic_control [--quick] [--resume]
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

import metahpo as mh
from experiments.classic_environments import MOST_STEPS, acrobot, cart_pole
from metahpo import rl
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends
from metahpo.study import Findings, Work, command, panels

TASKS = {"CartPole": (cart_pole, 475.0), "Acrobot": (acrobot, -100.0)}
SCALE = 0.01


class Size(NamedTuple):
    """How much is computed."""

    seeds: int = 10
    steps: int = 100_000
    stages: int = 15  # of a training, after each of which the policy is judged
    episodes: int = 100
    agents: tuple[Literal["PPO", "DQN"], ...] = ("PPO", "DQN")
    seed: int = 0


QUICK = Size(seeds=2, steps=20_000, stages=4, episodes=20)


class Agent(NamedTuple):
    """An agent and how it is trained.

    Attributes:
        policy: what it learns.
        estimator: the agent.
        optimizer: ``(rounds) -> optimizer`` of its weights.
        tasks: environments side by side.
        stretch: steps of each between updates.
        updates: after a stretch.
    """

    policy: rl.Policy
    estimator: mh.Estimator
    optimizer: Callable[[int], optax.GradientTransformation]
    tasks: int
    stretch: int
    updates: int = 1


def falling(rate: float, rounds: int) -> optax.GradientTransformation:
    """Adam of clipped gradients whose rate falls to zero."""
    adam = optax.adam(optax.linear_schedule(rate, 0.0, rounds))
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def scaled(environment: rl.Environment) -> rl.Environment:
    """With values of about unit size."""

    def step(key, state, action):
        state, transition = environment.step(key, state, action)
        return state, transition._replace(reward=transition.reward * SCALE)

    return environment._replace(step=step)


def ppo(environment: rl.Environment, steps: int) -> Agent:
    policy, stretch = rl.softmax_policy(environment, (64, 64)), 32
    policy = rl.with_value(policy, environment, (64, 64))
    agent = rl.ppo(environment, policy, stretch, entropy=0.001)
    return Agent(policy, agent, lambda rounds: falling(3e-3, rounds), 16, stretch, 16)


def dqn(environment: rl.Environment, steps: int) -> Agent:
    policy, stretch = rl.value_policy(environment, (64, 64)), 4
    explore = rl.epsilon_greedy(optax.linear_schedule(1.0, 0.05, steps // 5))
    agent = rl.dqn(environment, policy, explore, steps=stretch)
    return Agent(policy, agent, lambda rounds: falling(1e-3, rounds), 1, stretch)


AGENTS = {"PPO": ppo, "DQN": dqn}


class Learned(NamedTuple):
    """What an agent reached."""

    curve: np.ndarray  # f[seeds, stages], mean greedy returns along training
    final: np.ndarray  # f[seeds]
    steps: np.ndarray  # i32[seeds], made by all environments together


def greedy_return(environment: rl.Environment, policy: rl.Policy, key, weights, count: int):
    """The mean return of the most probable actions over fresh episodes."""

    def one(key):
        reset_key, run_key = jax.random.split(key)
        act = lambda key, observation: policy.mode(weights, observation)  # noqa: E731
        start = environment.reset(reset_key, None)
        return rl.episode(run_key, environment, act, MOST_STEPS, start)[1].reward.sum()

    return jax.vmap(one)(jax.random.split(key, count)).mean()


def learn(task: str, name: str, size: Size) -> Learned:
    """All seeds in one program, in stages."""
    environment = TASKS[task][0]()
    shown = scaled(environment)
    policy, estimator, optimizer, tasks, stretch, updates = AGENTS[name](shown, size.steps)
    process = rl.problem(shown, policy)
    rounds = size.steps // (tasks * stretch * size.stages) * updates  # of a stage

    def one(key):
        start_key, run_key, value_key = jax.random.split(key, 3)
        weights = policy.init(start_key)
        options = {"rounds": rounds, "tasks": tasks}
        loop = mh.run.meta_loop(
            process, estimator, weights, optimizer(rounds * size.stages), **options
        )

        def stage(state, key):
            result = mh.meta_train(
                run_key, process, estimator, state.hparams, optimizer(rounds * size.stages),
                state=state, **options,
            )  # fmt: skip
            judged = greedy_return(environment, policy, key, result.hparams, size.episodes // 5)
            return result.state, judged

        first = loop.init(run_key)
        keys = jax.random.split(value_key, size.stages + 1)
        state, curve = jax.lax.scan(stage, first, keys[1:])
        final = greedy_return(environment, policy, keys[0], state.hparams, size.episodes)
        return Learned(curve, final, state.memory.score.steps.sum())

    keys = jax.random.split(jax.random.key(size.seed), size.seeds)
    return Learned(*jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys)))


def study(size: Size, work: Work) -> Findings:
    """Every agent on both tasks."""
    jobs = [(task, name) for task in TASKS for name in size.agents]
    parts = work.each(jobs, lambda job: learn(*job, size), Learned)
    rows, curves = [], {}
    for task, name in jobs:
        part, (_, solved) = parts[task, name], TASKS[task]
        row: dict[str, Any] = {"task": task, "agent": name, "steps": int(part.steps[0])}
        row |= {"return": interval(part.final), "worst seed": float(part.final.min())}
        row["seeds solved"] = int((part.final >= solved).sum())
        rows.append(row)
        mean, half, _ = interval(part.curve)
        curves[f"{task} {name}"] = {
            "mean": np.round(mean, 2).tolist(), "half_width": np.round(half, 2).tolist()
        }  # fmt: skip
    at = (np.arange(size.stages) + 1) * size.steps // size.stages
    notes = {"at": at.tolist(), "curves": curves}
    settings = {"solved": {task: solved for task, (_, solved) in TASKS.items()}}
    formats = {"return": ".1f", "worst seed": ".1f"}
    return Findings(rows, formats=formats, notes=notes, settings=settings)


def plot(results, path) -> None:
    """The greedy policy's return along training, with intervals over seeds."""
    at = np.array(results["at"]) / 1000
    rows, seeds = results["rows"], results["settings"]["seeds"]
    names = list(dict.fromkeys(row["agent"] for row in rows))
    color = dict(zip(names, COLORS, strict=False))
    lines = [
        f"{row['agent']} solves {row['task']} in {row['seeds solved']} of {seeds} seeds"
        for row in rows
        if row["agent"] == names[0]
    ]
    with panels(path, 1, 2, size=(8, 3.8), title=", ".join(lines), legends=False) as both:
        for axes, (task, solved) in zip(both, results["settings"]["solved"].items(), strict=True):
            ends = {}
            for name in names:
                curve = results["curves"][f"{task} {name}"]
                mean, half = np.array(curve["mean"]), np.array(curve["half_width"])
                axes.plot(at, mean, color=color[name])
                axes.fill_between(at, mean - half, mean + half, color=color[name], alpha=0.2, lw=0)
                ends[name] = mean[-1]
            axes.axhline(solved, color="0.6", linewidth=0.8)
            axes.set(xlabel="steps (thousands)", xlim=(0, at[-1]), title=task)
            label_ends(axes, ends, color)
        both[0].set_ylabel(f"greedy return ({seeds} seeds, 95 %)")


PICTURES = {"classic_control.png": plot}


if __name__ == "__main__":
    command("experiments.classic_control", __doc__, study, Size(), QUICK, PICTURES)
