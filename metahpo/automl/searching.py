"""What classifiers and regressors share: settings, the search, what it left, how it is told."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from metahpo import checks, strategies
from metahpo import space as spaces
from metahpo.automl import ensemble, explanation, files, summary, tables
from metahpo.automl.metrics import Metric, metric
from metahpo.automl.model import Member, Model, family_of, predict, without_rows
from metahpo.automl.models import DEFAULT, FAMILIES
from metahpo.automl.models.family import Family, Task
from metahpo.automl.protocol import Estimator, Self
from metahpo.automl.refitting import refit
from metahpo.automl.search import Found, StrategyMaker, search
from metahpo.automl.tables.padding import Table

LEAST_ROWS = 5


class Searching(Estimator):
    """An estimator that is found by a search; ``Classifier`` and ``Regressor`` say of what."""

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
        refit: bool = False,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.metric = metric
        self.budget = budget
        self.deadline = deadline
        self.models = models
        self.strategy = strategy
        self.folds = folds
        self.refit = refit
        self.seed = seed
        self.progress = progress

    @property
    def space(self) -> spaces.OneOf:
        """The whole space: a family of models, and its hyperparameters."""
        kind = self.model_.task.kind if hasattr(self, "model_") else self._kinds[0]
        names = DEFAULT if self.models is None else self.models
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
        names = list(DEFAULT if self.models is None else self.models)
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
        chosen = [(t, float(share)) for t, share in zip(found.trials, shares, strict=True) if share]
        members = tuple(Member(t.family, s, t.hparams, t.loss, t.weights) for t, s in chosen)
        used = {family_of(member.family).transform for member in members}
        statistics = {name: found.statistics[name] for name in sorted(used)}
        model = Model(task, members, statistics, table)
        if self.refit:
            model = refit(self.seed, model, [t.unit for t, _ in chosen], table, judge)
        if not any(family_of(member.family).keeps_data for member in members):
            model = model._replace(table=without_rows(model.table))
        self.model_ = model
        self._encoder = encoder
        self.n_features_in_ = len(encoder.rules)
        if columns.named:
            self.feature_names_in_ = np.array(columns.names, object)
        self.trials_ = [
            trial._replace(weights=None, out_of_fold=None, unit=np.zeros(0))
            for trial in found.trials
        ]
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
        return summary.leaderboard(self)

    def pipeline(self) -> str:
        """The chosen pipeline in words: columns, preprocessing, and members with their shares."""
        self._check_fitted()
        return summary.pipeline(self)

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
