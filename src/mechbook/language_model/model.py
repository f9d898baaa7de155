"""The model: a pre-norm transformer of TransformerLens whose two dictionaries are one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechbook.language_model import tokenizer as tokenizers

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class ModelConfig:
    """The transformer.

    Attributes:
        n_layers: blocks, each attention and then MLP.
        d_model: width of the residual stream.
        n_heads: heads a layer, each of ``d_model / n_heads`` dimensions.
        d_mlp: neurons a layer.
        n_ctx: longest text in tokens, the end-of-text mark at its start included.
        seed: of the initial weights.
    """

    n_layers: int = 4
    d_model: int = 256
    n_heads: int = 8
    d_mlp: int = 1024
    n_ctx: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_layers, self.d_model, self.n_heads, self.d_mlp, self.n_ctx) < 1:
            raise ValueError(f"{self}: layers, widths, heads and context must be 1 or more")
        if self.d_model % self.n_heads or self.d_model % 2:
            raise ValueError(
                f"d_model={self.d_model} with {self.n_heads} heads: "
                "give an even width that the number of heads divides"
            )


def build(config: ModelConfig, tokenizer: Tokenizer) -> TransformerBridge:
    """An untrained model; the unembedding is the embedding, transposed (tied).

    Positions are told by rotating queries and keys (RoPE, Su et al. 2021), so the stream holds
    none: a head can look "one back" from the start, and heads that do so form early.
    """
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_native(  # type: ignore[attr-defined]
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            d_head=config.d_model // config.n_heads,
            n_heads=config.n_heads,
            d_mlp=config.d_mlp,
            d_vocab=tokenizer.get_vocab_size(),
            n_ctx=config.n_ctx,
            act_fn="gelu",
            normalization_type="RMS",
            positional_embedding_type="rotary",
            seed=config.seed,
            default_prepend_bos=True,
        ),
        tokenizer=tokenizers.wrap(tokenizer, config.n_ctx),
    )
    _tie(model)
    return model


def _tie(model: Any) -> None:
    native = model.original_model
    inner = [getattr(part, "original_component", part) for part in (native.head, native.tok_embed)]
    inner[0].weight = inner[1].weight


def parameters(model: TransformerBridge) -> dict[str, Tensor]:
    """The trained tensors by plain names, each once."""
    named = model.original_model.named_parameters()
    return {_plain(name): tensor.detach() for name, tensor in named}


def _plain(name: str) -> str:
    return name.replace("_original_component.", "").replace("original_component.", "")
