"""Measures of recovery against dictionaries that are known to be right, wrong, shrunk or mixed."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from mechbook.sae import recovery
from mechbook.sae.training import TrainingConfig, train
from mechbook.sae.truth import Truth, random_truth
from mechbook.sae.variants import SAEConfig, build


def perfect(truth, price=0.0):
    """An autoencoder that knows the features (orthogonal ones), with L1's shrinkage or without."""
    sae = build(SAEConfig(truth.W.shape[0], truth.n))
    with torch.no_grad():
        sae.W_dec.copy_(truth.directions)
        sae.W_enc.copy_(truth.directions.T)
        sae.b_enc.fill_(-price / 2)
    return sae


def test_a_shuffled_dictionary_is_matched_whole():
    truth, order = random_truth(12, 6), torch.randperm(12)
    found = recovery.match(3 * truth.directions[order], truth.directions)
    assert torch.equal(found.latent[order], torch.arange(12))
    assert found.recovered == 1
    assert found.mean_max_cosine == pytest.approx(1, abs=1e-6)


def test_the_matching_is_the_best_of_all():
    latents, features = random_truth(5, 3, seed=1).directions, random_truth(5, 3).directions
    cosines = features @ latents.T
    best = max(
        sum(float(cosines[i, j]) for i, j in enumerate(p)) for p in itertools.permutations(range(5))
    )
    assert float(recovery.match(latents, features).cosine.sum()) == pytest.approx(best, abs=1e-5)


def test_one_latent_is_not_matched_twice_though_it_may_be_nearest_twice():
    features = torch.tensor([[1.0, 0.0], [0.98, 0.2]])
    found = recovery.match(torch.tensor([[1.0, 0.1], [-1.0, 0.0]]), features)
    assert found.recovered == 0.5
    assert float(found.best.min()) > 0.98


def test_opposite_directions_do_not_match():
    truth = random_truth(4, 8)
    assert recovery.match(-truth.directions, truth.directions).recovered == 0


def test_a_dictionary_that_is_too_small_leaves_features_over():
    features = torch.eye(4)
    found = recovery.match(features[:2], features)
    assert found.latent.tolist() == [0, 1, -1, -1]
    assert found.recovered == 0.5


def test_dead_latents_match_nothing():
    alive = torch.tensor([True, False, True])
    assert recovery.match(torch.eye(3), torch.eye(3), alive).cosine.tolist() == [1, 0, 1]


def test_directions_that_cannot_be_matched_are_refused():
    with pytest.raises(ValueError, match="same number of dimensions"):
        recovery.match(torch.eye(3), torch.eye(4))
    with pytest.raises(ValueError, match="not finite"):
        recovery.match(torch.full((2, 2), torch.nan), torch.eye(2))


def test_quality_of_a_perfect_autoencoder_and_of_an_empty_one():
    truth = Truth(torch.eye(6), 0.2)
    x, h = truth.held_out(4000)
    right, empty = perfect(truth), perfect(truth, price=9.0)
    found = recovery.quality(right, h, at_once=1000)
    assert found.explained == pytest.approx(1, abs=1e-5)
    assert found.l0 == pytest.approx(float((x > 0).float().sum(-1).mean()))
    assert found.dead == 0
    nothing = recovery.quality(empty, h)
    assert (nothing.l0, nothing.dead) == (0, 1)
    assert nothing.explained < 0
    assert nothing.error == pytest.approx(float(h.pow(2).sum(-1).mean()), rel=1e-4)


def test_quality_agrees_with_the_measures_one_by_one():
    truth = random_truth(8, 4)
    _, h = truth.held_out(500)
    sae = build(SAEConfig(4, 8), 1)
    z, found = sae.encode(h), recovery.quality(sae, h, at_once=99)
    assert found.l0 == pytest.approx(recovery.l0(z).item(), rel=1e-5)
    assert found.explained == pytest.approx(recovery.explained(h, sae(h)).item(), abs=1e-4)
    assert found.dead == pytest.approx((recovery.active_share(z) == 0).float().mean().item())


def test_alignment_is_a_cosine():
    sae = perfect(Truth(torch.eye(2)))
    with torch.no_grad():
        sae.W_enc.copy_(torch.tensor([[2.0, 3.0], [0.0, 3.0]]))
    torch.testing.assert_close(recovery.alignment(sae), torch.tensor([1.0, 0.5**0.5]))


def test_what_a_soft_threshold_misses_is_half_the_price():
    truth = Truth(torch.eye(3), 0.3)
    x, h = truth.held_out(6000)
    missing, size = recovery.missing(perfect(truth, price=0.2), h)
    assert missing.tolist() == pytest.approx([recovery.predicted_shrinkage(0.2)] * 3, abs=1e-5)
    wanted = [float((c[c > 0.1] - 0.1).mean()) for c in x.T]
    assert size.tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(("penalty", "share"), [("l1", 1.0), ("none", 0.0)])
def test_training_under_interference_comes_to_rest_at_half_the_price(penalty, share):
    truth, price = random_truth(12, 6, density=0.1), 0.3
    how = TrainingConfig(steps=700, learning_rate=1e-2, decay=0.6, measure_every=700)
    config = SAEConfig(6, 12, penalty=penalty)
    trained = train(config, how, truth.data([0], 256), [price], progress=False)
    with torch.no_grad():
        found = recovery.shrinkage(trained.sae(), truth.held_out()[1])
    assert float(found) == pytest.approx(share * price / 2, abs=0.03 * price)


def test_shrinkage_is_the_mean_over_active_pairs():
    truth = random_truth(8, 4, density=0.2)
    _, h = truth.held_out(300)
    sae = build(SAEConfig(4, 8), 1)
    z = sae.encode(h).detach()
    error, units = (h - sae(h)).detach(), torch.nn.functional.normalize(sae.W_dec.detach(), dim=-1)
    pairs = [float(error[i] @ units[j]) for i, j in (z > 0).nonzero().tolist()]
    assert recovery.shrinkage(sae, h).item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-4)


def test_slope_of_a_perfect_and_of_a_halved_dictionary():
    truth = Truth(2 * torch.eye(3), 0.3)
    x, h = truth.held_out(2000)
    sae = perfect(truth)
    matching, lengths = recovery.match(sae.W_dec.detach(), truth.directions), torch.full((3,), 2.0)
    assert recovery.slope(sae, x, h, matching, lengths).tolist() == pytest.approx([1.0] * 3)
    with torch.no_grad():
        sae.W_enc *= 0.5
    assert recovery.slope(sae, x, h, matching, lengths).tolist() == pytest.approx([0.5] * 3)


def test_copies_counts_live_latents_that_point_one_way():
    directions = torch.eye(2)
    latents = torch.tensor([[1.0, 0.1], [1.0, -0.1], [5.0, 0.0], [1.0, 1.0]])
    alive = torch.tensor([True, True, False, True])
    assert recovery.copies(latents, directions, alive).tolist() == [2, 0]


@pytest.mark.parametrize("absorbed", [False, True])
def test_absorption_is_seen_where_it_is_built_in(absorbed):
    """A child's latent that writes its parent too, and a parent's that is silent beside it."""
    truth = Truth(torch.eye(2), 0.4, parents=1)
    x, h = truth.held_out(8000)
    sae = perfect(truth)
    with torch.no_grad():
        if absorbed:
            sae.W_enc.copy_(torch.tensor([[1.0, 0.0], [-50.0, 1.0]]))
            sae.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.7, 0.7]]))
    found = recovery.absorption(sae, x, h, truth.directions, parents=1)
    assert float(found.alone) == pytest.approx(1, abs=1e-6)
    assert float(found.together) == pytest.approx(0 if absorbed else 1, abs=1e-6)
    assert found.mixed.item() == pytest.approx(0.7071 if absorbed else 0, abs=1e-3)


def test_a_rate_beside_is_taken_at_equal_numbers_of_features():
    # columns: the feature, its neighbor, two more; a code that keeps two at most drops the first of three
    there = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [1, 0, 1, 1]]).bool()
    crowded = torch.tensor([True, True, False, False])
    assert recovery.rate_beside(crowded, there, 0, 1) == 1.0
    absorbed = torch.tensor([False, True, False, True])
    assert recovery.rate_beside(absorbed, there, 0, 1) == 0.0
    with pytest.raises(ValueError, match="with and without 3"):
        recovery.rate_beside(crowded[:2], there[:2], 0, 3)


def test_a_dictionary_that_is_the_truth_absorbs_nothing():
    truth = Truth(torch.eye(6), 0.3, parents=2)
    sae = build(SAEConfig(6, 6), 0)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(6))
        sae.W_dec.copy_(torch.eye(6))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    trained = SimpleNamespace(seeds=(0,), sae=lambda price, seed: sae)
    assert recovery.beside(trained, truth) == ([1.0], [1.0])
