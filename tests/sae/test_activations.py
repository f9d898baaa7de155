"""Activations of a small untrained model, and its loss with them replaced."""

import pytest
import torch

from mechbook.language_model import score
from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model.model import ModelConfig, build
from mechbook.sae import activations
from mechbook.sae.activations import LossRecovered, collect, loss_recovered, patched_loss
from mechbook.sae.variants import SAEConfig
from mechbook.sae.variants import build as build_sae

PLACE = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def model():
    config = tokenizers.TokenizerConfig(n_types=1024, n_pieces=60, alphabet=1)
    tokenizer = tokenizers.train(["The sea was calm. The ship went down to the sea."] * 3, config)
    return build(ModelConfig(2, 16, 2, 32, 12), tokenizer).eval()


@pytest.fixture(scope="module")
def windows(model):
    return torch.randint(model.cfg.d_vocab, (5, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("place", [PLACE, "blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"])
def test_rows_are_the_cached_activations_without_the_first_position(model, windows, place):
    rows = collect(model, windows, place, at_once=2)
    with torch.no_grad():
        _, cache = model.run_with_cache(windows)
    torch.testing.assert_close(rows, cache[place][:, 1:].reshape(-1, 16))


def test_a_place_that_is_not_there_and_no_text_are_refused(model, windows):
    with pytest.raises(ValueError, match=r"no place 'blocks.9.hook'; it has .*resid"):
        collect(model, windows, "blocks.9.hook")
    with pytest.raises(ValueError, match="0 tokens"):
        collect(model, windows[:, :1], PLACE)
    with pytest.raises(ValueError, match="no place"):
        patched_loss(model, windows, "nowhere")


def test_the_scale_brings_the_mean_length_to_the_root_of_the_dimensions():
    rows = torch.randn(100, 16) * 7
    assert float((rows * activations.scale_of(rows)).norm(dim=-1).mean()) == pytest.approx(4)


def test_the_clean_loss_is_that_of_the_tokens_after_the_first(model, windows):
    wanted = score.token_losses(model, windows)[:, 1:].mean()
    assert patched_loss(model, windows, PLACE) == pytest.approx(float(wanted))


def test_replacing_activations_by_themselves_changes_nothing(model, windows):
    clean = patched_loss(model, windows, PLACE)
    assert patched_loss(model, windows, PLACE, lambda value: value) == pytest.approx(clean)


def test_the_first_position_is_left_alone(model, windows):
    seen = []

    def replace(value):
        seen.append(value.shape[1])
        return torch.zeros_like(value)

    patched_loss(model, windows, PLACE, replace)
    assert seen == [windows.shape[1] - 2]


def test_zeros_in_the_last_stream_leave_a_uniform_guess(model, windows):
    last = "blocks.1.hook_resid_post"
    loss = patched_loss(model, windows, last, torch.zeros_like)
    assert loss == pytest.approx(torch.tensor(float(model.cfg.d_vocab)).log().item(), rel=1e-4)


def test_shares_are_one_for_no_harm_and_nothing_for_ablation():
    assert LossRecovered(2.0, 2.0, 6.0, 4.0).against_zero == 1
    assert LossRecovered(2.0, 3.0, 6.0, 4.0).against_zero == 0.75
    assert LossRecovered(2.0, 3.0, 6.0, 4.0).against_mean == 0.5
    assert LossRecovered(2.0, 4.0, 6.0, 4.0).against_mean == 0


def test_an_autoencoder_that_copies_recovers_all_at_any_scale(model, windows):
    sae = build_sae(SAEConfig(16, 32))
    with torch.no_grad():
        eye = torch.eye(16)
        sae.W_dec.copy_(torch.cat([eye, -eye]))
        sae.W_enc.copy_(sae.W_dec.T)
    mean = collect(model, windows, PLACE).mean(0)
    found = loss_recovered(model, sae, windows, PLACE, mean, scale=3.0)
    assert found.patched == pytest.approx(found.clean, abs=1e-5)


def test_an_empty_autoencoder_recovers_as_much_as_what_its_bias_stands_for(model, windows):
    sae, mean = build_sae(SAEConfig(16, 8)), collect(model, windows, PLACE).mean(0)
    with torch.no_grad():
        sae.b_enc.fill_(-1e6)
        sae.b_dec.copy_(mean)
    found = loss_recovered(model, sae, windows, PLACE, mean)
    assert found.patched == pytest.approx(found.mean)
    assert found.mean != pytest.approx(found.zero)
