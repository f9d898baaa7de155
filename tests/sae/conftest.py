"""A small untrained language model, texts for it, and an autoencoder that reads it."""

import pytest
import torch

from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model.model import ModelConfig, build
from mechbook.sae.activations import collect, scale_of
from mechbook.sae.readers import Reader
from mechbook.sae.variants import SAEConfig
from mechbook.sae.variants import build as build_sae

PLACE = "blocks.0.hook_resid_post"


@pytest.fixture(scope="session")
def small_model():
    config = tokenizers.TokenizerConfig(n_types=1024, n_pieces=60, alphabet=1)
    tokenizer = tokenizers.train(["The sea was calm. The ship went down to the sea."] * 3, config)
    return build(ModelConfig(2, 16, 2, 32, 12), tokenizer).eval()


@pytest.fixture(scope="session")
def texts(small_model):
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, small_model.cfg.d_vocab, (8, 9), generator=draw)
    tokens[:, 0] = small_model.tokenizer.bos_token_id
    return tokens


@pytest.fixture(scope="session")
def reader(small_model, texts):
    sae = build_sae(SAEConfig(16, 24, "topk", k=3), 0)
    h = collect(small_model, texts, PLACE)
    scale = scale_of(h)
    with torch.no_grad():
        density = (sae.encode(h * scale) > 0).float().mean(0)
    return Reader(sae, PLACE, scale, h.mean(0), density)
