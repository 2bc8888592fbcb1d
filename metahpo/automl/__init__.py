"""AutoML on tables: model, preprocessing and hyperparameters as one search.

``Classifier`` and ``Regressor`` follow scikit-learn's protocol.  A search fits populations of
families of models on all folds, a compiled program a family and a bucket of shapes; what it finds
is an ensemble.

Example:
    >>> import numpy as np, metahpo as mh
    >>> x = np.linspace(-1.0, 1.0, 60)[:, None]
    >>> model = mh.automl.Regressor(models=["linear"], budget=8).fit(x, 3 * x[:, 0] + 1)
    >>> round(float(model.predict([[0.5]])[0]), 1), model.trainings_
    (2.5, 8)
"""

from metahpo.automl import metrics, models
from metahpo.automl.estimators import Classifier, Regressor, load
from metahpo.automl.models import FAMILIES, Family

__all__ = [
    "FAMILIES",
    "Classifier",
    "Family",
    "Regressor",
    "load",
    "metrics",
    "models",
]
