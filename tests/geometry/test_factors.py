import pytest
import torch

from mechbook.geometry import inner_products as ip
from mechbook.geometry.factors import Language, speak


def small(variant, seed=0):
    return speak(Language(n_concepts=4, n_rest=3, copies=16, variant=variant, seed=seed))


def test_where_the_assumptions_hold_the_causal_product_makes_concepts_orthogonal():
    words = small("as assumed")
    assert ip.diagonality(words.directions, ip.causal(words.gamma)) < 1e-9
    assert ip.diagonality(words.directions, torch.eye(7, dtype=torch.float64)) > 0.3


def test_its_diagonal_is_the_inverse_variance_of_the_values():
    words = small("as assumed")
    G, M = words.directions, ip.causal(words.gamma)
    assert torch.allclose(G @ M @ G.mT, 4 * torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", ["correlated words", "noise everywhere"])
def test_correlated_values_and_noise_along_the_concepts_spoil_it(variant, seed):
    words = small(variant, seed)
    assert ip.diagonality(words.directions, ip.causal(words.gamma)) > 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", ["curved concept", "correlated rest"])
def test_mean_steps_turn_along_with_the_words_and_stay_orthogonal(variant, seed):
    words, plain = small(variant, seed), small("as assumed", seed)
    assert not torch.allclose(words.directions, plain.directions)
    assert ip.diagonality(words.directions, ip.causal(words.gamma)) < 1e-9


def test_correlated_words_are_correlated():
    values = small("correlated words").values
    assert float(torch.corrcoef(values.mT)[0, 1]) == pytest.approx(0.6)


def test_a_word_is_its_concepts_steps():
    """Flipping one concept moves the word by that concept's direction, on average over the rest."""
    words = small("as assumed")
    up = words.values[:, 2] > 0
    step = words.gamma[up].mean(0) - words.gamma[~up].mean(0)
    assert torch.allclose(step, words.directions[2])


@pytest.mark.parametrize(
    "bad",
    [{"variant": "?"}, {"n_concepts": 1}, {"copies": 0}, {"left": 0.0}, {"copies": 4, "n_rest": 8}],
)
def test_bad_languages_are_refused(bad):
    with pytest.raises(ValueError, match="give"):
        Language(**bad)
