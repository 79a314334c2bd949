"""Class priors: what is one, and what it adds to scores."""

import numpy as np
import pytest
from scipy.special import softmax

from mmn_jax.errors import BadInput
from mmn_jax.evaluation import label_prior


def test_the_prior_can_be_uniform_that_of_training_or_a_file(tmp_path):
    counts = np.array([30, 10])
    (tmp_path / "prior.txt").write_text("1\n3\n")
    for source, shares in (("uniform", [0.5, 0.5]), ("train", [0.75, 0.25]), (str(tmp_path / "prior.txt"), [0.25, 0.75])):
        np.testing.assert_allclose(label_prior.read_prior(source, counts, "--prior", ("a", "b c")), shares)
    for text in ("1\n", "1\n-1\n", "a b", "0 0"):
        (tmp_path / "prior.txt").write_text(text)
        with pytest.raises(BadInput, match=r"^--prior=.*prior\.txt: must "):
            label_prior.read_prior(str(tmp_path / "prior.txt"), counts, "--prior", ("a", "b c"))


def test_shares_sum_to_one():
    np.testing.assert_allclose(label_prior.class_shares(np.array([0.0, 0.1, 0.3]), 3, "prior"), [0, 0.25, 0.75])


@pytest.mark.parametrize("prior", [[1.0, 2.0], [-1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1e308, 1e308, 1.0], [np.inf, 1.0, 1.0]])
def test_what_cannot_be_shares_is_refused(prior):
    with pytest.raises(BadInput, match=r"prior: must hold (3 numbers, one a class; it has 2|numbers from 0 up, of a finite sum above 0)"):
        label_prior.class_shares(np.array(prior), 3, "prior")


def test_what_scores_gain_is_bayes_rule():
    scores, shares = np.random.default_rng(0).normal(size=(5, 4)), np.array([0.0, 0.2, 0.3, 0.5])
    expected = softmax(scores, 1) * shares
    np.testing.assert_allclose(softmax(scores + label_prior.gain(shares), 1), expected / expected.sum(1, keepdims=True))
    np.testing.assert_allclose(label_prior.gain(np.full(4, 0.25)), 0)


def test_a_file_may_name_the_classes(tmp_path):
    path, counts = tmp_path / "prior.txt", np.array([30, 10])
    path.write_text("\ufeffb c 3\n\na\t1\n", encoding="utf-8")
    np.testing.assert_allclose(label_prior.read_prior(str(path), counts, "--prior", ("a", "b c")), [0.25, 0.75])
    path.write_text("2 3\n10 1\n")
    np.testing.assert_allclose(label_prior.read_prior(str(path), counts, "--prior", ("10", "2")), [0.25, 0.75])
    for text in ("a 1\nd 2", "a 1\na 2"):
        path.write_text(text)
        with pytest.raises(BadInput, match=r"prior\.txt: names '[da]', but must name each class once, such as 'a'; or hold numbers alone"):
            label_prior.read_prior(str(path), counts, "--prior", ("a", "b c"))
