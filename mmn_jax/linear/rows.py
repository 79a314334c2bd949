"""TODO"""

import numpy as np


def centred(theta: np.ndarray) -> np.ndarray:
    """Rows [.., C, d+1] less their mean over classes: of all the rows that make this classifier, those of least norm."""
    return theta - theta.mean(-2, keepdims=True)


def predict_logits(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[n, C] logits of normalised features x [n, d] under rows theta [C, d+1]."""
    theta = np.asarray(theta)
    return x @ theta[:, :-1].T + theta[:, -1]


def log_prior(counts: np.ndarray) -> np.ndarray:
    """[C] log of the training share π of each class."""
    return np.log(counts / counts.sum())


def subtract_log_prior(theta: np.ndarray, tau: float, counts: np.ndarray) -> np.ndarray:
    """Rows [C, d+1] after post-hoc logit adjustment, b − τ log π (Menon et al. 2021, equation 9)."""
    adjusted = theta.copy()
    adjusted[:, -1] -= tau * log_prior(counts)
    return adjusted
