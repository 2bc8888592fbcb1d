"""One process, methods of every kind: how far each stays from the exact optimum.

The process is ``rl.chebyshev``: gradient descent takes 20 steps on quadratics with condition number
100, and the return is minus the logarithm of the worst error ratio.  An action is the rate of a
step, a number from -1 to 1 on the logarithmic scale between the smallest and the largest that makes
sense.  The best return is known (3.32; Chebyshev's rates).

An agent samples actions around what it has learned for each time.  ``rl.problem`` makes a Problem
of the same process, whose hyperparameters are an action for each time; so whatever tunes
hyperparameters plays the same episodes.  Every method gets 100,000 episodes; a hypergradient
through the transitions (reverse mode) is charged as 3, one by evolution strategies as the episodes
that it plays, and an agent plays one more after every update, which says what it has found.  Regret
is the best return that there is minus the best one found: the mean over 10 seeds with 95 %
intervals.  At the optimum 21 maxima of the error are equal, so the return has a kink there and a
gradient sees one of them at a time.  About two minutes on 2 cores.

    python -m experiments.one_process [--quick] [--resume]
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import rl, strategies
from metahpo.report import interval
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import Findings, Work, column, command, panels

CONDITION, STEPS = 100.0, 20
EXACT = rl.chebyshev(CONDITION, STEPS, continuous=True)
SPACE = {"actions": mh.Float(-1.0, 1.0, shape=(STEPS,))}
STARTS, PAIRS, SIGMA = 8, 8, 0.003
REVERSE_COST = 3
EPISODES = 32  # of an agent's update
SPREAD = 80.0  # makes the first means differ: equal rates are a saddle


class Method(NamedTuple):
    """A strategy for a number of rounds, what an evaluation costs, and whose gradients it takes."""

    strategy: Callable[[int], mh.Strategy]
    population: int
    cost: int = 1
    estimator: Callable[[mh.Problem], mh.Estimator] | None = None


class Agent(NamedTuple):
    """An estimator on a policy, the rates of Adam for means and for widths, and its updates."""

    estimator: Callable[[rl.Environment, rl.Policy], mh.Estimator]
    tasks: int
    rates: tuple[float, float]
    updates: int = 1  # rounds that share their EPISODES
    critic: bool = False
    cost: float = EPISODES + 1


def descent(rounds: int) -> mh.Strategy:
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, rounds))
    return strategies.hypergradient(SPACE, STARTS, optimizer)


METHODS = {
    "random search": Method(lambda rounds: strategies.random(SPACE, 64), 64),
    "DE": Method(lambda rounds: strategies.differential_evolution(SPACE, 40), 40),
    "CMA-ES": Method(lambda rounds: strategies.cma_es(SPACE, 12), 12),
    "ES gradient": Method(
        descent,
        STARTS,
        2 * PAIRS,
        lambda process: mh.hypergrad.es(process, STEPS, pairs=PAIRS, sigma=SIGMA),
    ),
    "hypergradient": Method(
        descent, STARTS, REVERSE_COST, lambda process: mh.hypergrad.reverse(process, STEPS)
    ),
    "REINFORCE": Agent(
        lambda process, policy: rl.reinforce(process, policy, STEPS, rollouts=EPISODES),
        1,
        (0.03 / SPREAD, 3e-3),
    ),
    "PPO": Agent(
        lambda process, policy: rl.ppo(
            process, policy, STEPS, epochs=2, minibatches=2, discount=1.0, decay=1.0
        ),
        EPISODES,
        (0.01 / SPREAD, 1e-3),
        updates=4,
        critic=True,
    ),
}


class Size(NamedTuple):
    """How much is computed; a budget counts episodes."""

    budgets: tuple[int, ...] = (1_000, 10_000, 100_000)
    seeds: int = 10
    methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)


QUICK = Size(budgets=(200, 1_000), seeds=3, methods=("CMA-ES", "hypergradient", "REINFORCE"))


class Found(NamedTuple):
    """What a method found."""

    regrets: np.ndarray  # f[seeds, budgets]
    curve: np.ndarray  # f[seeds, points], the regret after numbers of episodes


def environment() -> rl.Environment:
    """``EXACT`` with the logarithms of rates as actions: -1 is the smallest, 1 the largest."""

    def step(key, state, action):
        curvature = jnp.exp(-math.log(CONDITION) * (jnp.clip(action, -1.0, 1.0) + 1) / 2)
        low, high = 1 / CONDITION, 1.0
        place = (2 * curvature - low - high) / (high - low)  # what the exact process wants
        return EXACT.environment.step(key, state, place)

    return EXACT.environment._replace(step=step)


def process() -> mh.Problem:
    """Episodes whose policy has an action for each time."""
    return rl.problem(environment(), lambda key, weights, time: weights["actions"][time])


def losses_of(units):
    """Minus the returns ``f[...]`` of actions ``f[..., STEPS]`` in the unit cube."""
    judge = mh.inner.outer_loss(process(), STEPS)

    def one(unit):
        return judge(jax.random.key(0), mh.space.decode(SPACE, unit), None)[0]

    losses = jax.lax.map(one, units.reshape(-1, STEPS), batch_size=256)
    return losses.reshape(units.shape[:-1])


def points(budget: int) -> np.ndarray:
    """The numbers of episodes at which curves are drawn."""
    return np.unique(np.geomspace(64, budget, 60).astype(int))


def searched(method: Method, rounds: int):
    """``(key) -> losses``, one an evaluation in their order."""
    strategy, problem = method.strategy(rounds), process()
    estimator = None if method.estimator is None else method.estimator(problem)

    def run(key):
        history = mh.search(
            key, problem, SPACE, strategy, rounds=rounds, steps=STEPS, estimator=estimator
        ).history
        # What an estimator says of its point may be the loss of others around it.
        return losses_of(history.unit.reshape(-1, STEPS))

    return run


def trained(agent: Agent, updates: int):
    """``(key) -> losses``, of the most probable actions after each update."""
    where, times = environment(), jnp.arange(STEPS)
    policy = rl.gaussian_policy(
        where, (), scale=0.02, features=lambda time: SPREAD * jax.nn.one_hot(time, STEPS + 1)
    )
    actor = policy
    if agent.critic:
        policy = rl.with_value(policy, where, ())
    rounds = updates * agent.updates
    mean, width = (optax.adam(optax.linear_schedule(rate, 0.0, rounds)) for rate in agent.rates)
    each = {"mean": "mean", "log_scale": "width"}
    optimizer = optax.multi_transform(
        {"mean": mean, "width": width, "value": optax.adam(0.05)},
        {"policy": each, "value": "value"} if agent.critic else each,
    )
    estimator, problem = agent.estimator(where, policy), rl.problem(where, policy)

    def run(key):
        start_key, run_key = jax.random.split(key)
        start = policy.init(start_key)

        def more(state):
            return mh.meta_train(
                run_key, problem, estimator, start, optimizer, rounds=agent.updates,
                tasks=agent.tasks, state=state,
            ).state  # fmt: skip

        def update(state, _):
            state = more(state)
            weights = state.hparams["policy"] if agent.critic else state.hparams
            actions = jax.vmap(actor.mode, (None, 0))(weights, times)
            return state, (actions + 1) / 2

        first = more(None)
        return losses_of(jax.lax.scan(update, first, length=updates - 1)[1])

    return run


def learn(name: str, size: Size) -> Found:
    """One method from all seeds, in one program."""
    method, budget = METHODS[name], size.budgets[-1]
    if isinstance(method, Agent):
        run = trained(method, max(2, round(budget / method.cost)))
    else:
        run = searched(method, -(-budget // (method.population * method.cost)))
    keys = jax.random.split(jax.random.key(1), size.seeds)
    losses = np.asarray(jax.jit(jax.vmap(run))(keys), float)
    regret = np.minimum.accumulate(losses, axis=1) + EXACT.optimal()

    def after(episodes: np.ndarray) -> np.ndarray:
        evaluations = np.maximum(episodes // method.cost, 1).astype(int)
        return regret[:, evaluations.clip(max=losses.shape[1]) - 1]

    return Found(after(np.array(size.budgets)), after(points(budget)))


def tabulate(found: dict[str, Found], size: Size):
    rows = []
    for name, each in found.items():
        row = {"method": name, "episodes an evaluation": METHODS[name].cost}
        for i, budget in enumerate(size.budgets):
            row[f"regret @{budget:,}"] = interval(each.regrets[:, i])
        row["error ratio"] = interval(np.exp(each.regrets[:, -1] - EXACT.optimal()))
        rows.append(row)
    last = f"regret @{size.budgets[-1]:,}"
    rows.sort(key=lambda row: float(row[last].mean))
    for name, value in (("optimum", EXACT.optimal()), ("best static", EXACT.static())):
        regret = EXACT.optimal() - value
        rows.append({"method": name, last: regret, "error ratio": float(np.exp(-value))})
    return rows


def study(size: Size, work: Work) -> Findings:
    """Every method from all seeds."""
    found = work.each(size.methods, lambda name: learn(name, size), Found)
    curves = {name: np.round(each.curve.mean(axis=0), 5).tolist() for name, each in found.items()}
    return Findings(
        tabulate(found, size),
        formats={"error ratio": ".4f"},
        settings={
            "condition": CONDITION,
            "steps": STEPS,
            "optimum": EXACT.optimal(),
            "seconds": work.seconds,
        },
        notes={"episodes": points(size.budgets[-1]).tolist(), "mean_regret": curves},
    )


def plot(results, path) -> None:
    """The regret of each method over the episodes that it has played."""
    at, curves = np.array(results["episodes"]), results["mean_regret"]
    budget = results["settings"]["budgets"][-1]
    rows = [row for row in results["rows"] if row["method"] in METHODS]
    ends = column(rows, f"regret @{budget:,}", "method")
    best = min(curves, key=lambda name: curves[name][-1])
    title = (
        f"On one process of 20 rates {best} comes within {ends[best].mean:.2g} of the best return "
        f"({results['settings']['optimum']:.2f}) in {budget:,} episodes"
    )
    reached = ends["REINFORCE"].mean if "REINFORCE" in ends else None
    if reached is not None and best != "REINFORCE":
        title += f"; REINFORCE, an agent, within {reached:.2g}"
    colors = dict(zip(METHODS, ("0.5", *COLORS), strict=False))
    with panels(path, size=(8, 4.2), title=title) as axes:
        for name, regrets in curves.items():
            axes.plot(at, regrets, color=colors[name])
        scales(axes, at, True, True)
        axes.set(xlabel="episodes", ylabel="regret (mean over seeds)")
        axes.set_xlim(at[0], at[-1])
        axes.set_ylim(top=5.0)  # that of the first agents is far above
        label_ends(axes, {name: regrets[-1] for name, regrets in curves.items()}, colors)


PICTURES = {"one_process.png": plot}


if __name__ == "__main__":
    command("experiments.one_process", __doc__, study, Size(), QUICK, PICTURES)
