"""How far a loss is from the best one, on a scale that all problems share."""

import chex


def normalised_regret(
    loss: chex.Numeric, best: chex.Numeric, reference: chex.Numeric
) -> chex.Numeric:
    """``(loss - best) / (reference - best)``: 0 for the best one, 1 for the reference.

    Of a table the reference is the median configuration, and the loss that of the incumbent under
    ``tabular(table, repeats="mean")``: what a search saw of it is the luckiest of its repeats.  Of
    a surrogate it is the worst value on record.

    Args:
        loss: any shape.
        best: the known optimum.
        reference: another loss, above ``best``.

    Example:
        >>> normalised_regret(0.25, best=0.0, reference=0.5)
        0.5
    """
    return (loss - best) / (reference - best)
