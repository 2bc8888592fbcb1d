"""``Classifier`` and ``Regressor``: model, preprocessing and hyperparameters as one search."""

import os
from typing import Any

import numpy as np

from metahpo.automl import files, tables
from metahpo.automl.protocol import accuracy, r_squared
from metahpo.automl.searching import Searching


class Classifier(Searching):
    """Finds a classifier of a table.

    The search is over families of models, each with its preprocessing and hyperparameters; what is
    fitted is one model a fold of every configuration, in compiled programs whose arguments are the
    data.  What predicts is an ensemble that is selected greedily by out-of-fold predictions; each
    member is the mean of its folds' models.  The same seed, budget and versions of the libraries
    give the same model, however fast the machine; a deadline only cuts between rounds, and
    ``budget=trainings_`` repeats what it left.

    Args:
        metric: ``"log loss"`` (the default), ``"accuracy"``, ``"AUC"``, ``"balanced accuracy"`` or
            ``"F1"``.
        budget: configurations to try; each is trained on every fold.
        deadline: seconds after which no further round begins.
        models: names of ``mh.automl.FAMILIES``; by default those of ``models.DEFAULT`` that suit
            the table.
        strategy: ``(space, population) -> Strategy`` within each family, ``mh.strategies.random``
            by default.
        folds: of the cross-validation, stratified.
        refit: whether every member of the ensemble is trained once more, on all rows, and predicts
            in place of its folds' models: as many times smaller and faster as there are folds.
        seed: of everything random.
        progress: whether rounds are told on the standard error stream.

    Attributes:
        classes_: the labels.
        model_: the ensemble.
        score_: the metric of its out-of-fold predictions.
        out_of_fold_: ``f64[n, K]``, the chances of the training rows by models that have not seen
            them; the weights of the ensemble have.
        trainings_: configurations that were tried.
        rounds_: the family and the number of configurations of each round.
        stopped_: ``"budget"`` or ``"deadline"``.

    Example:
        >>> x = {"size": list(range(40)), "kind": ["a", "b"] * 20}
        >>> y = ["small"] * 20 + ["large"] * 20
        >>> found = Classifier(models=["linear"], budget=8).fit(x, y)
        >>> found.predict({"size": [2, 35], "kind": ["b", None]}).tolist()
        ['small', 'large']
    """

    _kind, _metric, _kinds = "classifier", "log loss", ("binary", "multiclass")

    def _target(self, y: Any, n: int) -> np.ndarray:
        found = tables.labels(y, n)
        self.classes_ = found.classes
        return found.y

    def _judged(self, y: Any, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = tables.values(y, rows)
        values = values.astype(str) if self.classes_.dtype.kind == "U" else values
        known = np.isin(values, self.classes_)
        if not known.all():
            raise ValueError(
                f"labels must be those of fit, {self.classes_.tolist()}, got "
                f"{sorted(set(values[~known].tolist()))[:5]}"
            )
        place = np.searchsorted(self.classes_, values).astype(np.int32)
        return place, np.ones(rows, np.float32), self.model_.table.classes

    def _shown(self, out: np.ndarray) -> np.ndarray:
        p = out[:, : len(self.classes_)].astype(np.float64)
        return p / p.sum(1, keepdims=True)

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Chances of the classes, ``f64[n, K]`` in the order of ``classes_``."""
        return self._shown(self._raw(X))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The most likely labels, ``[n]``."""
        self._check_fitted()
        return self.classes_[self.predict_proba(X).argmax(1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The accuracy, as scikit-learn has it."""
        return accuracy(y, self.predict(X), sample_weight)


class Regressor(Searching):
    """Finds a regression of a table; in all else as ``Classifier``.

    Args:
        metric: ``"RMSE"`` (the default), ``"MAE"`` or ``"R2"``.
        budget: configurations to try; each is trained on every fold.
        deadline: seconds after which no further round begins.
        models: names of ``mh.automl.FAMILIES``; by default those of ``models.DEFAULT`` that suit
            the table.
        strategy: ``(space, population) -> Strategy`` within each family.
        folds: of the cross-validation.
        refit: whether the members are trained once more, on all rows.
        seed: of everything random.
        progress: whether rounds are told on the standard error stream.

    Attributes:
        out_of_fold_: ``f64[n]``.
        model_, score_, trainings_, rounds_, stopped_: as of ``Classifier``.
    """

    _kind, _metric, _kinds = "regressor", "RMSE", ("regression",)

    def _target(self, y: Any, n: int) -> np.ndarray:
        found = tables.numbers(y, n)
        self._mean, self._scale = found.mean, found.scale
        return found.y

    def _judged(self, y: Any, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = (tables.values(y, rows).astype(np.float64) - self._mean) / self._scale
        return values.astype(np.float32), np.ones(rows, np.float32), self.model_.table.classes

    def _shown(self, out: np.ndarray) -> np.ndarray:
        return out[:, 0].astype(np.float64) * self._scale + self._mean

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Numbers, ``f64[n]``."""
        return self._shown(self._raw(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The share of explained variance, as scikit-learn has it."""
        return r_squared(y, self.predict(X), sample_weight)


def load(path: str | os.PathLike[str]) -> Classifier | Regressor:
    """Reads an estimator that was saved.

    Args:
        path: of the file; only arrays and a text are read, nothing in it is run.

    Returns:
        A ``Classifier`` or ``Regressor`` that predicts as the saved one does.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is damaged, of a newer version, or holds something else.
    """
    return files.load(path, {kind.__name__: kind for kind in (Classifier, Regressor)})
