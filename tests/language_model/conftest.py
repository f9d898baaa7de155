"""A tokenizer of a few sentences, and an untrained model for it."""

from __future__ import annotations

import pytest

from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model.model import ModelConfig, build

SENTENCES = (
    "The king said to the queen: “I don't know.”\n\nShe saw the old house on the hill in May.",
    "A man walked to London on Monday, and his wife walked to Paris on the 12th of June 1914.",
    "The zebra quizzically observed the zymologist; the zebra was not amused by zymology.",
)


@pytest.fixture(scope="session")
def tokenizer():
    """1,024 types, learned from a handful of sentences."""
    config = tokenizers.TokenizerConfig(n_types=1024, n_pieces=60, alphabet=1)
    return tokenizers.train(SENTENCES * 3, config)


@pytest.fixture
def tiny(tokenizer):
    """Two layers, sixteen dimensions, a context of sixteen tokens; not trained."""
    config = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=16)
    return build(config, tokenizer).eval()
