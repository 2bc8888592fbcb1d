"""DACBench's environments under random actions: ``python reinforcement.py dacbench:NAME F``.

A run is 2,000 steps, resets included; its result is the sum of the rewards, to see that it works.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import serve

STEPS = 2000
BENCHMARKS = {
    "luby": "LubyBenchmark",
    "sigmoid": "FunctionApproximationBenchmark",
    "theory": "TheoryBenchmark",
}


def dacbench(name: str, arrays: serve.Arrays) -> Callable[[], dict[str, Any]]:
    """The default environment of a benchmark."""
    from dacbench import benchmarks

    environment = getattr(benchmarks, BENCHMARKS[name])().get_environment()
    environment.reset()

    def run() -> dict[str, Any]:
        total = 0.0
        for _ in range(STEPS):
            _, reward, terminated, truncated, _ = environment.step(
                environment.action_space.sample()
            )
            total += float(np.asarray(reward).sum())
            if terminated or truncated:
                environment.reset()
        return {"reward": np.array(total)}

    return run


if __name__ == "__main__":
    serve.serve({f"dacbench:{name}": partial(dacbench, name) for name in BENCHMARKS}, "cpu")
