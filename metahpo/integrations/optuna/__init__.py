"""Optuna: strategies as samplers of its studies, results as studies, studies as experience.

Needs the extra ``optuna``.
"""

from metahpo._extras import require

require("optuna", "optuna")  # what follows imports it at the top

from metahpo.integrations.optuna.experience import to_experience  # noqa: E402
from metahpo.integrations.optuna.export import to_study  # noqa: E402
from metahpo.integrations.optuna.sampler import Sampler  # noqa: E402

__all__ = ["Sampler", "to_experience", "to_study"]
