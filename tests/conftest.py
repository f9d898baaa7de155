"""Small tests on a machine that may be busy: one thread each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> None:
    """Two threads on two busy cores can take a hundred times as long as one for a tiny product."""
    if "torch" in sys.modules and "benchmarks" not in request.path.parts:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a GPT-2 of two layers with random weights, as Hugging Face saves it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    def save(words: list[str], **config: float) -> Path:
        """Words: the vocabulary, the mark that begins and ends a text first."""
        folder = tmp_path_factory.mktemp("gpt2")
        vocabulary = {word: i for i, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        marks = dict.fromkeys(("bos_token", "eos_token", "unk_token"), words[0])
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
        torch.manual_seed(0)
        sizes = {
            "n_layer": 2,
            "n_head": 2,
            "n_embd": 8,
            "n_positions": 16,
            "vocab_size": len(words),
        }
        shape = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, **config)
        GPT2LMHeadModel(shape).save_pretrained(folder)
        return folder

    return save
