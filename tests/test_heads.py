"""Heads: where to look is told by loops; leaving out changes what it says and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from mechbook import heads

TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=3)


@pytest.fixture
def model():
    config = TransformerBridgeConfig(
        n_layers=2, d_model=8, d_head=4, n_heads=2, d_mlp=8, d_vocab=10, n_ctx=12, act_fn="gelu",
        normalization_type=None, attn_only=True, seed=0,
    )  # fmt: skip
    return TransformerBridge.boot_native(config).eval()


@pytest.fixture
def tokens():
    passage = torch.stack([torch.randperm(10)[:6] for _ in range(5)])
    return torch.cat([passage, passage], 1)


@given(texts=TEXTS.map(torch.tensor))
@settings(deadline=None)
def test_places_are_those_of_a_loop(texts):
    found = heads.places(texts)
    for row, text in enumerate(texts.tolist()):
        for q, token in enumerate(text):
            before = [k for k in range(q) if text[k] == token]
            wanted = {"previous token": [q - 1] if q else [], "first": [0] if q else []}
            wanted |= {"two back": [q - 2] if q > 1 else []}
            wanted |= {"duplicate token": before, "induction": [k + 1 for k in before]}
            for kind, keys in wanted.items():
                assert found[kind][row, q].nonzero()[:, 0].tolist() == keys


def test_attention_paid_is_a_mean_over_queries_with_such_a_key():
    pattern, where = torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    pairs = [(0, 1, 0), (0, 3, 2), (0, 3, 1), (1, 2, 1)]
    for place in pairs:
        where[place] = True
    expected = sum(pattern[b, :, q, k] for b, q, k in pairs) / 3
    torch.testing.assert_close(heads.attention_paid(pattern, where), expected)


def test_scores_do_not_depend_on_the_batch(model, tokens):
    whole, parts = heads.head_scores(model, tokens), heads.head_scores(model, tokens, at_once=2)
    for kind, values in whole.items():
        torch.testing.assert_close(parts[kind], values)
        assert values.shape == (2, 2)


def test_uniform_attention_scores_as_uniform_attention_does(model, tokens):
    with torch.no_grad():
        for block in model.blocks:
            block.attn.q.weight.zero_()
    scores = heads.head_scores(model, tokens)
    expected = sum(1 / (q + 1) for q in range(1, 12)) / 11
    assert float(scores["previous token"][0, 0]) == pytest.approx(expected, rel=1e-5)
    expected = sum(1 / (q + 1) for q in range(6, 12)) / 6
    assert float(scores["induction"][1, 1]) == pytest.approx(expected, rel=1e-5)


def test_texts_without_repetition_are_refused(model):
    with pytest.raises(ValueError, match="no token comes twice"):
        heads.head_scores(model, torch.arange(10)[None])
    with pytest.raises(ValueError, match="no query has such a key"):
        heads.attention_paid(torch.rand(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool))


def test_too_long_a_text_is_refused(model):
    with pytest.raises(ValueError, match="13 tokens; the model reads 1 to 12"):
        heads.head_scores(model, torch.zeros(1, 13, dtype=torch.long))


@pytest.mark.parametrize("way", ["zeroed", "averaged", "resampled"])
def test_a_head_left_out_writes_what_is_said_and_others_write_on(model, tokens, way):
    name = "blocks.0.attn.hook_z"
    z = model.run_with_cache(tokens)[1][name]
    expected = z.clone()
    rows, places = z.shape[:2]
    mean = sum(z[b, p, 1] for b in range(rows) for p in range(places)) / (rows * places)
    other = torch.stack([z[(b - 1) % rows, :, 1] for b in range(rows)])
    expected[:, :, 1] = {"zeroed": torch.zeros_like(mean), "averaged": mean, "resampled": other}[
        way
    ]
    seen = []
    with getattr(heads, way)(model, [(0, 1)]):
        logits = model(tokens)
    with model.hooks(fwd_hooks=[(name, lambda _, hook: expected)]):
        seen = model(tokens)
    torch.testing.assert_close(logits, seen)
    assert float((logits - model(tokens)).detach().abs().max()) > 1e-5


def test_a_head_that_is_not_there_is_refused(model):
    with pytest.raises(ValueError, match=r"no head 0\.2; there are 2 layers of 2 heads"):
        heads.zeroed(model, [(0, 2)])


def test_the_highest_come_first():
    values = torch.tensor([[0.1, 0.5], [0.4, 0.2]])
    assert heads.highest(values, 3) == [(0, 1), (1, 0), (1, 1)]
