"""Computes the row of a class that is added to a fitted classifier, from a few examples, its description, or both.

The class model (`class_model.py`) says where the mean of the class lies, given its examples; the prior of class means (`mean_prior.py`)
what the means of classes with similar descriptions add to that. A class without examples has its prior mean given the other classes,

    E[m | m̄] = ρ k (R + D/(s λ_j))⁻¹ m̄_j,    R = (1 − ρ) I + ρ K

where k holds the kernel of its description with those of the other classes.
"""

import numpy as np
from jaxtyping import Float, Int

from mmn_jax.linear.class_model import (
    ADDED,
    ClassModel,
    ClassStatistics,
    bayesian_rows,
    covariances,
    mean_rows,
    shrunk_model,
)
from mmn_jax.linear.mean_prior import fit_mean_prior, posterior_means, typical_decompositions
from mmn_jax.linear.relations import relations
from mmn_jax.linear.rows import centred, predict_logits

NOTHING = 1e-8  # number of examples that a class without any is given: its noise, 1 / NOTHING, is as good as infinite


def expected_means(
    model: ClassModel,
    means: Float[np.ndarray, "C r"],
    counts: Int[np.ndarray, " C"],
    descriptions: Float[np.ndarray, "C m"],
) -> Float[np.ndarray, "C r"]:
    """Returns the expected class means under the prior of their descriptions, for classes of which some have no example.

    Args:
      model: of the classes.
      means: observed class means in its coordinates; any numbers for a class without examples.
      counts: the number of examples of each class, 0 for some.
      descriptions: of the classes; zeros for a class without one.
    """
    counts, related = np.maximum(counts, NOTHING), relations(descriptions)
    decomposed = typical_decompositions(related, counts)
    return posterior_means(fit_mean_prior(np.asarray(model.spread), means, counts, related, decomposed), means, counts, decomposed)


def added_row(
    statistics: ClassStatistics,
    theta: Float[np.ndarray, "C p"],
    x: Float[np.ndarray, "k d"],
    descriptions: Float[np.ndarray, "C+1 m"] | None = None,
) -> Float[np.ndarray, " p"]:
    """Returns the row of a new class, to stand beside the rows of a head.

    It is the Bayesian row of the class, scaled by one number: with this factor, the class means of the other classes have the same mean
    score under their Bayesian rows as under theta.

    Args:
      statistics: of the classes of theta, not those of a span; a class that was added without examples has the count 0.
      theta: the rows of the head.
      x: normalised features of the new class's examples; none, if its description is to tell.
      descriptions: of the classes of theta and, in the last row, of the new class; None if only examples tell.
    """
    seen = statistics.counts > 0
    model = shrunk_model(covariances(ClassStatistics(statistics.counts[seen], statistics.means[seen], statistics.within)), ADDED)
    new = x.mean(0, dtype=float) if len(x) else model.centre
    means, counts = np.vstack([statistics.means, new]), np.append(statistics.counts, len(x))
    if descriptions is None:
        rows = bayesian_rows(model, means, counts)
    else:
        rows = mean_rows(model, expected_means(model, (means - model.centre) @ model.basis, counts, descriptions))
    known = rows[:-1]
    ours, theirs = (np.diag(predict_logits(centred(some), statistics.means))[seen].mean() for some in (theta, known))
    return theta.mean(0) + ours / max(theirs, 1e-12) * (rows[-1] - known.mean(0))
