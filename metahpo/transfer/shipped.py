"""Experience that comes with the package, for those who have none of their own yet."""

from pathlib import Path

from metahpo import checks
from metahpo.transfer.experience import Experience
from metahpo.transfer.files import load

LEARNERS = ("mlp", "random_forest", "svc")
"""Learners of which there is experience."""

FOLDER = Path(__file__).with_name("shipped_experience")
"""Of the files."""


def shipped_experience(learner: str) -> Experience:
    """What the package knows of a learner: the balanced errors of 32 configurations on 41 tables.

    ========================  =====================================================================
    ``"mlp"``                 a perceptron of one or two hidden layers of rectified units with
                              dropout, on standardised inputs, trained for 200 steps of AdamW on
                              batches of 32, the rate falling to zero by a cosine
    ``"random_forest"``       scikit-learn's ``RandomForestClassifier`` of 32 trees
    ``"svc"``                 scikit-learn's ``SVC`` with its Gaussian kernel, on standardised
                              inputs
    ========================  =====================================================================

    The first configuration is one that users would start with.  The tables are scikit-learn's
    bundled ones and generated ones, to classify, of 141 to 600 rows and 2 to 64 columns of numbers
    without gaps, half of the rows in training.  So it is a start for small tables of this kind.
    Larger tables, texts, gaps or regression are unlike all of it, which ``distance`` tells; tune
    there, and join what comes out (``joined``).  ``python -m experiments.shipped_experience``
    makes it.

    Args:
        learner: one of ``"mlp"``, ``"random_forest"`` and ``"svc"``.

    Returns:
        An ``Experience`` with the descriptors of ``describe``.

    Raises:
        ValueError: for another learner.

    Example:
        >>> past = shipped_experience("svc")
        >>> sorted(past.hparams([0])[0]), past.names[:2]
        (['C', 'class_weight', 'gamma'], ('class_prob_max', 'class_prob_mean'))
    """
    checks.one_of("learner", learner, LEARNERS)
    return load(FOLDER / f"{learner}.npz")
