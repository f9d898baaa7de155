"""The stream as a sphere: great circles, two lemmas, and where the norm still matters.

Behind an RMSNorm a readout sees the direction of the stream alone. So the last stream lives on a
sphere, as far as the logits are concerned. In between it does not: each block adds what it writes,
and how much that turns the stream depends on the stream's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechbook.geometry import streams

# --- paths between two vectors ----------------------------------------------------------------


def lerp(
    u: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], t: float | Tensor
) -> Float[Tensor, "*batch d"]:
    """The straight line from u (t = 0) to v (t = 1)."""
    return u + t * (v - u)


def slerp(
    u: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], t: float | Tensor
) -> Float[Tensor, "*batch d"]:
    """The great circle from u to v at constant speed; the length goes straight from ``|u|`` to ``|v|``.

    Shoemake (1985). Where u and v point the same way, it is the straight line.

    Raises:
        ValueError: a vector of length 0, or two that point in opposite directions: no great
            circle is the shortest then.
    """
    sizes, theta = _angle(u, v)
    near = theta < 1e-6
    sine = torch.where(near, torch.ones_like(theta), theta.sin())
    first = torch.where(near, 1 - t + 0 * theta, ((1 - t) * theta).sin() / sine)
    second = torch.where(near, t + 0 * theta, (t * theta).sin() / sine)
    unit = first * u / sizes[0] + second * v / sizes[1]
    return lerp(sizes[0], sizes[1], t) * unit


def _angle(u: Tensor, v: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The lengths of two vectors, and the angle between them."""
    sizes = u.norm(dim=-1, keepdim=True), v.norm(dim=-1, keepdim=True)
    if bool((sizes[0] == 0).any() or (sizes[1] == 0).any()):
        raise ValueError("a vector has length 0 and no direction; leave it out")
    a, b = u / sizes[0], v / sizes[1]
    # 2 atan2(|a - b|, |a + b|) keeps its digits where the arc cosine loses them
    apart, along = (a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True)
    if bool((along < 1e-6).any()):
        raise ValueError("two vectors point in opposite directions; no arc is the shortest")
    return sizes, 2 * torch.atan2(apart, along)


def normalized_lerp(
    u: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], t: float | Tensor
) -> Float[Tensor, "*batch d"]:
    """The straight line, pushed out to the sphere through u."""
    line = lerp(u, v, t)
    return line * u.norm(dim=-1, keepdim=True) / line.norm(dim=-1, keepdim=True)


def slerp_time(t: float | Tensor, theta: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """When slerp is where `normalized_lerp` is at time t, for ends of equal length, theta apart.

    First lemma: ``normalized_lerp(u, v, t) = slerp(u, v, τ)`` with
    ``τ = atan2(t sin θ, 1 - t + t cos θ) / θ``: one arc, another timetable.
    """
    t = torch.as_tensor(t, dtype=theta.dtype)
    return torch.atan2(t * theta.sin(), 1 - t + t * theta.cos()) / theta


def great_circle(
    h: Float[Tensor, "*batch d"], toward: Float[Tensor, "*batch d"], angle: float
) -> Float[Tensor, "*batch d"]:
    """Turn h by an angle toward another direction; its length stays.

    Args:
        h: vectors.
        toward: directions; their length does not count.
        angle: in radians; it may go past the direction.

    Raises:
        ValueError: a direction along h itself, which says nowhere to turn.
    """
    size = h.norm(dim=-1, keepdim=True)
    unit = h / size
    across = toward - (toward * unit).sum(-1, keepdim=True) * unit
    width = across.norm(dim=-1, keepdim=True)
    if bool((width <= 1e-9 * toward.norm(dim=-1, keepdim=True)).any()):
        raise ValueError("a direction lies along the vector, which then cannot turn toward it")
    angles = torch.as_tensor(angle, dtype=h.dtype)
    return size * (angles.cos() * unit + angles.sin() * across / width)


# --- the readout ------------------------------------------------------------------------------


def rms_readout(
    x: Float[Tensor, "*batch d"],
    W_U: Float[Tensor, "d vocabulary"],
    gain: Float[Tensor, " d"],
    eps: float = 0.0,
) -> Float[Tensor, "*batch vocabulary"]:
    """Logits behind an RMSNorm: ``gain · x / √(mean(x²) + eps) @ W_U``.

    Second lemma: with ``eps = 0`` they do not change when x is multiplied by a positive number, so
    a change of norm about the origin after the last write is inert. With ``eps > 0`` they
    shrink with x, all by one factor, and the order of the words is the same.
    """
    scale = (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
    return (gain * x * scale) @ W_U


@torch.no_grad()
def norm_effect(
    model: Any,
    tokens: Int[Tensor, "batch posn"],
    factors: Sequence[float],
    position: int = -1,
) -> Float[Tensor, "depth factor"]:
    """How far the prediction moves when the stream at one position is made longer or shorter.

    Args:
        model: a ``TransformerBridge``.
        tokens: texts of one length.
        factors: what the stream is multiplied by, above 0.
        position: where.

    Returns:
        The mean Kullback–Leibler divergence from the unchanged prediction, in nats.

    Raises:
        ValueError: a factor that is not above 0, or as in `streams.edited`.
    """
    if not all(factor > 0 for factor in factors):
        raise ValueError(f"factors are {list(factors)}; give numbers above 0")
    rows = [
        [_divergence(model, tokens, depth, factor, position) for factor in factors]
        for depth in range(model.cfg.n_layers + 1)
    ]
    return torch.tensor(rows)


def _divergence(model: Any, tokens: Tensor, depth: int, factor: float, position: int) -> float:
    before = streams.edited(model, tokens, depth, lambda h: h, position)
    after = streams.edited(model, tokens, depth, lambda h: factor * h, position)
    gap = F.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    return float(gap)


@torch.no_grad()
def turned(
    model: Any,
    tokens: Int[Tensor, "batch posn"],
    depth: int,
    toward: Float[Tensor, "batch d_model"],
    angles: Sequence[float],
    wanted: Int[Tensor, " batch"],
) -> Float[Tensor, " angle"]:
    """The mean log-probability of a word for each text, with the last stream turned by an angle.

    Args:
        model: a ``TransformerBridge``.
        tokens: texts of one length.
        depth: where the stream is turned.
        toward: a direction for each text.
        angles: in radians.
        wanted: the word for each text.
    """
    rows = torch.arange(len(tokens))
    found = []
    for angle in angles:

        def edit(h: Tensor, angle: float = angle) -> Tensor:
            return great_circle(h, toward, angle)

        logits = streams.edited(model, tokens, depth, edit)
        found.append(logits.log_softmax(-1)[rows, wanted].mean())
    return torch.stack(found)
