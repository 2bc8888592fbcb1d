"""Makes the environments of the peers that the benchmarks measure beside metahpo.

    python benchmarks/peers/install.py [options of pip install]

The first stands in ``benchmarks/peers/.venv``, or where ``METAHPO_PEERS`` says; that of peers which
need an old JAX in a folder beside it, with ``-old`` behind its name.  Options such as an index are
handed to pip; the builds of torch without CUDA are smaller and no slower here.
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

# rejax ended with gymnax 0.0; pip finds no versions that all of its dependencies allow.
OLD_PACKAGES = """
    rejax==0.1.2 gymnax==0.0.8 jax==0.4.35 jaxlib==0.4.35 flax==0.10.2 optax==0.2.4 chex==0.1.88
    distrax==0.1.5 tensorflow-probability==0.24.0 numpy==1.26.4 pandas==2.2.3 matplotlib==3.9.2
    contourpy==1.3.0 ml_dtypes==0.4.1 gym==0.26.2 setuptools<80
    scipy opt_einsum msgpack absl-py toolz typing_extensions rich markdown-it-py mdurl pygments
    gym-notices cloudpickle gymnasium farama-notifications pyyaml dm-tree decorator six gast etils
    importlib_resources zipp treescope packaging pillow pyparsing cycler kiwisolver fonttools
    python-dateutil seaborn pytz tzdata
"""
OLD = {"old_agents"}
"""Scripts of the peers that run there."""


def folder(script: str = "") -> Path:
    """Where the environment of a peer's script is."""
    found = Path(os.environ.get("METAHPO_PEERS") or Path(__file__).parent / ".venv")
    return found.with_name(found.name + "-old") if script in OLD else found


def python(script: str = "") -> Path:
    """The interpreter of a peer's script."""
    return folder(script) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(script: str, packages: list[str], *options: str) -> int:
    """Makes the environment of a script; gives the exit status of pip."""
    venv.create(folder(script), with_pip=True)
    command = [str(python(script)), "-m", "pip", "install", *options, *packages]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    done = install("", PACKAGES, *sys.argv[1:])
    (old,) = OLD
    sys.exit(done or install(old, OLD_PACKAGES.split(), "--no-deps", *sys.argv[1:]))
