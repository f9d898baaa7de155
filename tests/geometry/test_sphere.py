import math

import pytest
import torch

from mechbook import training
from mechbook.geometry import sphere
from mechbook.language_model.model import ModelConfig, build


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=training.generator(seed), dtype=torch.float64)


def equal_norms(seed=0):
    u, v = draw(20, 6, seed=seed), draw(20, 6, seed=seed + 1)
    return u, v * u.norm(dim=1, keepdim=True) / v.norm(dim=1, keepdim=True)


def angle(u, v):
    return torch.cosine_similarity(u, v).clamp(-1, 1).acos()


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_first_lemma_one_arc_two_timetables(t):
    u, v = equal_norms()
    tau = sphere.slerp_time(t, angle(u, v))[:, None]
    assert torch.allclose(sphere.normalized_lerp(u, v, t), sphere.slerp(u, v, tau))


def test_they_agree_in_the_middle_alone():
    u, v = equal_norms()
    assert torch.allclose(sphere.normalized_lerp(u, v, 0.5), sphere.slerp(u, v, 0.5))
    assert float((sphere.normalized_lerp(u, v, 0.2) - sphere.slerp(u, v, 0.2)).abs().max()) > 0.01


def test_for_unequal_norms_the_lemma_does_not_hold():
    u, v = draw(20, 6), 3 * draw(20, 6, seed=1)
    gap = sphere.normalized_lerp(u, v, 0.5) - u.norm(
        dim=1, keepdim=True
    ) * torch.nn.functional.normalize(sphere.slerp(u, v, 0.5))
    assert float(gap.abs().max()) > 0.1


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_turns_at_constant_speed(t):
    u, v = draw(20, 6), 2 * draw(20, 6, seed=1)
    found = sphere.slerp(u, v, t)
    assert torch.allclose(angle(u, found), t * angle(u, v), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), (1 - t) * u.norm(dim=1) + t * v.norm(dim=1))


def test_slerp_of_parallel_vectors_is_the_straight_line():
    u = draw(3, 4)
    assert torch.allclose(sphere.slerp(u, 3 * u, 0.25), 1.5 * u)


def test_a_great_circle_keeps_the_length_and_turns_by_the_angle():
    u, v = draw(20, 6), draw(20, 6, seed=1)
    found = sphere.great_circle(u, v, 0.4)
    assert torch.allclose(found.norm(dim=1), u.norm(dim=1))
    assert torch.allclose(angle(u, found), torch.full((20,), 0.4, dtype=torch.float64))
    assert bool((angle(found, v) < angle(u, v)).all())
    assert torch.allclose(sphere.great_circle(u, 7 * v, 0.4), found)


def test_second_lemma_the_norm_before_the_readout_is_inert_without_eps():
    x, W_U, gain = draw(5, 8), draw(8, 11, seed=1), draw(8, seed=2)
    same = sphere.rms_readout(x, W_U, gain)
    assert torch.allclose(sphere.rms_readout(37 * x, W_U, gain), same)
    assert torch.allclose(sphere.rms_readout(-x, W_U, gain), -same)  # positive factors alone


def test_with_eps_it_shrinks_all_logits_alike():
    x, W_U, gain = draw(5, 8), draw(8, 11, seed=1), draw(8, seed=2)
    ratio = sphere.rms_readout(0.01 * x, W_U, gain, eps=1e-3) / sphere.rms_readout(x, W_U, gain)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio))
    assert float(ratio.max()) < 1


def test_about_another_point_the_norm_is_not_inert():
    x, W_U, gain = draw(5, 8), draw(8, 11, seed=1), draw(8, seed=2)
    centre = draw(8, seed=3)
    moved = centre + 2 * (x - centre)
    gap = sphere.rms_readout(moved, W_U, gain) - sphere.rms_readout(x, W_U, gain)
    assert float(gap.abs().max()) > 0.1


@pytest.fixture(scope="module")
def model():
    from mechbook.language_model import weights

    config = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=8)
    model = build(config, weights.load_tokenizer()).eval()
    with torch.no_grad():
        for block in model.blocks:  # writes as large as the stream, or no norm would matter
            for part in (block.attn.o, block.mlp.out):
                part.original_component.weight.mul_(30)
    return model


def test_the_norm_matters_before_a_write_and_not_after_the_last(model):
    tokens = torch.arange(12).reshape(3, 4) + 300
    found = sphere.norm_effect(model, tokens, [0.5, 1.0, 2.0])
    assert found.shape == (3, 3)
    assert float(found[:, 1].abs().max()) == pytest.approx(0, abs=1e-6)
    assert float(found[2].max()) < float(found[0, 0]) / 100
    assert float(found[2].max()) < float(found[1].max()) / 100


def test_turning_toward_a_word_raises_it(model):
    tokens = torch.arange(12).reshape(3, 4) + 300
    wanted = torch.tensor([500, 600, 700])
    toward = model.W_U.detach()[:, wanted].mT
    found = sphere.turned(model, tokens, 2, toward, [0.0, 0.5, 1.0], wanted)
    assert found[0] < found[1] < found[2]


def test_bad_input_is_refused(model):
    u = draw(2, 3)
    with pytest.raises(ValueError, match="opposite"):
        sphere.slerp(u, -u, 0.5)
    with pytest.raises(ValueError, match="length 0"):
        sphere.slerp(u, 0 * u, 0.5)
    with pytest.raises(ValueError, match="along the vector"):
        sphere.great_circle(u, 2 * u, 0.5)
    with pytest.raises(ValueError, match="above 0"):
        sphere.norm_effect(model, torch.zeros(1, 3, dtype=torch.long), [0.0])
    assert math.isclose(float(sphere.slerp_time(0.5, torch.tensor(1.0))), 0.5, abs_tol=1e-6)
