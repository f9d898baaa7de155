"""Reading texts with an autoencoder: which latents are active where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import artifacts, training
from mechbook.language_model import sampling
from mechbook.sae.activations import FIRST, check_place
from mechbook.sae.readers import Reader

SAMPLES = "language-model-samples"


@torch.no_grad()
def activity(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "text posn"],
    latents: Sequence[int] | None = None,
    at_once: int = 16,
) -> Float[Tensor, "text posn latent"]:
    """Codes at every position of some texts; the first position is silent.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark.
        latents: which of them; all without.
        at_once: texts in one forward pass.

    Raises:
        ValueError: a latent that is not there, or a place that the model does not have.
    """
    check_place(model, reader.place)
    which = check_latents(reader, latents)
    layer, rows = int(reader.place.split(".")[1]), []
    for part in tokens.split(at_once):
        _, cache = model.run_with_cache(part, names_filter=[reader.place], stop_at_layer=layer + 1)
        z = reader.encode(cache[reader.place])[..., which]
        z[:, :FIRST] = 0
        rows.append(z)
    return torch.cat(rows)


def check_latents(reader: Reader, latents: Sequence[int] | None) -> Int[Tensor, " chosen"]:
    """The numbers of latents as a tensor; all, where none are given.

    Raises:
        ValueError: one that is not there.
    """
    count = reader.sae.config.d_sae
    if latents is None:
        return torch.arange(count)
    if wrong := [i for i in latents if not 0 <= i < count]:
        raise ValueError(f"latent {wrong[0]} is not there; give numbers from 0 to {count - 1}")
    return torch.tensor(list(latents))


def read_text(model: Any, text: str) -> Int[Tensor, "1 posn"]:
    """A reader's own text as tokens, cut at what the model can see.

    Raises:
        ValueError: no word in it.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the text is empty; give at least one word")
    ids = model.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    end = int(model.tokenizer.bos_token_id)
    return torch.tensor([[end, *ids][: model.cfg.n_ctx]])


def names_of(model: Any) -> list[str]:
    """How each type of the vocabulary is written."""
    tokenizer = model.tokenizer.backend_tokenizer
    return [str(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]


def shipped_texts(model: Any, count: int = 512, length: int = 112) -> Int[Tensor, "text length+1"]:
    """Texts that travel with the book; the language model wrote them itself.

    Raises:
        ArtifactError: missing or damaged.
    """
    columns = artifacts.load_texts(SAMPLES)
    texts = columns["text"][columns["temperature"] == 1].tolist()
    return sampling.encoded(model, texts, length)[:count]


def drawn(reader: Reader, count: int, seed: int = 0) -> list[int]:
    """Numbers of latents, drawn at random: nobody looked for nice ones."""
    order = torch.randperm(reader.sae.config.d_sae, generator=training.generator(seed))
    return sorted(order[:count].tolist())
