"""The notes' loose questions: kurtosis, inversion, and linear autoencoders against PCA."""

import pytest
import torch

from mechbook.sae import questions
from mechbook.sae.truth import Truth


def test_kurtosis_is_zero_for_a_gaussian_and_that_of_a_coin_is_known():
    draw = torch.Generator().manual_seed(0)
    gaussian = torch.randn(200_000, 1, generator=draw)
    assert float(questions.excess_kurtosis(gaussian)[0]) == pytest.approx(0, abs=0.05)
    assert float(questions.excess_kurtosis(gaussian.sign())[0]) == pytest.approx(-2, abs=0.01)


def test_the_input_decides_and_not_the_weights():
    kinds = [(w, x) for w in ("gaussian", "signs") for x in ("gaussian", "sparse")]
    by = {kind: questions.kurtosis_of(*kind, latents=64) for kind in kinds}
    assert max(abs(by[w, "gaussian"]) for w in ("gaussian", "signs")) < 0.2
    assert min(by[w, "sparse"] for w in ("gaussian", "signs")) > 0.5


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="'gaussian' or 'sparse'"):
        questions.kurtosis_of("gaussian", "dense")


def test_features_at_right_angles_are_inverted_whatever_their_number():
    truth = Truth(torch.eye(6))
    found = questions.inverted(truth, 6, count=20)
    assert found == pytest.approx({"straight": 1.0, "least sum": 1.0})


def test_one_of_many_is_inverted_by_the_least_sum():
    angles = torch.arange(5) * 2 * torch.pi / 5
    pentagon = Truth(torch.stack([angles.cos(), angles.sin()]))
    one, all_five = (questions.inverted(pentagon, n, count=50) for n in (1, 5))
    assert one["least sum"] == pytest.approx(1, abs=1e-6)
    assert one["straight"] == pytest.approx(0.4, abs=1e-4)  # rank 2 of 5
    assert all_five["least sum"] < 0.9


def test_too_many_active_features_are_refused():
    with pytest.raises(ValueError, match="give 1 to 6"):
        questions.inverted(Truth(torch.eye(6)), 7)
    with pytest.raises(ValueError, match="no x without negative"):
        questions.least_sum(torch.eye(2), torch.tensor([1.0, -1.0]))


def test_principal_directions_are_those_of_the_largest_spread():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(5000, 3, generator=draw) * torch.tensor([1.0, 5.0, 0.1])
    V = questions.principal(rows, 2)
    assert V[1, 0].abs() == pytest.approx(1, abs=0.01)
    assert V[0, 1].abs() == pytest.approx(1, abs=0.01)


def test_the_promise_is_that_of_the_largest_cosine():
    W = torch.tensor([[1.0, 0.6, 0.0], [0.0, 0.8, 1.0]])
    assert questions.promised(Truth(W)) == pytest.approx((1 + 1 / 0.8) / 2)


def test_the_principal_directions_of_fading_features_are_the_features():
    truth = questions.fading_truth()
    V = questions.principal(truth.held_out()[1], 3)
    cosines = (truth.directions[:3] @ V).abs()
    assert torch.allclose(cosines, torch.eye(3), atol=0.05)
