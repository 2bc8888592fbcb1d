"""Gymnasium: any environment as a ``gymnasium.Env``, or as a vector of them in one program.

Needs the extra ``gymnasium``.  Importing it registers the exact environments, so that
``gymnasium.make("metahpo/LeadingOnes-v0", bits=20)`` and ``gymnasium.make_vec`` find them; without
an import of one's own, ``gymnasium.make("metahpo.integrations.gymnasium:metahpo/LeadingOnes-v0")``
does.
"""

from metahpo._extras import require

require("gymnasium", "gymnasium")  # what follows imports it at the top

from metahpo.integrations.gymnasium.env import Env  # noqa: E402
from metahpo.integrations.gymnasium.registered import register  # noqa: E402
from metahpo.integrations.gymnasium.vector_env import VectorEnv  # noqa: E402

register()

__all__ = ["Env", "VectorEnv"]
