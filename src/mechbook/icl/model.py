"""The transformer that reads pairs of picture and label: from two attention layers to the paper's twelve.

Pre-norm, causal, attention written out (an explicit softmax), so that ``torch.func.vmap`` can run many
at once. Only the query is asked for its label, so the last layer computes its query alone, unless
the patterns are asked for.
"""

from __future__ import annotations

from typing import Any, cast, overload

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechbook import training
from mechbook.icl.config import IclConfig


class Attention(nn.Module):
    """Causal attention, written out. Keys have no bias: the softmax would not see it."""

    future: Tensor

    def __init__(self, d_model: int, n_heads: int, posn: int):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.value, self.out = (nn.Linear(d_model, d_model) for _ in range(3))
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.register_buffer("future", torch.ones(posn, posn).triu(1).bool(), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch posn d_model"]
    ) -> tuple[Float[Tensor, "batch posn d_model"], Float[Tensor, "batch head query key"]]:
        """What each position takes from those up to it, and the pattern."""
        split = "batch posn (head d_head) -> batch head posn d_head"
        q, k, v = (
            rearrange(part(x), split, head=self.n_heads)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.mT / k.shape[-1] ** 0.5
        pattern = scores.masked_fill(self.future, float("-inf")).softmax(-1)
        mixed = rearrange(pattern @ v, "batch head posn d_head -> batch posn (head d_head)")
        return self.out(mixed), pattern

    def last(self, x: Float[Tensor, "batch posn d_model"]) -> Float[Tensor, "batch d_model"]:
        """What the last position takes: the same, for one query, without a key or value a position.

        q · (W_K x) = (q W_K) · x, and a mean of W_V x is W_V of the mean: the matrices meet one
        vector a head, where `forward` multiplies every position by them.
        """
        split = "(head d_head) d_model -> head d_head d_model"
        W_K, W_V = (
            rearrange(part.weight, split, head=self.n_heads) for part in (self.key, self.value)
        )
        q = rearrange(
            self.query(x[:, -1]), "batch (head d_head) -> batch head d_head", head=self.n_heads
        )
        asked = einsum(q, W_K, "batch head d_head, head d_head d_model -> batch head d_model")
        pattern = (asked @ x.mT / q.shape[-1] ** 0.5).softmax(-1)
        mixed = einsum(
            pattern @ x, W_V, "batch head d_model, head d_head d_model -> batch head d_head"
        )
        return self.out(mixed.flatten(1) + self.value.bias)


class Block(nn.Module):
    """Attention and, where there is one, an MLP; each reads a normalized stream and adds to it."""

    def __init__(self, config: IclConfig):
        super().__init__()
        width = config.d_model
        norm = nn.LayerNorm if config.norm else nn.Identity
        self.attention_norm = norm(width)
        self.attention = Attention(width, config.n_heads, config.posn)
        self.mlp = None
        if config.mlp:
            self.mlp_norm = norm(width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

    def forward(self, x: Float[Tensor, "batch posn d_model"]) -> tuple:
        """The stream after the block, and the pattern."""
        mixed, pattern = self.attention(self.attention_norm(x))
        return self._through_mlp(x + mixed), pattern

    def last(self, x: Float[Tensor, "batch posn d_model"]) -> Float[Tensor, "batch d_model"]:
        """The stream after the block at the last position alone."""
        return self._through_mlp(x[:, -1] + self.attention.last(self.attention_norm(x)))

    def _through_mlp(self, x: Float[Tensor, "*place d_model"]) -> Float[Tensor, "*place d_model"]:
        return x if self.mlp is None else x + self.mlp(self.mlp_norm(x))


class ResBlock(nn.Module):
    """Two convolutions and a way around them, normalized in groups instead of over the batch."""

    def __init__(self, channels: int, wider: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(8, wider) for _ in range(2))
        same = stride == 1 and channels == wider
        self.around = nn.Identity() if same else nn.Conv2d(channels, wider, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "picture channel row column"]) -> Tensor:
        """One block, as in ResNet version 1."""
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.around(x))


class ResNet(nn.Module):
    """The embedder of Chan et al. 2022: groups of (2, 2, 2, 2) blocks, 16, 32, 32 and d channels.

    Group normalization stands for batch normalization. Pictures of less than 64 pixels a side skip
    the first halvings (stride and max-pooling), which would leave nothing of them.
    """

    def __init__(self, side: int, d_model: int):
        super().__init__()
        self.side, self.large = side, side >= 64
        self.first = nn.Conv2d(1, 16, 7, 2 if self.large else 1, 3, bias=False)
        self.norm = nn.GroupNorm(8, 16)
        widths = (16, 16, 32, 32, d_model)
        self.groups = nn.Sequential(
            *(
                nn.Sequential(
                    ResBlock(widths[i], widths[i + 1], 1 if i == 0 else 2),
                    ResBlock(widths[i + 1], widths[i + 1], 1),
                )
                for i in range(4)
            )
        )

    def forward(self, pixels: Float[Tensor, "batch item pixel"]) -> Float[Tensor, "batch item d"]:
        """Each picture as a vector: the mean over what is left of its rows and columns."""
        x = rearrange(pixels, "batch item (row column) -> (batch item) 1 row column", row=self.side)
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.large else x
        x = self.groups(x).mean((-2, -1))
        return rearrange(x, "(batch item) d -> batch item d", item=pixels.shape[1])


class Transformer(nn.Module):
    """Reads eight pairs and a query, and says the query's label."""

    place: Tensor
    label_vectors: Tensor

    def __init__(self, config: IclConfig):
        super().__init__()
        content = config.content
        self.embed: nn.Module = {
            "linear": lambda: nn.Linear(config.n_inputs, content),
            "resnet": lambda: ResNet(config.side, content),
            "none": nn.Identity,
        }[config.embedder]()
        self._embed_labels(config, content)
        self._place(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.d_model) if config.norm else nn.Identity()
        self.readout = _readout(config)

    def _embed_labels(self, config: IclConfig, content: int) -> None:
        """A table that is learned; without an embedder fixed vectors, as the pictures' are (Reddy)."""
        vectors = config.label_scale * torch.randn(config.n_labels, content)
        if config.embedder == "none":
            self.register_buffer("label_vectors", vectors)
        else:
            self.label_vectors = nn.Parameter(vectors)

    def _place(self, config: IclConfig) -> None:
        if config.positions == "learned":
            self.place = nn.Parameter(0.02 * torch.randn(config.posn, config.d_model))
        elif config.positions == "sinusoidal":
            self.register_buffer("place", sinusoids(config.posn, config.d_model))
        else:
            self.register_buffer("place", torch.eye(config.posn))
        self.beside = config.positions == "one-hot"

    def stream(
        self, inputs: Float[Tensor, "batch item feature"], labels: Int[Tensor, "batch pair"]
    ) -> Float[Tensor, "batch posn d_model"]:
        """Pictures and labels in turn, the query last, with their places."""
        pictures = self.embed(inputs)
        pairs = torch.stack([pictures[:, :-1], self.label_vectors[labels]], 2).flatten(1, 2)
        tokens = torch.cat([pairs, pictures[:, -1:]], 1)
        if not self.beside:
            return tokens + self.place
        return torch.cat([tokens, self.place.expand(len(tokens), -1, -1)], -1)

    @overload
    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor: ...
    @overload
    def forward(self, inputs: Tensor, labels: Tensor, patterns: bool) -> Any: ...
    def forward(self, inputs: Tensor, labels: Tensor, patterns: bool = False) -> Any:
        """Logits of the query's label [batch, label]; with patterns [batch, layer, head, query, key] too."""
        x = self.stream(inputs, labels)
        if not patterns:
            for block in self.blocks[:-1]:
                x, _ = block(x)
            return self.readout(self.final_norm(cast(Block, self.blocks[-1]).last(x)))
        found = []
        for block in self.blocks:
            x, pattern = block(x)
            found.append(pattern)
        return self.readout(self.final_norm(x[:, -1])), torch.stack(found, 1)


def _readout(config: IclConfig) -> nn.Module:
    width = config.d_model
    if config.readout == "linear":
        return nn.Linear(width, config.n_labels)
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, config.n_labels))


def sinusoids(posn: int, d_model: int, longest: float = 30.0) -> Float[Tensor, "posn d_model"]:
    """Sines, then cosines, of wavelengths from 2π to 2π · ``longest`` (Chan et al. 2022 take 30)."""
    rates = longest ** (-torch.arange(0, d_model, 2) / d_model)
    angles = einsum(torch.arange(posn).float(), rates, "posn, rate -> posn rate")
    return torch.cat([angles.sin(), angles.cos()], -1)


def build(config: IclConfig) -> Transformer:
    """An untrained model; its weights hang on the seed and the architecture alone."""
    with training.seeded(config.seed):
        return Transformer(config)


def part(name: str) -> str:
    """The part of the model that a parameter belongs to.

    Returns:
        ``embedder``, ``attention``, ``mlp``, ``readout``; or ``none`` for what no decay touches:
        gains and biases of norms, all biases, tables of labels and places.
    """
    if name.endswith("bias") or "norm" in name or name in ("label_vectors", "place"):
        return "none"
    for found in ("attention", "mlp"):
        if f".{found}." in name:
            return found
    return "embedder" if name.startswith("embed") else "readout"
