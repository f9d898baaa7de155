"""How gradients travel through a deep stack, with the identity path and without it.

A block is ``y = x + F(x)`` (residual) or ``y = F(x)`` (plain). With ``J_l = ∂F_l/∂x`` the whole
stack has the Jacobian ``∏(I + J_l)`` or ``∏ J_l``. Multiplied out, the first is a sum over all
paths through the stack, ordered here by how many branches a path takes (``path_sums``).

All functions work on several random stacks (``seed``) at once, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Vectors = Float[Tensor, "seed width"]
Matrices = Float[Tensor, "seed width width"]
Placement = Literal["pre", "post", "none"]

PLACEMENTS: tuple[Placement, ...] = ("pre", "post", "none")


# --- a deep stack of small MLPs ---------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """A random deep network, several seeds at once; branch ``F_l(x) = relu(x W_in) W_out``.

    Attributes:
        W_in: first layer of each branch.
        W_out: second layer of each branch.
        skip: whether a block adds its branch to the stream (``x + F(x)``) or replaces it.
    """

    W_in: Float[Tensor, "layer seed width hidden"]
    W_out: Float[Tensor, "layer seed hidden width"]
    skip: bool

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.W_in)


def random_stack(
    depth: int,
    *,
    skip: bool,
    gain: float = 1.0,
    width: int = 32,
    hidden: int = 64,
    seeds: Sequence[int] = range(8),
) -> Stack:
    """A stack whose branches have the average gain ``gain``: E‖J_l v‖² = gain² ‖v‖².

    Weights are Gaussian with He's variance times ``gain²``, so ``gain=1`` is the usual critical
    initialization of a plain ReLU network and ``gain=1/sqrt(depth)`` the usual one for residuals.

    Source: K. He et al., "Delving Deep into Rectifiers" (2015), for the variance 2/fan-in.

    Raises:
        ValueError: a size is below 1, or the gain is negative or not finite.
    """
    sizes = {"depth": depth, "width": width, "hidden": hidden, "number of seeds": len(seeds)}
    too_small = {name: value for name, value in sizes.items() if value < 1}
    if too_small:
        raise ValueError(f"got {too_small}; every size must be at least 1")
    if not (math.isfinite(gain) and gain >= 0):
        raise ValueError(f"gain is {gain}; give a finite number that is not negative")
    parts = [_branches(depth, width, hidden, seed) for seed in seeds]
    W_in, W_out = (torch.stack(part, dim=1) for part in zip(*parts, strict=True))
    return Stack(W_in / math.sqrt(width), gain * W_out * math.sqrt(2 / hidden), skip)


def _branches(depth: int, width: int, hidden: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    W_in = torch.randn(depth, width, hidden, generator=generator, dtype=torch.float64)
    W_out = torch.randn(depth, hidden, width, generator=generator, dtype=torch.float64)
    return W_in, W_out


def random_input(stack: Stack, *, seed: int = 0) -> Vectors:
    """One Gaussian input vector for each of the stack's seeds."""
    generator = torch.Generator().manual_seed(seed)
    shape = (stack.W_in.shape[1], stack.W_in.shape[2])
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def forward(stack: Stack, x: Vectors) -> Vectors:
    """The stack's output."""
    for W_in, W_out in zip(stack.W_in, stack.W_out, strict=True):
        x = _block(x, W_in, W_out, stack.skip)
    return x


def _block(x: Tensor, W_in: Tensor, W_out: Tensor, skip: bool) -> Tensor:
    branch = torch.einsum("sh,shw->sw", torch.einsum("sw,swh->sh", x, W_in).relu(), W_out)
    return x + branch if skip else branch


def branch_jacobians(stack: Stack, x: Vectors) -> Float[Tensor, "layer seed width width"]:
    """``J_l = ∂F_l/∂x`` of every branch where the input ``x`` passes it; rows are outputs.

    For one branch, ``J = (W_in · diag(relu'(x W_in)) · W_out)ᵀ``.
    """
    jacobians = []
    for W_in, W_out in zip(stack.W_in, stack.W_out, strict=True):
        open_gates = (torch.einsum("sw,swh->sh", x, W_in) > 0).to(x)
        jacobians.append(torch.einsum("sih,sh,sho->soi", W_in, open_gates, W_out))
        x = _block(x, W_in, W_out, stack.skip)
    return torch.stack(jacobians)


def whole_jacobian(jacobians: Float[Tensor, "layer seed width width"], *, skip: bool) -> Matrices:
    """``∏(I + J_l)`` with a skip, ``∏ J_l`` without, the last layer leftmost."""
    eye = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    product = eye.expand_as(jacobians[0])
    for J in jacobians:
        product = (eye + J) @ product if skip else J @ product
    return product


def path_sums(
    jacobians: Float[Tensor, "layer seed width width"],
) -> Float[Tensor, "length seed width width"]:
    """For each length k, the sum of all products of k branch Jacobians, in order of depth.

    ``∏(I + J_l) = Σ_k S_k``, ``S_0 = I``. There are ``2^depth`` paths; one more layer ``J`` changes
    the sums by ``S_k ← S_k + J S_(k−1)``, so they cost only ``depth²/2`` products.

    Source: A. Veit, M. Wilber, S. Belongie, "Residual Networks Behave Like Ensembles of Relatively
    Shallow Networks" (2016), for the picture of paths.
    """
    sums = torch.zeros(len(jacobians) + 1, *jacobians.shape[1:], dtype=jacobians.dtype)
    sums[0] = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    for layer, J in enumerate(jacobians):
        sums[1 : layer + 2] += J @ sums[: layer + 1].clone()
    return sums


def path_shares(sums: Float[Tensor, "length seed width width"]) -> Float[Tensor, "length seed"]:
    """Each length's part of the squared size: ‖S_k‖² / Σ ‖S_j‖² (Frobenius norms)."""
    squares = sums.pow(2).sum((-1, -2))
    return squares / squares.sum(0)


def expected_shares(depth: int, gain: float) -> Float[np.ndarray, " length"]:
    """What independent random branches would give: a binomial with p = gain²/(1 + gain²).

    Raises:
        ValueError: depth below 1, or the gain negative or not finite.
    """
    from scipy.stats import binom

    if depth < 1 or not (math.isfinite(gain) and gain >= 0):
        raise ValueError(f"depth is {depth} and gain {gain}; give depth ≥ 1 and a finite gain ≥ 0")
    return binom.pmf(np.arange(depth + 1), depth, gain**2 / (1 + gain**2))


def jacobian_gain(J: Matrices) -> Float[Tensor, " seed"]:
    """How much the Jacobian stretches a random vector: ‖J‖_F / √width, 1 for the identity."""
    return J.pow(2).sum((-1, -2)).sqrt() / math.sqrt(J.shape[-1])


def median_singular_value(J: Matrices) -> Float[Tensor, " seed"]:
    """The singular value that half of the directions do not reach."""
    return torch.linalg.svdvals(J).median(-1).values


# --- the sweep over depth ---------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """End-to-end gradients of one kind of stack at several depths.

    Attributes:
        label: the kind of stack, for the legend.
        depths: numbers of blocks.
        gain: ‖∂y/∂x‖_F / √width.
        median: the median singular value of ∂y/∂x.
    """

    label: str
    depths: tuple[int, ...]
    gain: Float[np.ndarray, "depth seed"]
    median: Float[np.ndarray, "depth seed"]


def depth_sweep(
    label: str,
    *,
    skip: bool,
    gain: float | Callable[[int], float],
    depths: Sequence[int] = (2, 4, 8, 16, 32, 64),
    seeds: Sequence[int] = range(8),
    width: int = 32,
) -> Sweep:
    """Measure ∂y/∂x at each depth; ``gain`` may depend on the depth (``lambda L: L ** -0.5``).

    Raises:
        ValueError: no depth, or as ``random_stack``.
    """
    if not depths:
        raise ValueError("depths is empty; give at least one number of blocks")
    gains, medians = [], []
    for depth in depths:
        g = gain(depth) if callable(gain) else gain
        stack = random_stack(depth, skip=skip, gain=g, width=width, seeds=seeds)
        J = whole_jacobian(branch_jacobians(stack, random_input(stack)), skip=skip)
        gains.append(jacobian_gain(J).numpy())
        medians.append(median_singular_value(J).numpy())
    return Sweep(label, tuple(depths), np.stack(gains), np.stack(medians))


def function_jacobian(function: Callable[[Tensor], Tensor], x: Float[Tensor, " width"]) -> Tensor:
    """∂function/∂x by reverse-mode differentiation, one row an output."""
    return torch.func.jacrev(function)(x)


# --- pre-norm against post-norm, in real transformer blocks ------------------------------------


class Block(nn.Module):
    """One transformer block with its normalization before, after, or nowhere.

    ``pre``: ``x + F(LN(x))``; ``post``: ``LN(x + F(x))``; ``none``: ``x + F(x)``; with
    ``skip=False`` the ``x +`` is left out. F is attention, then an MLP. Xavier initialization.
    """

    def __init__(self, d_model: int, n_heads: int, placement: Placement, *, skip: bool = True):
        super().__init__()
        self.n_heads, self.placement, self.skip = n_heads, placement, skip
        self.W_QKV = nn.Linear(d_model, 3 * d_model, bias=False)
        self.W_O = nn.Linear(d_model, d_model, bias=False)
        self.W_in = nn.Linear(d_model, 4 * d_model, bias=False)
        self.W_out = nn.Linear(4 * d_model, d_model, bias=False)
        for layer in (self.W_QKV, self.W_O, self.W_in, self.W_out):
            nn.init.xavier_normal_(layer.weight)
        # queries, keys and values are three matrices: each gets its own variance 1/d_model
        nn.init.normal_(self.W_QKV.weight, std=d_model**-0.5)

    def forward(
        self, x: Float[Tensor, "batch posn d_model"]
    ) -> Float[Tensor, "batch posn d_model"]:
        """The stream behind the block."""
        return self._sublayer(self._sublayer(x, self.attention), self.mlp)

    def _sublayer(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        norm = F.layer_norm if self.placement != "none" else (lambda y, _shape: y)
        shape = x.shape[-1:]
        change = branch(norm(x, shape) if self.placement == "pre" else x)
        y = x + change if self.skip else change
        return norm(y, shape) if self.placement == "post" else y

    def attention(self, x: Tensor) -> Tensor:
        """Causal self-attention: mixes positions."""
        batch, posn, d_model = x.shape
        q, k, v = (
            part.view(batch, posn, self.n_heads, -1).transpose(1, 2)
            for part in self.W_QKV(x).chunk(3, dim=-1)
        )
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.W_O(z.transpose(1, 2).reshape(batch, posn, d_model))

    def mlp(self, x: Tensor) -> Tensor:
        """Two layers with a ReLU: mixes coordinates."""
        return self.W_out(self.W_in(x).relu())


class DeepTransformer(nn.Module):
    """Embedding, ``depth`` blocks, final norm (not for ``post`` and ``none``), unembedding."""

    def __init__(
        self,
        depth: int,
        placement: Placement,
        *,
        skip: bool = True,
        final_norm: bool = True,
        d_model: int = 32,
        n_heads: int = 4,
        d_vocab: int = 32,
    ):
        super().__init__()
        if placement not in PLACEMENTS:
            raise ValueError(f"placement is {placement!r}; choose one of {PLACEMENTS}")
        if depth < 1 or d_model % n_heads:
            raise ValueError(
                f"depth is {depth}, d_model {d_model}, n_heads {n_heads}; give a depth of at least "
                "1 and a number of heads that divides d_model"
            )
        self.normed_end = placement == "pre" and final_norm
        self.embed = nn.Embedding(d_vocab, d_model)
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, placement, skip=skip) for _ in range(depth)
        )
        self.unembed = nn.Linear(d_model, d_vocab, bias=False)
        nn.init.normal_(self.unembed.weight, std=d_model**-0.5)

    def streams(self, tokens: Tensor) -> list[Float[Tensor, "batch posn d_model"]]:
        """The stream after the embedding and after each block."""
        streams = [self.embed(tokens)]
        for block in self.blocks:
            streams.append(block(streams[-1]))
        return streams

    def decode(self, x: Tensor) -> Float[Tensor, "batch posn d_vocab"]:
        """Logits from a stream, through the final norm where there is one."""
        return self.unembed(F.layer_norm(x, x.shape[-1:]) if self.normed_end else x)

    def forward(self, tokens: Tensor) -> Float[Tensor, "batch posn d_vocab"]:
        """Logits."""
        return self.decode(self.streams(tokens)[-1])


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of the loss at initialization, layer by layer.

    Attributes:
        placement: where the norm stands.
        depth: number of blocks.
        weights: norm of the gradient of each block's ``W_out``.
        streams: norm of the gradient of the stream before each block.
        scales: root mean square of the stream's coordinates before each block and after the last.
    """

    placement: Placement
    depth: int
    weights: Float[np.ndarray, "seed layer"]
    streams: Float[np.ndarray, "seed layer"]
    scales: Float[np.ndarray, "seed layer_plus_1"]


def layer_gradients(
    placement: Placement,
    depth: int,
    *,
    seeds: Sequence[int] = range(5),
    skip: bool = True,
    final_norm: bool = True,
    batch: int = 8,
    posn: int = 16,
    d_model: int = 32,
) -> LayerGradients:
    """Gradients of a next-token loss on random tokens in freshly made transformers.

    Source: R. Xiong et al., "On Layer Normalization in the Transformer Architecture" (2020).

    Raises:
        ValueError: as ``DeepTransformer``, or no seed.
    """
    if not seeds:
        raise ValueError("seeds is empty; give at least one")
    options = {"skip": skip, "final_norm": final_norm, "d_model": d_model}
    runs = [_one_run(placement, depth, seed, (batch, posn), options) for seed in seeds]
    weights, streams, scales = (np.array(part) for part in zip(*runs, strict=True))
    return LayerGradients(placement, depth, weights, streams, scales)


def _one_run(
    placement: Placement, depth: int, seed: int, shape: tuple[int, int], options: dict[str, Any]
) -> tuple[list[float], list[float], list[float]]:
    from mechbook.training import seeded

    with seeded(seed):
        model = DeepTransformer(depth, placement, **options)
        tokens = torch.randint(model.embed.num_embeddings, shape)
    streams = model.streams(tokens)
    logits = model.decode(streams[-1])[:, :-1]
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    weights = [w for name, w in model.named_parameters() if name.endswith("W_out.weight")]
    gradients = torch.autograd.grad(loss, [*weights, *streams[:-1]])
    norms = [float(g.norm()) for g in gradients]
    scales = [float(x.detach().pow(2).mean().sqrt()) for x in streams]
    return norms[:depth], norms[depth:], scales
