"""Makes the environment of the peers that the benchmarks measure beside metahpo.

    python benchmarks/peers/install.py [options of pip install]

It stands in ``benchmarks/peers/.venv``, or where ``METAHPO_PEERS`` says.  Options such as an index
are handed to pip; the builds of torch without CUDA are smaller and no slower here.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = [
    "torch==2.13.0",
    "torchopt==0.7.3",
    "higher==0.2.1",
    "jaxopt==0.8.5",
    "optimistix==0.1.0",
    "evosax==0.3.2",
    "chex==0.1.92",
    "cma==4.5.0",
    "cmaes==0.13.1",
    "dacbench==0.5.6",
    "pymoo==0.6.2",
    "stable-baselines3==2.9.2",
    "optuna==5.0.0",
    "scipy",
    "jax==0.10.2",
    "numpy",
]


def folder() -> Path:
    """Where the environment is."""
    return Path(os.environ.get("METAHPO_PEERS") or Path(__file__).parent / ".venv")


def python() -> Path:
    """The environment's interpreter."""
    return folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


if __name__ == "__main__":
    venv.create(folder(), with_pip=True)
    command = [str(python()), "-m", "pip", "install", *sys.argv[1:], *PACKAGES]
    sys.exit(subprocess.run(command).returncode)
