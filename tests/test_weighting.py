"""Each baseline is the weighting it says it is."""

import jax
import numpy as np
import pytest

from mmn_jax.errors import BadInput
from mmn_jax.linear import weighting

Y = np.repeat([0, 1, 2], [12, 5, 2]).astype(np.int32)
COUNTS = np.array([12, 5, 2])


def by_class(weight):
    return np.bincount(Y, weights=weight)


def test_over_sampling_fills_every_class_up_and_keeps_every_example():
    drawn = weighting.over_sampling(jax.random.key(0), Y, COUNTS)
    np.testing.assert_array_equal(by_class(drawn.weight), [12, 12, 12])
    assert drawn.weight.min() >= 1 and np.all(drawn.weight == np.round(drawn.weight))


def test_over_sampling_is_on_average_the_inverse_frequency_weighting():
    draws = [weighting.over_sampling(jax.random.key(i), Y, COUNTS).weight for i in range(200)]
    np.testing.assert_allclose(np.mean(draws, 0), COUNTS.max() / COUNTS[Y], rtol=0.15)


def test_under_sampling_caps_at_the_median():
    drawn = weighting.under_sampling(jax.random.key(0), Y, COUNTS)
    np.testing.assert_array_equal(by_class(drawn.weight), [5, 5, 2])
    assert set(drawn.weight) <= {0.0, 1.0}


def test_cost_sensitive_gives_every_class_the_same_weight():
    totals = by_class(weighting.cost_sensitive(jax.random.key(0), Y, COUNTS).weight)
    np.testing.assert_allclose(totals, totals[0])


@pytest.mark.parametrize("method", [weighting.plain, weighting.over_sampling, weighting.under_sampling, weighting.cost_sensitive])
def test_the_same_key_draws_the_same_weights(method):
    first, second = (method(jax.random.key(3), Y, COUNTS) for _ in range(2))
    np.testing.assert_array_equal(first.weight, second.weight)
    assert first.weight.shape == Y.shape and first.offset.shape == COUNTS.shape


@pytest.mark.parametrize(
    ("weight", "offset", "named"),
    [
        (np.ones(3), np.zeros(3), "weight: must be 19 finite numbers"),
        (np.full(19, np.nan), np.zeros(3), "weight: must be 19 finite numbers from 0 up"),
        (-np.ones(19), np.zeros(3), "weight: must be 19 finite numbers from 0 up"),
        (np.zeros(19), np.zeros(3), "not all 0"),
        (np.ones(19), 0.0, "offset: must be 3 finite numbers"),
        (np.ones(19), np.zeros(19), "offset: must be 3 finite numbers"),
        (np.ones(19), np.array([0, -np.inf, 0]), "offset: must be 3 finite numbers"),
    ],
)
def test_what_is_no_weighting_is_refused(weight, offset, named):
    with pytest.raises(BadInput, match=named):
        weighting.checked(weighting.Weighting(weight, offset), len(Y), len(COUNTS))
