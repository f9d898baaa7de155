"""How surprised a model is by text: its loss, token by token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook.language_model import corpus

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Reading:
    """What a model made of one text.

    Attributes:
        tokens: the text, token by token.
        loss: nats by which each token surprised the model.
        begins: whether a token begins a word.
        characters: of the text as it was given.
    """

    tokens: list[str]
    loss: Float[Tensor, " token"]
    begins: Bool[Tensor, " token"]
    characters: int

    @property
    def per_token(self) -> float:
        """Nats a token."""
        return float(self.loss.mean())

    @property
    def per_word(self) -> float:
        """Nats a word; marks count as words."""
        return float(self.loss.sum() / self.begins.sum())

    @property
    def per_character(self) -> float:
        """Nats a character of the text as it was given."""
        return float(self.loss.sum() / self.characters)


@torch.no_grad()
def token_losses(
    model: Any, tokens: Int[Tensor, "batch posn+1"], at_once: int = 32
) -> Float[Tensor, "batch posn"]:
    """Cross-entropy in nats of each token but the first, which is only read.

    Args:
        model: anything that turns tokens into logits.
        tokens: rows that begin with the end-of-text mark.
        at_once: rows in one forward pass.

    Raises:
        ValueError: nothing to predict, or more tokens than the model can read.
    """
    check_length(model, tokens.shape[1] - 1)
    losses = []
    for part in tokens.split(at_once):
        logits = model(part[:, :-1]).float()
        losses.append(
            torch.nn.functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none")
        )
    return torch.cat(losses)


def check_length(model: Any, length: int) -> None:
    """Refuse an input that is empty, or longer than the model's context.

    Raises:
        ValueError: with the length, what is allowed, and the way out.
    """
    longest = getattr(getattr(model, "cfg", None), "n_ctx", math.inf)
    if not 1 <= length <= longest:
        raise ValueError(
            f"the input has {length} tokens; the model reads 1 to {longest}. "
            "Use score.read(model, text), which cuts a text into windows"
        )


def read(model: TransformerBridge, text: str) -> Reading:
    """Read a text of any length, one window after another.

    Words that the tokenizer does not know are spelled in pieces or bytes, so any text that has a
    character other than a space can be read.

    Raises:
        ValueError: the text has no token.
    """
    tokenizer = model.tokenizer.backend_tokenizer
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the text is empty; give at least one word")
    stream = corpus.encode(tokenizer, [text])
    end = int(model.tokenizer.bos_token_id)
    ids = torch.from_numpy(stream.ids.astype("int64"))
    losses = [
        token_losses(model, torch.cat([torch.tensor([end]), part])[None])[0]
        for part in ids.split(model.cfg.n_ctx)
    ]
    tokens = [tokenizer.id_to_token(int(i)) for i in ids]
    return Reading(tokens, torch.cat(losses), torch.from_numpy(stream.begins), len(text))
