"""Optuna: any strategy as a sampler of its studies, and any result as one of its studies.

Needs the extra ``optuna``.
"""

from metahpo._extras import require

require("optuna", "optuna")  # what follows imports it at the top

from metahpo.integrations.optuna.export import to_study  # noqa: E402
from metahpo.integrations.optuna.sampler import Sampler  # noqa: E402

__all__ = ["Sampler", "to_study"]
