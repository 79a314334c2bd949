"""Rows θ [C, p] of a head in numpy: their logits, their centring over classes, and post-hoc logit adjustment."""

import numpy as np
from jaxtyping import Float, Int

from mmn_jax.linear.algebra import AnyArray


def centred(theta: Float[np.ndarray, "*batch C p"]) -> Float[np.ndarray, "*batch C p"]:
    """Returns rows less their mean over classes: of all rows that define the same classifier, those of least norm."""
    return theta - theta.mean(-2, keepdims=True)


def predict_logits(theta: Float[AnyArray, "C p"], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n C"]:
    """Returns the logits of normalised features x."""
    theta = np.asarray(theta)
    return x @ theta[:, :-1].T + theta[:, -1]


def log_prior(counts: Int[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
    """Returns log π, where π_c is the share of class c in the training set."""
    return np.log(counts / counts.sum())


def subtract_log_prior(theta: Float[np.ndarray, "C p"], tau: float, counts: Int[np.ndarray, " C"]) -> Float[np.ndarray, "C p"]:
    """Returns rows after post-hoc logit adjustment, with biases b − τ log π (Menon et al. 2021, equation 9)."""
    adjusted = theta.copy()
    adjusted[:, -1] -= tau * log_prior(counts)
    return adjusted


def unit(vectors: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    """Divides each vector by its norm; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
