"""How much faster 16 members train stacked than one after the other.

Not part of the tests: ``make bench`` runs it. Rounds of
both kinds alternate, so that a busy machine slows both; the ratio is that of the medians. Both go
through the book's own loop, draw their own batches, and use as many threads as torch chooses.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mechbook import training
from mechbook.ensembles import train_ensemble

MEMBERS = 16
ROUNDS = 3
LR = 1e-3


class Toy(nn.Module):
    """x̂ = ReLU(WᵀWx + b)."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(hidden, features) / features**0.5)
        self.b = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        return F.relu(F.linear(F.linear(x, self.W), self.W.T, self.b))


class Block(nn.Module):
    """Causal attention with an explicit softmax, then an MLP."""

    def __init__(self, d_model: int, heads: int, positions: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.into, self.back = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)
        self.register_buffer("future", torch.ones(positions, positions).triu(1).bool())

    def forward(self, residual):
        batch, positions, d_model = residual.shape
        qkv = self.qkv(self.norm_attention(residual)).view(batch, positions, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / (d_model // self.heads) ** 0.5
        pattern = scores.masked_fill(self.future, float("-inf")).softmax(-1)
        mixed = (pattern @ value).transpose(1, 2).reshape(batch, positions, d_model)
        residual = residual + self.out(mixed)
        return residual + self.back(F.gelu(self.into(self.norm_mlp(residual))))


def transformer(vocabulary: int, d_model: int, heads: int, layers: int, positions: int):
    blocks = [Block(d_model, heads, positions) for _ in range(layers)]
    return nn.Sequential(nn.Embedding(vocabulary, d_model), *blocks, nn.Linear(d_model, vocabulary))


def bridge(vocabulary: int, d_model: int, heads: int, layers: int, positions: int):
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = TransformerBridgeConfig(
        n_layers=layers,
        d_model=d_model,
        n_ctx=positions,
        d_head=d_model // heads,
        n_heads=heads,
        d_vocab=vocabulary,
        attn_only=True,
        normalization_type=None,
    )
    return TransformerBridge.boot_native(config)


def reconstruction(model, x, _):
    return (model(x) - x).pow(2).mean()


def next_token(model, tokens, _):
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def sparse(features: int, batch: int, draw: torch.Generator, *members: int):
    x = torch.rand(*members, batch, features, generator=draw)
    return x * (torch.rand(x.shape, generator=draw) < 0.1)


def tokens(vocabulary: int, batch: int, positions: int, draw: torch.Generator, *members: int):
    return torch.randint(vocabulary, (*members, batch, positions), generator=draw)


@dataclass(frozen=True)
class World:
    build: Callable
    loss: Callable
    draw: Callable
    steps: int


WORLDS = {
    "toy 5 to 2, batch 256": World(
        partial(Toy, 5, 2), reconstruction, partial(sparse, 5, 256), 100
    ),
    "toy 5 to 2, batch 1024": World(
        partial(Toy, 5, 2), reconstruction, partial(sparse, 5, 1024), 100
    ),
    "toy 100 to 10, batch 256": World(
        partial(Toy, 100, 10), reconstruction, partial(sparse, 100, 256), 50
    ),
    "toy 100 to 10, batch 1024": World(
        partial(Toy, 100, 10), reconstruction, partial(sparse, 100, 1024), 25
    ),
    "transformer d 16, batch 8 x 16": World(
        partial(transformer, 32, 16, 2, 2, 16), next_token, partial(tokens, 32, 8, 16), 20
    ),
    "transformer d 32, batch 16 x 24": World(
        partial(transformer, 64, 32, 4, 2, 24), next_token, partial(tokens, 64, 16, 24), 10
    ),
    "TransformerBridge d 32, batch 16 x 24": World(
        partial(bridge, 64, 32, 4, 2, 24), next_token, partial(tokens, 64, 16, 24), 10
    ),
}


def train_stacked(world: World, models: list[nn.Module]) -> None:
    def batches(step):
        return world.draw(training.generator(0, step), MEMBERS)

    train_ensemble(models, world.loss, batches=batches, steps=world.steps, lr=LR, progress=False)


def train_one_by_one(world: World, models: list[nn.Module]) -> None:
    for seed, model in enumerate(models):

        def loss(model, step, seed=seed):
            return world.loss(model, world.draw(training.generator(seed, step)), None)

        optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
        training.train(model, loss, optimizer=optimizer, steps=world.steps, progress=False)


@pytest.mark.parametrize("name", WORLDS)
def test_stacked_against_one_by_one(name, benchmark, capsys):
    world = WORLDS[name]
    models = [world.build() for _ in range(MEMBERS)]
    train_stacked(world, models)  # warm up
    sequential = []

    def alternate():
        start = time.perf_counter()
        train_one_by_one(world, models)
        sequential.append(time.perf_counter() - start)
        return (world, models), {}

    benchmark.pedantic(train_stacked, setup=alternate, rounds=ROUNDS)
    stacked, alone = benchmark.stats.stats.median, statistics.median(sequential)
    ratio = alone / stacked
    benchmark.extra_info |= {"one by one, s": alone, "ratio": ratio}
    per_step = 1000 / world.steps
    with capsys.disabled():
        print(
            f"\n{name}: {MEMBERS} members, {torch.get_num_threads()} threads, one by one "
            f"{alone * per_step:.2f} ms a step, stacked {stacked * per_step:.2f} ms: "
            f"{ratio:.1f} times as fast"
        )
