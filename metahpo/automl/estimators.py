"""``Classifier`` and ``Regressor``: model, preprocessing and hyperparameters as one search."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from metahpo import checks, report, strategies
from metahpo import space as spaces
from metahpo.automl import ensemble, explanation, files, tables
from metahpo.automl.metrics import Metric, metric
from metahpo.automl.model import Member, Model, family_of, predict, without_rows
from metahpo.automl.models import FAMILIES
from metahpo.automl.models.family import Family, Task
from metahpo.automl.protocol import Estimator, Self, accuracy, r_squared
from metahpo.automl.search import Found, StrategyMaker, search
from metahpo.automl.tables.padding import Table

LEAST_ROWS = 5


class _AutoML(Estimator):
    """What classifiers and regressors share."""

    _metric = ""

    def __init__(
        self,
        *,
        metric: str | None = None,
        budget: int = 64,
        deadline: float | None = None,
        models: Sequence[str] | None = None,
        strategy: StrategyMaker | None = None,
        folds: int = 5,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.metric = metric
        self.budget = budget
        self.deadline = deadline
        self.models = models
        self.strategy = strategy
        self.folds = folds
        self.seed = seed
        self.progress = progress

    @property
    def space(self) -> spaces.OneOf:
        """The whole space: a family of models, and its hyperparameters."""
        kind = self.model_.task.kind if hasattr(self, "model_") else self._kinds[0]
        names = FAMILIES if self.models is None else self.models
        found = {name: FAMILIES[name] for name in names}
        return spaces.OneOf({n: f.space(kind) for n, f in found.items() if kind in f.kinds})

    _kinds: tuple[str, ...] = ()

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:  # noqa: N803
        """Searches, and keeps an ensemble of what was found.

        Args:
            X: a data frame, a mapping of columns, or an array ``[n, columns]``: numbers, texts,
                categories, dates, truth values; missing values are NaN or ``None``.
            y: ``[n]``.
            sample_weight: ``[n]``, at least 0, of rows in training and in the metric.
            groups: ``[n]``; rows of a group validate together.

        Returns:
            Itself.

        Raises:
            ValueError: for infinite numbers, a single class, a constant target, fewer rows than
                folds, columns that say nothing, and arguments that are none.
        """
        judge = self._settings()
        columns = tables.read(X)
        n = columns.rows
        self._check_size(n)
        y = self._target(y, n)
        weight = _weights(sample_weight, n)
        encoder = tables.learn(columns)
        x, codes = tables.encode(encoder, columns)
        if not x.shape[1] + codes.shape[1]:
            why = {rule.name: rule.why for rule in encoder.rules}
            raise ValueError(f"no column of X says anything about y, got {why}")
        labels = y if self._kind == "classifier" else None
        fold = tables.folds(n, min(self.folds, n), self.seed, labels, groups)
        table = tables.pad(x, codes, y, weight, fold, len(getattr(self, "classes_", (0,))))
        task = self._task(table)
        families = self._families(task, n, x.shape[1] + codes.shape[1] * task.outputs)
        found = search(
            self.seed,
            table,
            task,
            judge,
            families,
            budget=checks.whole("budget", self.budget),
            deadline=self.deadline,
            strategy=strategies.random if self.strategy is None else self.strategy,
            progress=_tell if self.progress else None,
        )
        self._keep(columns, encoder, table, task, judge, found)
        return self

    def _settings(self) -> Metric:
        """Refuses what is no setting, before anything is computed."""
        checks.whole("budget", self.budget)
        checks.whole("folds", self.folds, at_least=2)
        checks.whole("seed", self.seed, at_least=0)
        if self.deadline is not None:
            checks.positive(deadline=self.deadline)
        return metric(self._metric if self.metric is None else self.metric, bool(self._classifies))

    @property
    def _classifies(self) -> bool:
        return self._kind == "classifier"

    def _check_size(self, n: int) -> None:
        if n < LEAST_ROWS:
            raise ValueError(
                f"there must be at least {LEAST_ROWS} rows, got n_samples = {n} "
                f"({n} sample{'s' if n != 1 else ''})"
            )

    def _families(self, task: Task, rows: int, columns: int) -> list[Family]:
        names = list(FAMILIES) if self.models is None else list(self.models)
        for name in names:
            checks.one_of("models", name, tuple(FAMILIES))
        known = [FAMILIES[name] for name in names if task.kind in FAMILIES[name].kinds]
        fitting = [f for f in known if rows <= f.rows and columns <= f.columns]
        if not fitting:
            raise ValueError(
                f"no model of {names} is for a {task.kind} of {rows} rows and {columns} columns"
            )
        return fitting

    def _task(self, table: Table) -> Task:
        width, folds = len(table.classes), int(table.fold.max()) + 1
        if not self._classifies:
            return Task("regression", folds, 1)
        return Task("binary", folds, 1) if width == 2 else Task("multiclass", folds, width)

    def _target(self, y: Any, n: int) -> np.ndarray:
        raise NotImplementedError

    def _keep(
        self,
        columns: tables.Columns,
        encoder: tables.Encoder,
        table: Table,
        task: Task,
        judge: Metric,
        found: Found,
    ) -> None:
        n, self._judge = columns.rows, judge
        outs = np.stack([np.asarray(trial.out_of_fold) for trial in found.trials])
        shares, losses = ensemble.greedy(outs, table, judge)
        members = tuple(
            Member(t.family, float(share), t.hparams, t.loss, t.weights)
            for t, share in zip(found.trials, shares, strict=True)
            if share > 0
        )
        needed = any(family_of(member.family).keeps_data for member in members)
        used = {family_of(member.family).transform for member in members}
        statistics = {name: found.statistics[name] for name in sorted(used)}
        kept = table if needed else without_rows(table)
        self.model_ = Model(task, members, statistics, kept)
        self._encoder = encoder
        self.n_features_in_ = len(encoder.rules)
        if columns.named:
            self.feature_names_in_ = np.array(columns.names, object)
        self.trials_ = [trial._replace(weights=None, out_of_fold=None) for trial in found.trials]
        self.shares_ = shares
        self.rounds_ = list(found.rounds)
        self.trainings_ = len(found.trials)
        self.stopped_ = found.stopped
        self.seconds_ = found.seconds
        self.loss_ = float(losses.min())
        self.out_of_fold_ = self._shown(np.tensordot(shares, np.nan_to_num(outs), 1)[:n])

    def _shown(self, out: np.ndarray) -> np.ndarray:
        """Chances or numbers as the user has them."""
        raise NotImplementedError

    def _judged(self, y: Any, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets as the metric takes them, weights, and which classes there are."""
        raise NotImplementedError

    def _raw(self, X: Any) -> np.ndarray:  # noqa: N803
        self._check_fitted()
        return predict(self.model_, *tables.encode(self._encoder, tables.read(X)))

    @property
    def score_(self) -> float:
        """The metric of the ensemble's out-of-fold predictions."""
        return self._unit(self.loss_)

    def _unit(self, loss: float) -> float:
        judge = self._judge
        scale = getattr(self, "_scale", 1.0) if judge.name in ("RMSE", "MAE") else 1.0
        return judge.score(loss) * scale

    def leaderboard(self) -> list[dict[str, Any]]:
        """What was tried, the best first.

        Returns:
            Of every configuration its rank, family, hyperparameters, the metric of its out-of-fold
            predictions, how much worse its loss is than that of the best (the mean over folds with
            a 95 % interval of the paired differences; folds share training rows, so it is rather
            narrow), its share of the ensemble, and its round.
        """
        self._check_fitted()
        order = sorted(range(len(self.trials_)), key=lambda i: self.trials_[i].loss)
        best = self.trials_[order[0]].fold_loss
        judge = self._judge
        rows = []
        for rank, i in enumerate(order, 1):
            trial = self.trials_[i]
            rows.append(
                {
                    "rank": rank,
                    "model": trial.family,
                    judge.name: self._unit(trial.loss),
                    "worse by": report.interval(trial.fold_loss - best),
                    "share": float(self.shares_[i]),
                    "round": trial.round + 1,
                    "hyperparameters": trial.hparams,
                }
            )
        return rows

    def pipeline(self) -> str:
        """The chosen pipeline in words: columns, preprocessing, and members with their shares."""
        self._check_fitted()
        lines = [f"{len(self._encoder.rules)} columns"]
        kinds = [rule.kind for rule in self._encoder.rules]
        for kind in ("number", "category", "date", "left out"):
            if kind in kinds:
                lines.append(f"  {kinds.count(kind)} {kind}")
        score = f"{self.score_:.4g}"
        lines.append(f"ensemble, out-of-fold {self._judge.name} {score}")
        for member in sorted(self.model_.members, key=lambda member: -member.weight):
            values = ", ".join(f"{name} {value:.3g}" for name, value in member.hparams.items())
            transform = family_of(member.family).transform
            lines.append(f"  {member.weight:.3f}  {member.family} ({transform} features; {values})")
        return "\n".join(lines)

    def explain(self, X: Any, y: Any, repeats: int = 5, seed: int = 0) -> list[dict[str, Any]]:  # noqa: N803
        """Permutation importances of the columns, on rows of the user's choice.

        Args:
            X: rows that were not trained on, best.
            y: their targets.
            repeats: permutations of each column.
            seed: of the permutations.

        Returns:
            Of every column how much the loss rises when its values are exchanged among the rows:
            the mean over repeats with a 95 % interval, the most important first.
        """
        self._check_fitted()
        return explanation.importances(self, X, y, checks.whole("repeats", repeats), seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the estimator into one NPZ file, without pickle; ``mh.automl.load`` reads it."""
        self._check_fitted()
        files.save(path, self)


class Classifier(_AutoML):
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
        models: names of ``mh.automl.FAMILIES``, all that suit the table by default.
        strategy: ``(space, population) -> Strategy`` within each family, ``mh.strategies.random``
            by default.
        folds: of the cross-validation, stratified.
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


class Regressor(_AutoML):
    """Finds a regression of a table; in all else as ``Classifier``.

    Args:
        metric: ``"RMSE"`` (the default), ``"MAE"`` or ``"R2"``.
        budget: configurations to try; each is trained on every fold.
        deadline: seconds after which no further round begins.
        models: names of ``mh.automl.FAMILIES``, all that suit the table by default.
        strategy: ``(space, population) -> Strategy`` within each family.
        folds: of the cross-validation.
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


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _weights(weight: Any, n: int) -> np.ndarray:
    if weight is None:
        return np.ones(n)
    found = np.asarray(weight, float)
    if found.ndim == 0:
        found = np.full(n, float(found))
    if found.shape != (n,):
        raise ValueError(
            f"sample_weight must be one a row, [{n}], got the shape {found.shape}; "
            "Sample weights must be 1D array or scalar"
        )
    if not np.isfinite(found).all() or (found < 0).any():
        raise ValueError(f"sample_weight must be finite and at least 0, got {found.min()}")
    if not found.any():
        raise ValueError("sample_weight must not be zero in every row")
    return found
