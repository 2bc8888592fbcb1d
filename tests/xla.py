"""How the tests have their programs compiled."""

import jaxlib
from packaging.version import Version

# Since 0.12 fusions are always compiled by emitters, and the option is unknown.
_EMITTERS_OPTIONAL = Version(jaxlib.__version__) < Version("0.12")

# Most of a test is compilation, so programs are compiled fast rather than well.
FLAGS = ["--xla_backend_optimization_level=1"]
# A program that runs for seconds is worth compiling well: compiler_options=xla.LONG_RUN.
LONG_RUN = {"xla_backend_optimization_level": 3}
# One that runs for milliseconds is not: compiler_options=xla.SHORT_RUN.
SHORT_RUN = {"xla_backend_optimization_level": 0}
# What only full optimisation has (times, memory, bits): jax.jit(..., compiler_options=xla.FULL).
FULL = {"xla_backend_optimization_level": 3}

if _EMITTERS_OPTIONAL:
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
    FULL["xla_cpu_use_fusion_emitters"] = True
