"""Normalises features: centred, in common units, and with a mean square norm of 1.

    x̂ = (x − mean) · scale

scale is one number if columns are in one unit, as the dimensions of a network's features are. Columns whose standard deviation differs so
much from the others' that they must have another unit are scaled to the median standard deviation. If these are more than a few, the
features are taken for a table of measurements, and each column is divided by its standard deviation. So no column dominates the others, or
is lost, because of its unit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy.special import fdtrc

from mmn_jax.errors import BadInput, warn
from mmn_jax.types import Examples, Knowledge, Normalised

# A spread is the standard deviation of a column.
FAR = 1e18  # float32 can still square it
LEAST = 8  # examples that spreads can be estimated from
GAP = 5.0  # another unit begins where sorted spreads jump by this factor,
APART = 10.0  # if they also differ from the median spread by this one; the dimensions of a network's features differ by less
SHARE = 0.1  # of the columns, at most, may be in other units; with more, the features are a table
FEW = 4  # columns, or SHARE of them, may have far smaller spreads; more are rounding, such as empty principal components,
ROUNDING = 1e-5  # if their spreads are below this part of the largest ones,
CHANCE = 1e-3  # and they don't separate classes at this level of significance
DEAD, STEPS = 1e-7, 8  # rounding of float16: a spread below DEAD, in itself and relative to the median, and at most STEPS distinct values
LOOSE = 30.0  # how many times the mean square norm of normalised features may be off, as it is in a small part of a set
CHUNK = 4096  # examples whose squares are in memory at once


class Normalisation(NamedTuple):
    """x̂ = (x − mean) · scale, where scale is one number or one for each column."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"] | np.float32

    def __call__(self, x: Real[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Normalises features, to float32.

        Raises:
          BadInput: a row is so far from the training features that float32 can't score it.
        """
        with np.errstate(over="ignore"):
            scaled = ((x - self.mean) * self.scale).astype(np.float32)
        if not -FAR < scaled.min(initial=0) <= scaled.max(initial=0) < FAR:
            row = int(np.abs(scaled).max(1).argmax())
            raise BadInput(f"features: row {row} lies {FAR:.0e} times further out than the training features; is it damaged?")
        return scaled

    def of(self, examples: Examples) -> Normalised:
        """Returns the examples with normalised features."""
        return Normalised(self(examples.x), examples.y)

    def of_known(self, knowledge: Knowledge) -> Knowledge:
        """Returns what is known of the classes, with normalised features of the examples without labels."""
        pool = knowledge.unlabelled
        return knowledge if pool is None else knowledge._replace(unlabelled=self(pool))

    @property
    def by_column(self) -> bool:
        """Whether each column has a scale of its own, as some are in other units."""
        return np.ndim(self.scale) > 0


def warn_unless_normalised(x: Float[np.ndarray, "n d"]) -> None:
    """Warns of features that are far from a mean of 0 and a mean square norm of 1, on which the ridges' grids and the units rest."""
    square, centre = float(np.mean(np.sum(x**2, 1, dtype=float))), float(np.sum(x.mean(0, dtype=float) ** 2))
    if not (1 / LOOSE < square < LOOSE and centre < 0.5 * square):
        warn(f"x: isn't normalised (mean square norm {square:.2g}, square norm of the mean {centre:.2g}); see mmn_jax.normalisation")


def normalisation(train: Examples) -> Normalisation:
    """Returns the normalisation that brings training examples to mean 0 and a mean square norm of 1.

    Raises:
      BadInput: all examples are the same point, or their distances are beyond the range of float32.
    """
    x = train.x
    if (x == x[0]).all():
        raise BadInput("train_x: every example is the same point, there is nothing to learn from")
    mean = x.mean(0, dtype=np.float64)
    variance = sum((((x[i : i + CHUNK] - mean) ** 2).sum(0) for i in range(0, len(x), CHUNK)), np.zeros(len(mean))) / len(x)
    spread = np.sqrt(variance)
    distance = np.sqrt(variance.sum())
    if not 1 / FAR < distance < FAR:
        raise BadInput(f"train_x: its examples lie {distance:.0e} from their mean; multiply all features to bring that near 1")
    units, scale = _units(train, mean, spread), np.float32(1 / distance)
    if (units != 1).any():
        scale = (1 / (units * np.sqrt(((spread / units) ** 2).sum()))).astype(np.float32)
    return Normalisation(mean.astype(x.dtype if x.dtype == np.float64 else np.float32), scale)


def _units(train, mean, spread):
    """Returns the unit [d] that each column is divided by, up to one factor for all columns."""
    varies = _varies(train, mean, spread)
    if len(train.x) < LEAST or not varies.any():
        return np.ones(len(spread))
    ordered = np.sort(spread[varies])
    middle, gaps = ordered[len(ordered) // 2], ordered[1:] > GAP * ordered[:-1]
    above, below = ordered[1:][gaps & (ordered[1:] > APART * middle)], ordered[:-1][gaps & (APART * ordered[:-1] < middle)]
    outside = varies & ((spread >= above.min(initial=np.inf)) | (spread <= below.max(initial=0.0)))
    table = outside.sum() > SHARE * varies.sum()
    return np.where(varies if table else outside, spread / middle, 1.0)


def _varies(train, mean, spread):
    """Returns the mask [d] of columns that vary by more than rounding."""
    varies = spread > 1e-12 * np.abs(mean)  # the rounding of the mean
    if not varies.any():
        return varies
    dead = varies & (spread <= min(DEAD, DEAD * np.median(spread[varies])))
    dead[dead] = [len(np.unique(train.x[:, column])) <= STEPS for column in np.flatnonzero(dead)]
    varies &= ~dead
    tiny = varies & (spread < ROUNDING * np.quantile(spread[varies], 1 - SHARE, method="lower"))
    return varies & (~tiny | _separates(train, mean, spread, tiny)) if tiny.sum() > max(FEW, SHARE * varies.sum()) else varies


def _separates(train, mean, spread, columns):
    """Returns the mask [d] of those of the columns whose class means differ significantly (F test of one-way analysis of variance)."""
    counts = np.bincount(train.y)
    sums = np.zeros((len(counts), int(columns.sum())))
    np.add.at(sums, train.y, (train.x[:, columns] - mean[columns]) / spread[columns])
    used, total = counts > 0, len(train.y)
    between = (sums[used] ** 2 / counts[used, None]).sum(0)
    classes = int(used.sum())
    if classes < 2 or total <= classes:
        return np.zeros(len(spread), bool)
    ratio = between / (classes - 1) / np.maximum((total - between) / (total - classes), 1e-12)
    found = np.zeros(len(spread), bool)
    found[columns] = fdtrc(classes - 1, total - classes, ratio) < CHANCE / columns.sum()
    return found
