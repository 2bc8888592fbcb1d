"""What a search has found, in rows and in words."""

from typing import Any

from metahpo import report
from metahpo.automl.model import family_of


def leaderboard(estimator: Any) -> list[dict[str, Any]]:
    """The configurations of a fitted estimator; see its ``leaderboard``."""
    trials = estimator.trials_
    order = sorted(range(len(trials)), key=lambda i: trials[i].loss)
    best = trials[order[0]].fold_loss
    return [
        {
            "rank": rank,
            "model": trials[i].family,
            estimator._judge.name: estimator._unit(trials[i].loss),
            "worse by": report.interval(trials[i].fold_loss - best),
            "share": float(estimator.shares_[i]),
            "round": trials[i].round + 1,
            "hyperparameters": trials[i].hparams,
        }
        for rank, i in enumerate(order, 1)
    ]


def pipeline(estimator: Any) -> str:
    """The pipeline of a fitted estimator; see its ``pipeline``."""
    rules = estimator._encoder.rules
    kinds = [rule.kind for rule in rules]
    lines = [f"{len(rules)} columns"]
    for kind in ("number", "category", "date", "left out"):
        if kind in kinds:
            lines.append(f"  {kinds.count(kind)} {kind}")
    lines.append(f"ensemble, out-of-fold {estimator._judge.name} {estimator.score_:.4g}")
    for member in sorted(estimator.model_.members, key=lambda member: -member.weight):
        features = family_of(member.family).transform
        lines.append(
            f"  {member.weight:.3f}  {member.family} "
            f"({features} features; {values(member.hparams)})"
        )
    return "\n".join(lines)


def values(hparams: dict[str, Any]) -> str:
    """Hyperparameters in a line."""
    return ", ".join(f"{name} {value:.3g}" for name, value in hparams.items())
