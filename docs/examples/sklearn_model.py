"""A scikit-learn model, cross-validated by several threads, for at most a minute."""

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score

import metahpo as mh


def main(rounds=8, workers=2, seconds=60.0, directory=None):
    x, y = load_breast_cancer(return_X_y=True)
    space = {
        "learning_rate": mh.Float(0.01, 1.0, log=True),
        "max_leaf_nodes": mh.Int(2, 64, log=True),
        "l2_regularization": mh.Float(1e-6, 10.0, log=True),
        "max_features": mh.Float(0.1, 1.0, step=0.1),
    }

    def error(hparams):
        model = HistGradientBoostingClassifier(max_iter=40, random_state=0, **hparams)
        return 1 - cross_val_score(model, x, y, cv=3).mean()

    result = mh.minimize(
        error,
        space,
        mh.strategies.differential_evolution(space, population=6),
        rounds=rounds,
        seed=0,
        workers=workers,
        seconds=seconds,
        directory=directory,
    )
    print("best:", result.best_hparams)
    print(f"cross-validated error {result.best_loss:.4f} after {result.evaluations} models")
    return result


if __name__ == "__main__":
    main()
