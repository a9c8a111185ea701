"""The metric: any function of (targets, raw outputs). Set `higher_is_better = False` on it for a loss."""

import numpy as np


def balanced_accuracy(targets: np.ndarray, outputs: np.ndarray) -> float:
    """The mean over classes of the share of its rows that are found."""
    found = outputs.argmax(axis=1) == targets
    return float(np.mean([found[targets == label].mean() for label in np.unique(targets)]))
