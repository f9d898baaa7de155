"""The model: one dictionary, every tensor once, and no size that cannot be."""

from __future__ import annotations

import re

import pytest
import torch

from mechbook import artifacts
from mechbook.language_model import weights
from mechbook.language_model.model import ModelConfig, build, parameters

TINY = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=16)


def test_the_unembedding_is_the_embedding(tiny):
    assert torch.equal(tiny.W_U, tiny.W_E.T)
    with torch.no_grad():
        tiny.W_E[5, 3] = 7.0
    assert float(tiny.W_U[3, 5].detach()) == 7.0


def test_logits_are_the_normed_stream_against_the_embedding(tiny):
    tokens = torch.tensor([[0, 300, 301]])
    logits, cache = tiny.run_with_cache(tokens)
    stream = cache["blocks.1.hook_resid_post"]
    torch.testing.assert_close(logits, tiny.ln_final(stream) @ tiny.W_E.T)


def test_one_update_moves_both_dictionaries_alike(tiny):
    optimizer = torch.optim.SGD(tiny.parameters(), lr=0.1)
    before = tiny.W_E.detach().clone()
    tiny(torch.tensor([[0, 300, 301]])).sum().backward()
    optimizer.step()
    assert not torch.equal(tiny.W_E, before)
    assert torch.equal(tiny.W_U, tiny.W_E.T)


def test_every_tensor_is_listed_once(tiny):
    listed = parameters(tiny)
    pointers = [tensor.data_ptr() for tensor in listed.values()]
    assert len({*pointers}) == len(pointers)
    assert {*pointers} == {p.data_ptr() for p in tiny.parameters()}


@pytest.mark.skipif(
    not (artifacts.DATA / "weights" / f"{weights.NAME}.safetensors").exists(),
    reason="the language model's weights are not made yet",
)
def test_names_are_those_of_the_shipped_file(tiny):
    def layerless(names):
        return {re.sub(r"layers\.\d+", "layers.N", name) for name in names}

    assert layerless(parameters(tiny)) == layerless(artifacts.load_tensors(weights.NAME))


def test_a_seed_fixes_the_first_weights(tokenizer):
    one, same = build(TINY, tokenizer), build(TINY, tokenizer)
    other = build(ModelConfig(2, 16, 2, 32, 16, seed=1), tokenizer)
    assert torch.equal(one.W_E, same.W_E)
    assert torch.equal(one.W_Q, same.W_Q)
    assert not torch.equal(one.W_Q, other.W_Q)


def test_positions_are_told_by_distance_alone(tiny):
    """Where one word is said again and again, attention depends on the distance only."""
    _, cache = tiny.run_with_cache(torch.full((1, 12), 300))
    pattern = cache["blocks.0.attn.hook_pattern"][0]
    here = pattern.diagonal(0, 1, 2)
    for back in (1, 2, 3):
        ratio = pattern.diagonal(-back, 1, 2) / here[:, back:]
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
        assert float((ratio - 1).abs().max()) > 1e-4


def test_a_position_sees_nothing_after_it(tiny):
    one, other = torch.tensor([[0, 300, 301, 302]]), torch.tensor([[0, 300, 301, 303]])
    with torch.no_grad():
        torch.testing.assert_close(tiny(one)[:, :3], tiny(other)[:, :3])


@pytest.mark.parametrize("field", ["n_layers", "d_model", "n_heads", "d_mlp", "n_ctx"])
def test_sizes_below_one_are_refused(field):
    with pytest.raises(ValueError, match="must be 1 or more"):
        ModelConfig(**{field: 0})


@pytest.mark.parametrize(("d_model", "n_heads"), [(10, 4), (7, 7)])
def test_a_width_that_cannot_be_shared_out_is_refused(d_model, n_heads):
    with pytest.raises(ValueError, match="even width that the number of heads divides"):
        ModelConfig(d_model=d_model, n_heads=n_heads)
