"""Features in common units: centred, and at unit mean square norm.

    x̂ = (x − mean) · scale

scale is one number, as the dimensions of a network's features belong together. Columns that vary so much more or less than the others
that they must have another unit are brought to the spread of the middle one; where these are more than a few, the features are a table of
measurements, and each column is divided by its standard deviation. So no column rules the others, or is lost, because of its unit.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import fdtrc

from mmn_jax.errors import BadInput
from mmn_jax.types import Examples

FAR = 1e18  # what float32 still squares
LEAST = 8  # examples; fewer tell the spreads of columns too badly
GAP = 5.0  # how many times larger the spread of the next larger column is where another unit begins
APART = 10.0  # and how many times it differs from the middle column's: the dimensions of a network's features differ by less
SHARE = 0.1  # of the columns in other units than the rest; more are a table
FEW = 4  # columns that may be far smaller than the rest, or that share; more may be rounding, as empty principal components are,
ROUNDING = 1e-5  # where they are below this part of the largest spreads,
CHANCE = 1e-3  # unless they tell classes apart, by chance no more often than this
DEAD, STEPS = 1e-7, 8  # a spread of rounding in float16, in itself and beside the middle one, of so few different values at most
CHUNK = 4096  # examples whose squares are in memory at once


class Normalisation(NamedTuple):
    """x̂ = (x − mean) · scale, mean [d], scale [] or [d]. Refuses what lies so far out that float32 cannot score it."""

    mean: np.ndarray
    scale: np.ndarray | np.float32

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            scaled = ((x - self.mean) * self.scale).astype(np.float32)
        if not -FAR < scaled.min(initial=0) <= scaled.max(initial=0) < FAR:
            row = int(np.abs(scaled).max(1).argmax())
            raise BadInput(f"features: row {row} lies {FAR:.0e} times further out than the training features; is it damaged?")
        return scaled

    def of(self, examples: Examples) -> Examples:
        """The same examples, normalised."""
        return Examples(self(examples.x), examples.y)

    @property
    def by_column(self) -> bool:
        """Whether columns are scaled apart, as some have other units."""
        return np.ndim(self.scale) > 0


def normalisation(train: Examples) -> Normalisation:
    """The normalisation of training examples.

    Raises:
      BadInput: all examples are the same point, or so near each other or so far apart that float32 cannot tell.
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
    """[d] what each column is divided by, beside one number for all of them."""
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
    """[d] which columns vary by more than rounding."""
    varies = spread > 1e-12 * np.abs(mean)  # the rounding of the mean
    if not varies.any():
        return varies
    dead = varies & (spread <= min(DEAD, DEAD * np.median(spread[varies])))
    dead[dead] = [len(np.unique(train.x[:, column])) <= STEPS for column in np.flatnonzero(dead)]
    varies &= ~dead
    tiny = varies & (spread < ROUNDING * np.quantile(spread[varies], 1 - SHARE, method="lower"))
    return varies & (~tiny | _tells(train, mean, spread, tiny)) if tiny.sum() > max(FEW, SHARE * varies.sum()) else varies


def _tells(train, mean, spread, columns):
    """[d] in which of the columns the means of classes differ by more than chance lets them (F test of one-way analysis of variance)."""
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
