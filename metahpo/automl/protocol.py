"""scikit-learn's protocol of estimators, without scikit-learn."""

import inspect
from typing import Any

import numpy as np

from metahpo._extras import require
from metahpo.automl.tables.targets import of_sklearn

try:
    from typing import Self
except ImportError:  # pragma: no cover
    Self = Any  # type: ignore[assignment,misc]


class Estimator:
    """Parameters by name, a representation, and tags where scikit-learn asks for them."""

    _kind = ""

    @classmethod
    def _names(cls) -> list[str]:
        return sorted(name for name in inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as they were given; ``deep`` changes nothing."""
        del deep
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by name.

        Raises:
            ValueError: for a name that there is not.
        """
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(
                    f"there is no parameter {name!r} of {type(self).__name__}: {self._names()}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """With the parameters that differ from their defaults."""
        signature = inspect.signature(type(self)).parameters
        given = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not signature[name].default and value != signature[name].default
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know; it is the one who asks, so it is there."""
        utils = require("sklearn.utils", "automl")

        classifies = self._kind == "classifier"
        return utils.Tags(
            estimator_type=self._kind,
            target_tags=utils.TargetTags(required=True),
            transformer_tags=None,
            classifier_tags=utils.ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else utils.RegressorTags(),
            input_tags=utils.InputTags(string=True, categorical=True, allow_nan=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return hasattr(self, "model_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise of_sklearn("NotFittedError", ValueError)(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' first."
            )


def accuracy(y: Any, predicted: np.ndarray, weight: Any = None) -> float:
    """The share of labels that are right."""
    return float(np.average(np.asarray(y) == predicted, weights=weight))


def r_squared(y: Any, predicted: np.ndarray, weight: Any = None) -> float:
    """The share of the variance that is explained."""
    y = np.asarray(y, float)
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    error = np.average((y - predicted) ** 2, weights=weight)
    return float(1 - error / spread) if spread > 0 else float(error == 0)
