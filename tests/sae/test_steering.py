"""Ablation and steering: exact where the model is a straight line, and compared with a random direction."""

import pytest
import torch

from mechbook.sae import reading, steering
from mechbook.sae.steering import ablate, ablate_random, ablation_effect, divergence, steer

LAST = "blocks.1.hook_resid_post"


@pytest.fixture
def latent(small_model, reader, texts):
    active = (reading.activity(small_model, reader, texts) > 0).sum((0, 1))
    return int(active.argmax())


def test_ablation_takes_away_what_the_latent_writes_and_nothing_else(reader, latent):
    h = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = reader.encode(h)
        taken = h - ablate(reader, latent)(h)
    torch.testing.assert_close(taken, z[..., latent, None] * reader.directions[latent])


def test_the_random_direction_has_the_same_length_at_the_same_places(reader, latent):
    h = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, other = (h - change(reader, latent)(h) for change in (ablate, ablate_random))
    torch.testing.assert_close(own.norm(dim=-1), other.norm(dim=-1))
    assert float(torch.cosine_similarity(own, other, dim=-1).abs().max()) < 0.9


def test_log_probabilities_are_the_models_own(small_model, texts):
    with torch.no_grad():
        wanted = small_model(texts).log_softmax(-1)
    where = torch.zeros(texts.shape, dtype=torch.bool)
    where[2, 3] = where[0, 8] = True
    found = steering.log_probabilities(small_model, texts, LAST, None, where)
    torch.testing.assert_close(found, wanted[where], atol=1e-4, rtol=0)
    last = steering.log_probabilities(small_model, texts, LAST)
    torch.testing.assert_close(last, wanted[:, -1], atol=1e-4, rtol=0)


def test_a_change_is_felt_and_the_first_position_is_left_alone(small_model, texts):
    place, direction = "blocks.0.hook_resid_post", 5 * torch.ones(16)
    first = torch.zeros(texts.shape, dtype=torch.bool)
    first[:, 0] = True
    for where, changes in ((first, False), (~first, True)):
        clean = steering.log_probabilities(small_model, texts, place, None, where)
        after = steering.log_probabilities(small_model, texts, place, steer(direction, 1.0), where)
        assert (float((clean - after).abs().max()) > 1e-3) == changes


def test_divergence_is_that_of_its_definition():
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    wanted = 0.5 * torch.tensor(0.5 / 0.9).log() + 0.5 * torch.tensor(0.5 / 0.1).log()
    assert float(divergence(p.log(), q.log())) == pytest.approx(float(wanted))
    assert float(divergence(p.log(), p.log())) == 0


def test_an_effect_has_a_number_for_every_active_position(small_model, reader, texts, latent):
    found = ablation_effect(small_model, reader, texts, latent)
    places = int(found.active.sum())
    assert found.own.shape == found.random.shape == (places,)
    assert found.ratio == pytest.approx(float(found.own.sum() / found.random.sum()), rel=1e-4)
    assert found.change.shape == (small_model.cfg.d_vocab,)


def test_steering_by_nothing_is_the_models_own_probability(small_model, reader, texts, latent):
    types = torch.tensor([3, 4])
    own, random = steering.steering_curve(
        small_model, reader, texts, latent, types, torch.tensor([0.0, 4.0])
    )
    with torch.no_grad():
        wanted = small_model(texts).softmax(-1)[:, -1][:, types].sum(-1).mean()
    assert float(own[0]) == pytest.approx(float(wanted), rel=1e-3)
    assert float(random[0]) == pytest.approx(float(wanted), rel=1e-3)
    assert own[1] != random[1]


def test_a_silent_latent_and_a_wrong_number_are_refused(small_model, reader, texts):
    quiet = int((reading.activity(small_model, reader, texts) > 0).sum((0, 1)).argmin())
    if not bool((reading.activity(small_model, reader, texts, [quiet]) > 0).any()):
        with pytest.raises(ValueError, match="is silent on these texts"):
            ablation_effect(small_model, reader, texts, quiet)
    with pytest.raises(ValueError, match="is not there"):
        ablate(reader, 99)


def test_ratios_are_those_of_single_ablations(small_model, reader, texts):
    often = (reading.activity(small_model, reader, texts) > 0).sum((0, 1)).topk(3).indices.tolist()
    found = steering.ratios(small_model, reader, texts, often)
    assert found.shape == (3, 2)
    for row, latent in zip(found, often, strict=True):
        one = ablation_effect(small_model, reader, texts, latent)
        assert float(row[0]) == pytest.approx(one.ratio, rel=1e-3)
    with pytest.raises(ValueError, match="1 latents; give two or more"):
        steering.ratios(small_model, reader, texts, often[:1])


def test_a_lift_is_a_point_of_the_steering_curve(small_model, reader, texts, latent):
    types = torch.tensor([3, 4])
    own, random = steering.steering_curve(
        small_model, reader, texts, latent, types, torch.tensor([0.0, 4.0])
    )
    lift = steering.lifts(small_model, reader, texts, [latent], [types], [4.0])[0]
    assert float(lift[0]) == pytest.approx(float(own[1] / own[0]), rel=1e-3)
    assert float(lift[1]) == pytest.approx(float(random[1] / random[0]), rel=1e-3)
    with pytest.raises(ValueError, match="give one each"):
        steering.lifts(small_model, reader, texts, [latent], [types], [])


def test_an_aimed_vector_is_one_of_the_latents_length(small_model, reader, texts, latent):
    some = texts[(reading.activity(small_model, reader, texts, [latent])[..., 0] > 0).any(-1)][:16]
    where = reading.activity(small_model, reader, some, [latent])[..., 0] > 0
    before = steering.log_probabilities(small_model, some, reader.place, None, where)
    own = reader.directions[latent]
    aimed = torch.nn.functional.normalize(small_model.W_U[:, int(before.mean(0).argmax())], dim=0)
    change = ablate(reader, latent, aimed.detach() * own.norm())
    after = steering.log_probabilities(small_model, some, reader.place, change, where)
    random = ablation_effect(small_model, reader, texts, latent, most=16).random.mean()
    wanted = steering.divergence(before, after).mean() / random
    found = steering.aimed_ratios(small_model, reader, texts, [latent])
    assert float(found[0]) == pytest.approx(float(wanted), rel=1e-3)
