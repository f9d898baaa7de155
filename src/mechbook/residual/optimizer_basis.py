"""Does training single out the coordinate axes of a residual stream that the architecture does not?

The transformer here has RMSNorm without gains and no biases, and its weights start Gaussian: turned
by any rotation it is the same model, and no axis is special (``rotated``). What is left that
could make an axis special is the optimizer. Adam divides each *coordinate* of the gradient by a
scale of its own, so it knows the axes; gradient descent does not (``equivariance_gap``).

Source: N. Elhage, R. Lasenby, C. Olah, "Privileged Bases in the Transformer Residual Stream"
(2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechbook import training
from mechbook.residual.rotation import normalize, random_orthogonal

ROWS = ("W_E", "W_pos", "W_O", "W_out")  # d_model is the last axis: they write
COLUMNS = ("W_Q", "W_K", "W_V", "W_in", "W_U")  # d_model is the last but one: they read


@dataclass(frozen=True)
class Settings:
    """The model, its task (a random Markov chain) and its training.

    Attributes:
        sharpness: standard deviation of the chain's log transition weights.
        steps: updates.
        schedule: updates after which the learning rate has come down to nothing; a run with fewer
            ``steps`` is the beginning of the longer one.
        warmup: updates until the full learning rate.
        clip: greatest norm of a member's gradient.
    """

    d_vocab: int = 64
    d_model: int = 64
    n_heads: int = 4
    d_mlp: int = 256
    n_layers: int = 2
    n_ctx: int = 32
    batch: int = 32
    sharpness: float = 3.0
    steps: int = 1500
    schedule: int = 1500
    warmup: int = 100
    clip: float = 1.0

    def __post_init__(self) -> None:
        wrong = {k: v for k, v in vars(self).items() if not v > 0}
        if wrong:
            raise ValueError(f"got {wrong}; every setting must be above 0")
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model is {self.d_model} and n_heads {self.n_heads}; heads must divide the width"
            )


class StackedTransformer(nn.Module):
    """One transformer a seed, stacked along a leading axis: no gains, no biases, Gaussian start."""

    def __init__(self, settings: Settings, seeds: Sequence[int]):
        super().__init__()
        if not seeds:
            raise ValueError("seeds is empty; give at least one")
        self.settings = settings
        members = [_gaussian_weights(settings, seed) for seed in seeds]
        self.weights = nn.ParameterDict(
            {name: torch.stack([member[name] for member in members]) for name in members[0]}
        )

    def streams(
        self, tokens: Int[Tensor, "member batch posn"]
    ) -> list[Float[Tensor, "member batch posn d_model"]]:
        """The stream after the embedding and after each block."""
        w = self.weights
        member = torch.arange(len(tokens))[:, None, None]
        x = w["W_E"][member, tokens] + w["W_pos"][:, None, : tokens.shape[-1]]
        streams = [x]
        for layer in range(self.settings.n_layers):
            x = x + self._attention(layer, normalize(x, "RMS"))
            x = x + self._mlp(layer, normalize(x, "RMS"))
            streams.append(x)
        return streams

    def forward(
        self, tokens: Int[Tensor, "member batch posn"]
    ) -> Float[Tensor, "member batch posn d_vocab"]:
        """Logits."""
        x = normalize(self.streams(tokens)[-1], "RMS")
        return torch.einsum("mbpd,mdv->mbpv", x, self.weights["W_U"])

    def _attention(self, layer: int, x: Tensor) -> Tensor:
        q, k, v = (
            torch.einsum("mbpd,mhde->mbhpe", x, self.weights[f"W_{i}{layer}"]) for i in "QKV"
        )
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.einsum("mbhpe,mhed->mbpd", z, self.weights[f"W_O{layer}"])

    def _mlp(self, layer: int, x: Tensor) -> Tensor:
        hidden = torch.einsum("mbpd,mdf->mbpf", x, self.weights[f"W_in{layer}"]).relu()
        return torch.einsum("mbpf,mfd->mbpd", hidden, self.weights[f"W_out{layer}"])


def _gaussian_weights(s: Settings, seed: int) -> dict[str, Tensor]:
    d_head, narrow = s.d_model // s.n_heads, 1 / math.sqrt(2 * s.n_layers)
    shapes: dict[str, tuple[tuple[int, ...], float]] = {
        "W_E": ((s.d_vocab, s.d_model), s.d_model**-0.5),
        "W_pos": ((s.n_ctx, s.d_model), 0.3 * s.d_model**-0.5),
        "W_U": ((s.d_model, s.d_vocab), s.d_model**-0.5),
    }
    for layer in range(s.n_layers):
        for i in "QKV":
            shapes[f"W_{i}{layer}"] = ((s.n_heads, s.d_model, d_head), s.d_model**-0.5)
        shapes[f"W_O{layer}"] = ((s.n_heads, d_head, s.d_model), narrow * s.d_model**-0.5)
        shapes[f"W_in{layer}"] = ((s.d_model, s.d_mlp), s.d_model**-0.5)
        shapes[f"W_out{layer}"] = ((s.d_mlp, s.d_model), narrow * s.d_mlp**-0.5)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale * torch.randn(*shape, generator=generator)
        for name, (shape, scale) in shapes.items()
    }


def rotated(name: str, w: Tensor, R: Float[Tensor, "d_model d_model"]) -> Tensor:
    """One weight with the stream turned, ``x → x @ R``: writers ``W @ R``, readers ``Rᵀ @ W``.

    Raises:
        ValueError: the name is no weight of the model.
    """
    kind = name.rstrip("0123456789")
    if kind in ROWS:
        return w @ R
    if kind in COLUMNS:
        return R.T @ w
    raise ValueError(f"no weight is called {name!r}; names begin with {ROWS + COLUMNS}")


# --- the task ---------------------------------------------------------------------------------


def markov_chain(settings: Settings, *, seed: int) -> Float[Tensor, "now next"]:
    """Transition probabilities: a softmax of Gaussian numbers, row by row."""
    generator = training.generator(seed, 0)
    logits = torch.randn(settings.d_vocab, settings.d_vocab, generator=generator)
    return (settings.sharpness * logits).softmax(-1)


def walks(
    chain: Float[Tensor, "now next"], settings: Settings, *, seed: int, step: int, count: int = 1
) -> Int[Tensor, "count batch posn"]:
    """Sequences that follow the chain from uniformly drawn first tokens."""
    generator = training.generator(seed, step + 1)
    rows = count * settings.batch
    tokens = torch.randint(settings.d_vocab, (rows, settings.n_ctx), generator=generator)
    for posn in range(1, settings.n_ctx):
        here = chain[tokens[:, posn - 1]]
        tokens[:, posn] = torch.multinomial(here, 1, generator=generator)[:, 0]
    return tokens.view(count, settings.batch, settings.n_ctx)


def entropy_rate(chain: Float[Tensor, "now next"]) -> float:
    """The lowest loss that any predictor can reach, in nats a token."""
    values, vectors = torch.linalg.eig(chain.double().T)
    stationary = vectors[:, values.real.argmax()].real.abs()
    entropies = torch.special.entr(chain.double()).sum(-1)
    return float((stationary / stationary.sum()) @ entropies)


def next_token_loss(
    model: StackedTransformer, tokens: Int[Tensor, "member batch posn"]
) -> Float[Tensor, " member"]:
    """Cross-entropy of each member, in nats a token."""
    logits = model(tokens)[:, :, :-1]
    losses = F.cross_entropy(logits.flatten(0, 2), tokens[:, :, 1:].flatten(), reduction="none")
    return losses.view(len(tokens), -1).mean(-1)


# --- optimizers -------------------------------------------------------------------------------


class TensorAdam(torch.optim.Optimizer):
    """Adam with one normalizer for each whole tensor of each member: it cannot see the axes.

    ``v`` is the running mean of the gradient's mean square over the tensor, where Adam keeps one
    running mean an entry. Everything else is Adam.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        state, (b1, b2) = self.state[p], group["betas"]
        if not state:
            state.update(step=torch.zeros(()), m=torch.zeros_like(p), v=p.new_zeros(len(p)))
        state["step"] += 1
        t = float(state["step"])
        assert p.grad is not None
        state["m"].lerp_(p.grad, 1 - b1)
        state["v"].lerp_(p.grad.flatten(1).pow(2).mean(1), 1 - b2)
        root = (state["v"] / (1 - b2**t)).sqrt().view(-1, *[1] * (p.ndim - 1))
        p.sub_(group["lr"] * state["m"] / (1 - b1**t) / (root + group["eps"]))


@dataclass(frozen=True)
class Arm:
    """One way to train: a name, a learning rate, and how to make the optimizer."""

    name: str
    lr: float
    make: Callable[[Any, float], torch.optim.Optimizer]


def _adam(params: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=lr, betas=(0.9, 0.99))


def _sgd(params: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, momentum=0.9)


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("Adam", 1e-2, _adam),
        Arm("Adam, small steps", 3e-3, _adam),
        Arm("one normalizer a tensor", 1e-2, TensorAdam),
        Arm("SGD with momentum", 2.0, _sgd),
    )
}


def arm(name: str) -> Arm:
    """The arm of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in ARMS:
        raise ValueError(f"there is no arm {name!r}; choose one of {list(ARMS)}")
    return ARMS[name]


def _schedule(settings: Settings) -> Callable[[int], float]:
    """Up over the warmup, level, then down to nothing over the last 30 %."""

    def factor(step: int) -> float:
        left = (settings.schedule - step) / (0.3 * settings.schedule)
        return min(1.0, (step + 1) / settings.warmup, max(left, 0.02))

    return factor


# --- what is measured -------------------------------------------------------------------------


def basis_kurtosis(x: Float[Tensor, "... d_model"], *, keep: int = 0) -> Float[Tensor, "*kept"]:
    """Excess kurtosis of each vector over its coordinates, averaged over the vectors.

    ``d Σ x_i⁴ / (Σ x_i²)²``, minus 3d/(d + 2), which is its mean over all rotations of ``x``: 0 says
    that the coordinate axes are like any others, ``d − 3d/(d + 2)`` that vectors lie on an axis.

    Args:
        x: vectors, at least one coordinate each; none may be zero.
        keep: how many leading axes not to average over.

    Raises:
        ValueError: no coordinate, a zero vector, or ``keep`` out of range.
    """
    if x.ndim < 1 or x.shape[-1] < 1 or not 0 <= keep < max(x.ndim, 1):
        raise ValueError(
            f"x has shape {tuple(x.shape)} and keep is {keep}; give vectors along the last axis "
            "and keep fewer axes than there are"
        )
    squares = x.pow(2)
    total = squares.sum(-1)
    if not bool((total > 0).all()):
        raise ValueError("a vector of x is zero, or not a number; leave such vectors out")
    d = x.shape[-1]
    kurtosis = d * squares.pow(2).sum(-1) / total.pow(2)
    return kurtosis.flatten(keep).mean(-1) - 3 * d / (d + 2)


def scale_spread(x: Float[Tensor, "member ... d_model"]) -> Float[Tensor, " member"]:
    """Largest root mean square of a coordinate over the median one: 1 where all are alike."""
    scales = x.flatten(1, -2).pow(2).mean(1).sqrt()
    return scales.max(-1).values / scales.median(-1).values


def train_arm(
    name: str,
    settings: Settings | None = None,
    *,
    seeds: Sequence[int] = range(6),
    every: int = 100,
) -> dict[str, np.ndarray]:
    """Train one arm over all seeds at once and measure as it goes.

    Returns:
        Columns ``optimizer, lr, seed, step, loss, kurtosis, kurtosis_turned, kurtosis_embedding,
        scale_spread, floor``, one row a seed and measured step. ``loss`` is that of held-out walks,
        ``floor`` its lowest possible value; ``kurtosis`` is that of the final stream,
        ``kurtosis_turned`` the same in random axes.

    Raises:
        ValueError: no such arm, or bad settings.
    """
    settings, chosen = settings or Settings(), arm(name)
    model = StackedTransformer(settings, seeds)
    optimizer = chosen.make(model.parameters(), chosen.lr)
    chains = [markov_chain(settings, seed=seed) for seed in seeds]
    history = training.train(
        model,
        lambda m, step: next_token_loss(m, _batch(chains, settings, seeds, step)),
        optimizer=optimizer,
        steps=settings.steps,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(settings)),
        clip=settings.clip,
        metrics=_metrics(chains, settings, seeds),
        metrics_every=every,
        label=name,
    )
    return _columns(chosen, seeds, chains, history)


def _batch(chains: Sequence[Tensor], settings: Settings, seeds: Sequence[int], step: int) -> Tensor:
    parts = [
        walks(chain, settings, seed=seed, step=step)
        for chain, seed in zip(chains, seeds, strict=True)
    ]
    return torch.cat(parts)


def _metrics(
    chains: Sequence[Tensor], settings: Settings, seeds: Sequence[int]
) -> Callable[[StackedTransformer, int], dict[str, Tensor]]:
    held_out = torch.cat([_batch(chains, settings, seeds, 10**6 + i) for i in range(2)], dim=1)
    turn = random_orthogonal(settings.d_model, seed=12345).float()

    def measure(model: StackedTransformer, step: int) -> dict[str, Tensor]:
        final = model.streams(held_out)[-1]
        return {
            "loss": next_token_loss(model, held_out),
            "kurtosis": basis_kurtosis(final, keep=1),
            "kurtosis_turned": basis_kurtosis(final @ turn, keep=1),
            "kurtosis_embedding": basis_kurtosis(model.weights["W_E"], keep=1),
            "scale_spread": scale_spread(final),
        }

    return measure


def _columns(
    chosen: Arm, seeds: Sequence[int], chains: Sequence[Tensor], history: training.History
) -> dict[str, np.ndarray]:
    times, members = len(history.metric_steps), len(seeds)
    return {
        "optimizer": np.full(times * members, chosen.name),
        "lr": np.full(times * members, chosen.lr),
        "seed": np.tile(np.array(seeds), times),
        "step": np.repeat(history.metric_steps, members),
        **{name: values.reshape(-1) for name, values in history.metrics.items()},
        "floor": np.tile(np.array([entropy_rate(chain) for chain in chains]), times),
    }


def measure_arms(
    settings: Settings | None = None,
    *,
    names: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = range(6),
) -> dict[str, np.ndarray]:
    """``train_arm`` for several arms, one table.

    Raises:
        ValueError: no arm, or one that does not exist.
    """
    if not names:
        raise ValueError(f"names is empty; choose from {list(ARMS)}")
    tables = [train_arm(name, settings, seeds=seeds) for name in names]
    return {column: np.concatenate([t[column] for t in tables]) for column in tables[0]}


def recipe(steps: int = 1500, members: int = 6) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``residual-optimizer-basis``: ``measure_arms`` and what its card says.

    Raises:
        ValueError: fewer than one step or member.
    """
    if members < 1:
        raise ValueError(f"members is {members}; give at least 1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        columns = measure_arms(Settings(steps=steps, schedule=steps), seeds=range(members))
    finally:
        torch.set_num_threads(threads)
    about = (
        "Loss and kurtosis of the final residual stream over its coordinates during the training "
        "of small transformers without any special axis, by optimizer and seed."
    )
    return columns, {"about": about, "seeds": list(range(members))}


def final_rows(table: Mapping[str, np.ndarray], optimizer: str) -> dict[str, np.ndarray]:
    """The rows of one optimizer after its last step, by seed.

    Raises:
        ValueError: the table has no such optimizer.
    """
    names = np.asarray(table["optimizer"])
    if optimizer not in names:
        raise ValueError(f"no optimizer {optimizer!r} in the table; it has {sorted(set(names))}")
    here = names == optimizer
    last = here & (np.asarray(table["step"]) == np.asarray(table["step"])[here].max())
    return {column: np.asarray(values)[last] for column, values in table.items()}


# --- why: who commutes with a rotation --------------------------------------------------------


def equivariance_gap(
    name: str, *, steps: int = 20, seed: int = 0, settings: Settings | None = None
) -> float:
    """Train-then-turn against turn-then-train: the largest difference of a weight, relative.

    Two members see the same data in float64; the second starts as the first, turned by a random
    rotation R. If the optimizer cannot see the axes, the second stays the first, turned by R.

    Raises:
        ValueError: no such arm, or fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1")
    s = settings or Settings(d_model=16, n_heads=2, d_mlp=32, d_vocab=12, n_ctx=8, batch=8)
    chosen, R = arm(name), random_orthogonal(s.d_model, seed=seed)
    model = StackedTransformer(s, (seed, seed)).double()
    with torch.no_grad():
        for key, w in model.weights.items():
            w[1] = rotated(key, w[0], R)
    chain = markov_chain(s, seed=seed)
    training.train(
        model,
        lambda m, step: next_token_loss(m, walks(chain, s, seed=seed, step=step).repeat(2, 1, 1)),
        optimizer=chosen.make(model.parameters(), chosen.lr),
        steps=steps,
        clip=s.clip,
        progress=False,
    )
    gaps = [
        float((rotated(key, w[0], R) - w[1]).detach().abs().max() / w[1].detach().abs().max())
        for key, w in model.weights.items()
    ]
    return max(gaps)
