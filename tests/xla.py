"""How the tests have their programs compiled."""

import jax
import jaxlib
from packaging.version import Version

# Most of a test is compilation, so programs are compiled fast rather than well.
_LEVEL = "--xla_backend_optimization_level"
# Since 0.12 fusions are always compiled by emitters, and the option is unknown.
_EMITTERS_OPTIONAL = Version(jaxlib.__version__) < Version("0.12")
_SIMPLE = ["--xla_cpu_use_fusion_emitters=false"] if _EMITTERS_OPTIONAL else []

FLAGS = [f"{_LEVEL}=1", *_SIMPLE]
# The flags of a process of its own whose programs run for milliseconds.
HASTE = " ".join([f"{_LEVEL}=0", "--xla_llvm_disable_expensive_passes=true", *_SIMPLE])
# A program that runs for many seconds is worth compiling well: compiler_options=xla.LONG_RUN.
LONG_RUN = {"xla_backend_optimization_level": 3}
# What only full optimisation has (times, memory, bits): jax.jit(..., compiler_options=xla.FULL).
FULL = LONG_RUN | ({"xla_cpu_use_fusion_emitters": True} if _EMITTERS_OPTIONAL else {})


def optimise(well: bool) -> None:
    """Whether what is compiled from now on runs for long enough to be compiled with some care.

    A program that is compiled already stays as it is, so tests that share one are marked alike.
    """
    jax.config.update("jax_disable_most_optimizations", not well)
