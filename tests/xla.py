"""How the tests have their programs compiled."""

import jaxlib
from packaging.version import Version

# Since 0.12 fusions are always compiled by emitters, and the option is unknown.
_EMITTERS_OPTIONAL = Version(jaxlib.__version__) < Version("0.12")

# Most of a test is compilation, so programs are compiled fast rather than well.
FLAGS = ["--xla_backend_optimization_level=1"]
# What only full optimisation has (times, memory, bits): jax.jit(..., compiler_options=xla.FULL).
FULL = {"xla_backend_optimization_level": 3}

if _EMITTERS_OPTIONAL:
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
    FULL["xla_cpu_use_fusion_emitters"] = True
