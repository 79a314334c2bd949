"""The prior of class means against dense formulas, and what descriptions and unlabelled examples do for classes that are made up for it."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mmn_jax.linear import mean_prior
from mmn_jax.linear import relations as relations_module
from mmn_jax.linear.class_model import Shrinkage, bayesian_rows, class_model, class_statistics, mean_rows
from mmn_jax.linear.mean_prior import MeanPrior, fit_mean_prior, informed_rows, posterior_means, typical_classes, with_unlabelled
from mmn_jax.linear.relations import Relations, related_means, relations
from mmn_jax.types import Normalised

CLASSES, DIM = 40, 24
COUNTS = np.repeat([60, 30, 4, 1], 10)
SHRINKAGE = Shrinkage(0.1, 0.3)


def described_classes(related=0.95, seed=0):
    """Class means that follow a linear map of descriptions, but for a share 1 − `related` of their variance."""
    rng = np.random.default_rng(seed)
    descriptions = rng.normal(size=(CLASSES, 4))
    told = descriptions @ rng.normal(size=(4, DIM)) / 2
    return descriptions, 0.25 * (np.sqrt(related) * told + np.sqrt(1 - related) * rng.normal(size=(CLASSES, DIM)))


def draw(means, counts, seed=1, scatter=0.2):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(means)), counts).astype(np.int32)
    return Normalised((means[y] + scatter * rng.normal(size=(len(y), means.shape[1]))).astype(np.float32), y)


def accuracy(rows, test, least=0):
    right = (test.x @ rows[:, :-1].T + rows[:, -1]).argmax(1) == test.y
    return 100 * right[test.y >= least].mean()


def whitened(train):
    model = class_model(train, SHRINKAGE)
    statistics = class_statistics(train)
    return model, statistics, (statistics.means - model.centre) @ model.basis


def test_without_a_kernel_and_at_scale_1_the_rows_are_the_bayesian_ones():
    model, statistics, means = whitened(draw(described_classes()[1], COUNTS))
    prior = MeanPrior(model.spread, np.zeros(DIM), None)
    rows = mean_rows(model, posterior_means(prior, means, statistics.counts.astype(float)))
    np.testing.assert_allclose(rows, bayesian_rows(model, statistics.means, statistics.counts), rtol=1e-6, atol=1e-8)
    unrelated = Relations(np.zeros((CLASSES, 2)), np.ones(CLASSES))  # a kernel that relates no classes says nothing
    with_kernel = prior._replace(related=unrelated, share=np.full(DIM, 0.5))
    np.testing.assert_allclose(mean_rows(model, posterior_means(with_kernel, means, statistics.counts.astype(float))), rows, atol=1e-8)


@pytest.mark.parametrize("decomposed", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_posterior_means_are_those_of_the_dense_formula(share, decomposed, monkeypatch):
    descriptions, means = described_classes()
    descriptions[3] = 0
    related, counts = relations(descriptions), np.linspace(0.3, 9, CLASSES)
    prior = MeanPrior(np.geomspace(0.01, 5, DIM), np.full(DIM, share), related)
    monkeypatch.setattr(relations_module, "MANY", CLASSES if decomposed else 1)
    found = posterior_means(prior, means, counts)
    relation = (1 - share) * np.eye(CLASSES) + share * related.kernel()
    for j in (0, 11, DIM - 1):
        covariance = prior.variance[j] * relation
        np.testing.assert_allclose(found[:, j], covariance @ np.linalg.solve(covariance + np.diag(1 / counts), means[:, j]), atol=1e-10)


def test_the_prior_that_is_chosen_is_the_most_likely_of_its_grid(monkeypatch):
    monkeypatch.setattr(mean_prior, "FIRST_BAND", DIM)  # one band: a grid of scales and shares
    descriptions, means = described_classes()
    related, spread, counts = relations(descriptions), np.geomspace(0.02, 0.2, DIM), COUNTS.astype(float)
    prior = fit_mean_prior(spread, means, counts, related)

    def log_likelihood(scale, share):
        relation = (1 - share) * np.eye(CLASSES) + share * related.kernel()
        each = [np.zeros(CLASSES), scale * relation]
        return sum(multivariate_normal(each[0], each[1] * spread[j] + np.diag(1 / counts)).logpdf(means[:, j]) for j in range(DIM))

    likely = {(scale, share): log_likelihood(scale, share) for scale in mean_prior.SCALES for share in mean_prior.SHARES}
    scale, share = max(likely, key=likely.get)
    np.testing.assert_allclose(prior.variance, scale * spread)
    np.testing.assert_array_equal(prior.share, np.full(DIM, share))
    assert share >= 0.5


def test_many_classes_give_what_decompositions_do(monkeypatch):
    rng, classes, dim = np.random.default_rng(0), 600, 96
    descriptions = rng.normal(size=(classes, 8)) @ rng.normal(size=(8, 48)) + 0.5 * rng.normal(size=(classes, 48))
    counts, variance = np.geomspace(1, 800, classes), np.geomspace(5, 1e-4, dim)
    means = rng.normal(size=(classes, dim)) * np.sqrt(variance + 1 / counts[:, None])
    share = np.repeat([0.97, 0.5, 0.1, 0.0], dim // 4)
    exact = related_means(variance, share, relations(descriptions), means, counts)
    monkeypatch.setattr(relations_module, "MANY", 10)
    found = related_means(variance, share, relations(descriptions), means, counts)
    np.testing.assert_allclose(found, exact, atol=1e-7 * np.abs(exact).max())


def test_typical_classes_decide_as_all_do(monkeypatch):
    counts = np.random.default_rng(0).integers(1, 100, 50)
    np.testing.assert_array_equal(typical_classes(counts), np.arange(50))
    monkeypatch.setattr(mean_prior, "MANY", 11)
    assert len(typical_classes(counts)) == 11
    np.testing.assert_allclose(np.sort(counts[typical_classes(counts)]), np.sort(counts)[np.linspace(0, 49, 11).round().astype(int)])
    descriptions, means = described_classes()
    model, statistics, _ = whitened(draw(means, COUNTS))
    monkeypatch.setattr(relations_module, "MANY", 30)
    monkeypatch.setattr(mean_prior, "MANY", 30)
    few = informed_rows(model, statistics, relations(descriptions))
    monkeypatch.undo()
    every = informed_rows(model, statistics, relations(descriptions))
    test = draw(means, np.full(CLASSES, 50), seed=2)
    assert abs(accuracy(few, test) - accuracy(every, test)) < 1


def test_bands_cover_every_coordinate_once():
    for dim in (1, 7, 8, 9, 384):
        covered = np.concatenate([np.arange(dim)[band] for band in mean_prior._bands(dim)])
        np.testing.assert_array_equal(covered, np.arange(dim))


def test_descriptions_help_rare_classes_and_shuffled_ones_do_no_harm():
    descriptions, means = described_classes()
    train, test = draw(means, COUNTS), draw(means, np.full(CLASSES, 50), seed=2)
    model, statistics, _ = whitened(train)
    rare = 30
    shuffled = np.random.default_rng(3).permutation(descriptions)
    none, told, wrong = (informed_rows(model, statistics, related) for related in (None, relations(descriptions), relations(shuffled)))
    assert accuracy(told, test, rare) > accuracy(none, test, rare) + 5
    assert accuracy(wrong, test) > accuracy(none, test) - 1


def test_a_class_without_a_description_is_related_to_none_and_doesn_t_move_the_centre():
    descriptions, _ = described_classes()
    missing = descriptions.copy()
    missing[5] = 0
    kernel = relations(missing).kernel()
    np.testing.assert_array_equal(kernel[5], np.eye(CLASSES)[5])
    others = np.arange(CLASSES) != 5
    np.testing.assert_allclose(kernel[np.ix_(others, others)], relations(descriptions[others]).kernel(), atol=1e-12)


def test_unlabelled_examples_help_rare_classes():
    _, means = described_classes()
    train, test, pool = draw(means, COUNTS), draw(means, np.full(CLASSES, 50), seed=2), draw(means, np.full(CLASSES, 40), seed=4)
    model, statistics, _ = whitened(train)
    alone, together = informed_rows(model, statistics), informed_rows(model, statistics, unlabelled=pool.x)
    assert accuracy(together, test, 30) > accuracy(alone, test, 30) + 5
    assert accuracy(together, test) > accuracy(alone, test)
    np.testing.assert_array_equal(informed_rows(model, statistics, unlabelled=pool.x[:0]), alone)


def test_examples_of_unknown_classes_are_left_to_the_background():
    _, means = described_classes()
    train, test = draw(means, COUNTS, scatter=0.12), draw(means, np.full(CLASSES, 50), seed=2, scatter=0.12)
    pool, strange = (draw(described_classes(seed=seed)[1], np.full(CLASSES, 20), seed=5, scatter=0.12) for seed in (0, 9))
    model, statistics, z = whitened(train)
    counts = statistics.counts.astype(float)
    prior = fit_mean_prior(model.spread, z, counts)

    def share_counted(x):
        return (with_unlabelled(model, prior, z, counts, x)[1] - counts).sum() / (mean_prior.COUNTED * len(x))

    assert share_counted(pool.x) > 0.7 and share_counted(strange.x) < 0.4
    clean, mixed = (informed_rows(model, statistics, unlabelled=x) for x in (pool.x, np.concatenate([pool.x, strange.x])))
    assert accuracy(mixed, test) > accuracy(clean, test) - 1


def test_chunks_of_unlabelled_examples_give_what_all_at_once_do(monkeypatch):
    _, means = described_classes()
    model, statistics, _ = whitened(draw(means, COUNTS))
    pool = draw(means, np.full(CLASSES, 12), seed=4)
    at_once = informed_rows(model, statistics, unlabelled=pool.x)
    monkeypatch.setattr(mean_prior, "CHUNK_FLOATS", 100 * CLASSES)
    np.testing.assert_allclose(informed_rows(model, statistics, unlabelled=pool.x), at_once, atol=1e-4 * np.abs(at_once).max())
