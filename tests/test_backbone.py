"""The network of our own: its distortions, its schedule, and that it learns and gives the same network again."""

import jax
import numpy as np
import pytest

from mmn_jax.data import backbone
from mmn_jax.data.backbone import Recipe, Strength

STILL = Strength(0.0, 0.0, 0.0, 0.0, 0.0)
SMALL = Recipe(dim=8, widths=(4, 8), epochs=60.0, rate=1e-2, held_out=0.2)  # as in test_features_stage.py


def bars(n, seed=0):
    """uint8 [n, 16, 16, 1] and labels: a bar that lies or stands, left or right, or above or below the middle."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros((n, 16, 16, 1), np.uint8), rng.integers(0, 4, n).astype(np.int32)
    for image, label, at in zip(x, y, rng.integers(2, 5, n), strict=True):
        line = at if label % 2 == 0 else 15 - at
        image[(line, slice(3, 13)) if label < 2 else (slice(3, 13), line)] = 255
    return x, y


def centre(image):
    weights = image.astype(float).reshape(16, 16)
    return np.array([(weights.sum(1 - axis) * np.arange(16)).sum() for axis in (0, 1)]) / weights.sum()


def blob():
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[0, 6:10, 5:11] = 255
    return image


def test_without_strength_nothing_is_distorted():
    x = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 1)).astype(np.uint8)
    np.testing.assert_array_equal(backbone.distort(jax.random.key(0), x, STILL), x)


def test_each_image_is_distorted_in_its_own_way_and_again_the_same():
    x = np.repeat(blob(), 64, 0)
    one, two = (np.asarray(backbone.distort(jax.random.key(seed), x, Strength())) for seed in (0, 0))
    np.testing.assert_array_equal(one, two)
    assert len({image.tobytes() for image in one}) == 64 and one.dtype == np.uint8


@pytest.mark.parametrize("field", Strength._fields)
def test_each_distortion_does_what_its_name_says_and_no_more_than_its_strength(field):
    x, strength = np.repeat(blob(), 64, 0), STILL._replace(**{field: 0.2})
    made = np.asarray(backbone.distort(jax.random.key(1), x, strength))
    moved = np.abs([centre(image) - centre(x[0]) for image in made])
    ink = made.sum((1, 2, 3)) / x[0].sum()
    if field == "shift":
        assert 1.0 < moved.max() <= 0.2 * 16 + 0.1 and np.abs(ink - 1).max() < 0.02
    else:
        assert moved.max() < 0.1 and (made != x).any()
    if field == "scale":
        assert 0.64 < ink.min() < 0.9 < 1.1 < ink.max() < 1.55
    if field == "weight":  # a rim of one pixel around 4 by 6 has 24 of them, and their corners; its own rim has 16
        assert 1 - 0.2 * 16 / 24 - 0.01 < ink.min() < 0.95 < 1.05 < ink.max() < 1 + 0.2 * 24 / 24 + 0.01
    if field in ("turn", "slant"):
        assert np.abs(ink - 1).max() < 0.05


def test_the_rate_goes_up_to_its_peak_and_down():
    rates = backbone.one_cycle(100, 2.0)
    assert rates.dtype == np.float32 and abs(rates.max() - 2.0) < 0.01 and rates.argmax() in (29, 30)
    assert (np.diff(rates[:30]) > 0).all() and (np.diff(rates[30:]) < 0).all() and 0 < rates[-1] < 0.01


def test_every_image_comes_once_before_any_comes_again():
    rows = backbone.orders(jax.random.key(0), 10, 7, 4).reshape(-1)
    assert [sorted(rows[i : i + 10].tolist()) for i in (0, 10)] == [list(range(10))] * 2 and len(set(rows[20:].tolist())) == 8
    assert rows[:10].tolist() != rows[10:20].tolist()


@pytest.fixture(scope="module")
def trained():
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        x, y = bars(320)
        return backbone.pretrain(jax.random.key(0), x, y, SMALL)


def test_the_network_learns_what_it_is_shown(trained):
    assert trained.accuracy > 0.9 and len(trained.losses) == 60 * 256 / 128 and trained.losses[-10:].mean() < trained.losses[:10].mean() / 2
    network = backbone.network_of(trained.variables)
    assert (network.dim, network.widths, network.classes) == (8, (4, 8), 4)


def test_features_tell_classes_apart_that_it_was_not_trained_on(trained):
    x, y = bars(200, seed=1)
    given = np.asarray(jax.jit(backbone.features)(trained.variables, np.repeat(x, 3, 3)))
    assert given.shape == (200, 8) and given.dtype == np.float32
    means = np.stack([given[y == c].mean(0) for c in range(4)])
    assert (((given[:, None] - means) ** 2).sum(2).argmin(1) == y).mean() > 0.9


def test_the_same_key_gives_the_same_network(trained):
    with jax.numpy_dtype_promotion("standard"):
        again = backbone.pretrain(jax.random.key(0), *bars(320), SMALL)
    jax.tree.map(np.testing.assert_array_equal, again.variables, trained.variables)
