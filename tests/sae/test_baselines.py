"""Baselines: coordinates kept, projections, and a dictionary as it starts."""

import pytest
import torch

from mechbook.sae.baselines import (
    best_of,
    explained_at_best_length,
    first_of,
    random_dictionary,
)
from mechbook.sae.variants import SAEConfig

DRAW = torch.Generator().manual_seed(0)
H = torch.randn(40, 6, generator=DRAW) + 3
MEAN = H.mean(0)


def test_all_coordinates_give_everything_back_and_none_is_lost_to_the_basis():
    Q = torch.linalg.qr(torch.randn(6, 6, generator=DRAW)).Q
    torch.testing.assert_close(best_of(Q, MEAN, 6)(H), H, atol=1e-5, rtol=0)
    torch.testing.assert_close(first_of(Q, MEAN)(H), H, atol=1e-5, rtol=0)


def test_the_largest_coordinates_of_each_row_are_kept():
    out = best_of(torch.eye(6), MEAN, 2)(H) - MEAN
    centered = H - MEAN
    for row, kept in zip(centered, out, strict=True):
        largest = row.abs().argsort(descending=True)[:2]
        wanted = torch.zeros(6)
        wanted[largest] = row[largest]
        torch.testing.assert_close(kept, wanted, atol=1e-5, rtol=0)


def test_the_best_of_each_is_never_worse_than_the_same_for_all():
    Q = torch.linalg.qr(torch.randn(6, 6, generator=DRAW)).Q
    error = lambda f: (H - f(H)).pow(2).sum()  # noqa: E731
    assert error(best_of(Q, MEAN, 3)) <= error(first_of(Q[:, :3], MEAN))


def test_a_random_dictionary_is_centered_and_scaled():
    config = SAEConfig(6, 12, "topk", k=12)
    reconstruct = random_dictionary(config, MEAN, 2.0)
    torch.testing.assert_close(reconstruct(MEAN[None])[0], MEAN)
    with pytest.raises(ValueError, match="k is 13"):
        random_dictionary(SAEConfig(6, 12, "topk", k=13), MEAN, 2.0)


def test_a_reconstruction_of_the_wrong_length_is_judged_at_its_best():
    assert explained_at_best_length(H, MEAN + 7 * (H - MEAN), MEAN) == pytest.approx(1)
    sideways = torch.zeros_like(H)
    sideways[:, 0] = H[:, 0] - MEAN[0]
    own = (H[:, 0] - MEAN[0]).pow(2).sum() / (H - MEAN).pow(2).sum()
    assert explained_at_best_length(H, MEAN + 3 * sideways, MEAN) == pytest.approx(
        float(own), rel=1e-4
    )
