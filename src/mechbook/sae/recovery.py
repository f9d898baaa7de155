"""How well a dictionary found the features that are known to be there, and what it did to them.

`match` pairs latents with true features, one to one (Hungarian matching). The other measures are
the field's: L0, share of variance explained, dead latents; and three that a known truth allows:
shrinkage, the angle between encoder and decoder, and what a latent misses of its feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

MATCHED = 0.9
"""A feature is recovered where the cosine with its latent is above this."""


@dataclass(frozen=True)
class Match:
    """Features and their latents.

    Attributes:
        cosine: between each feature and the latent that it was paired with.
        latent: which one; -1 for features left over by a dictionary that is too small.
        best: the greatest cosine of each feature with any latent.
        nearest: the greatest cosine of each latent with any feature.
    """

    cosine: Float[Tensor, " feature"]
    latent: Int[Tensor, " feature"]
    best: Float[Tensor, " feature"]
    nearest: Float[Tensor, " latent"]

    @property
    def recovered(self) -> float:
        """Share of the features whose own latent points their way."""
        return float((self.cosine > MATCHED).float().mean())

    @property
    def mean_max_cosine(self) -> float:
        """Mean over features of the greatest cosine (a latent may count for several)."""
        return float(self.best.mean())


def match(
    W_dec: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    alive: Bool[Tensor, " latent"] | None = None,
) -> Match:
    """Pair latents with features so that the sum of the cosines is greatest.

    Args:
        W_dec: directions of the latents, of any length.
        directions: of the true features.
        alive: latents that count; others match nothing.

    Raises:
        ValueError: dimensions that differ, or values that are not finite.
    """
    if W_dec.ndim != 2 or directions.ndim != 2 or W_dec.shape[1] != directions.shape[1]:
        raise ValueError(
            f"latents have shape {list(W_dec.shape)} and features {list(directions.shape)}; give "
            "rows of the same number of dimensions"
        )
    cosines = normalize(directions, dim=-1) @ normalize(W_dec, dim=-1).T
    if not bool(torch.isfinite(cosines).all()):
        raise ValueError("a direction is not finite; look for what overflowed in training")
    if alive is not None:
        cosines = cosines * alive
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    cosine, latent = torch.zeros(len(directions)), torch.full((len(directions),), -1)
    cosine[rows] = cosines[rows, columns].float()
    latent[rows] = torch.from_numpy(columns)
    return Match(cosine, latent, cosines.amax(1), cosines.amax(0))


# --- sparse and faithful ----------------------------------------------------------------------


def l0(z: Float[Tensor, "batch latent"]) -> Float[Tensor, ""]:
    """How many latents are active at once, on average."""
    return (z != 0).float().sum(-1).mean()


def explained(h: Float[Tensor, "batch d_in"], out: Float[Tensor, "batch d_in"]) -> Tensor:
    """Share of variance explained: ``1 - |h - h'|² / |h - mean|²``, sums over the batch."""
    return 1 - (h - out).pow(2).sum() / (h - h.mean(0)).pow(2).sum()


def active_share(z: Float[Tensor, "batch latent"]) -> Float[Tensor, " latent"]:
    """How often each latent is active."""
    return (z != 0).float().mean(0)


def alignment(sae: Any) -> Float[Tensor, " latent"]:
    """Cosine between each latent's encoder and decoder directions."""
    return cosine_similarity(sae.W_enc.T, sae.W_dec, dim=-1)


@dataclass(frozen=True)
class Quality:
    """One autoencoder on one set of activations.

    Attributes:
        l0: latents active at once.
        explained: share of variance.
        dead: share of latents that are never active.
        error: squared error, summed over dimensions, mean over activations.
    """

    l0: float
    explained: float
    dead: float
    error: float


@torch.no_grad()
def quality(sae: Any, h: Float[Tensor, "batch d_in"], at_once: int = 8192) -> Quality:
    """Measure an autoencoder on activations, a part at a time."""
    codes, errors = torch.zeros(sae.config.d_sae), 0.0
    for part in h.split(at_once):
        z = sae.encode(part)
        codes += (z != 0).float().sum(0)
        errors += float((part - sae.decode(z)).pow(2).sum())
    total = float((h - h.mean(0)).pow(2).sum())
    dead = float((codes == 0).float().mean())
    return Quality(float(codes.sum() / len(h)), 1 - errors / total, dead, errors / len(h))


# --- shrinkage --------------------------------------------------------------------------------


def missing(
    sae: Any, h: Float[Tensor, "batch d_in"]
) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"]]:
    """What the reconstruction lacks along each latent's direction, and how large the latent is.

    Both are means over the activations in which the latent is active; nan where it never is.
    Where training has come to rest, and the price λ is paid for the sum of the latents, the first
    is **λ/2 exactly** (for a direction of length 1), whatever the interference: let ``e = h - h'``;
    moving the latent's bias moves its activity by the same wherever it is active, so ::

        0 = d/db E[|e|² + λ Σ z] = E[(-2 e·d + λ) 1(z > 0)].

    For a price of the sum of squares the same step gives ``λ`` times the mean activity.
    """
    z = sae.encode(h)
    along = (h - sae.decode(z)) @ normalize(sae.W_dec, dim=-1).T
    active = (z > 0).float()
    count = active.sum(0)
    return (along * active).sum(0) / count, (z * active).sum(0) / count


def shrinkage(sae: Any, h: Float[Tensor, "batch d_in"]) -> Float[Tensor, ""]:
    """The first number of `missing`, averaged over latents by how often they are active.

    Latents that are rarely active are still far from rest, and would spoil a plain mean.
    """
    lacks, _ = missing(sae, h)
    often = active_share(sae.encode(h))
    return (lacks.nan_to_num() * often).sum() / often.sum()


def predicted_shrinkage(price: float) -> float:
    """What L1 takes off every active latent, when its direction has length 1: half its price."""
    return price / 2


def slope(
    sae: Any,
    x: Float[Tensor, "batch feature"],
    h: Float[Tensor, "batch d_in"],
    matching: Match,
    lengths: Float[Tensor, " feature"],
) -> Float[Tensor, " feature"]:
    """Total of what a feature's latent writes over the total of what the feature wrote.

    Over the activations in which the feature is there. 1 without shrinkage and without noise.

    Args:
        sae: the autoencoder.
        x: true features.
        h: the activations that they make.
        matching: from ``match``.
        lengths: of the features' directions in the activations.
    """
    there = (x > 0).float()
    wrote = sae.encode(h) * sae.W_dec.norm(dim=-1)
    own = wrote[:, matching.latent.clamp(min=0)]
    return (own * there).sum(0) / (x * lengths * there).sum(0)


# --- splitting and absorption -----------------------------------------------------------------


def copies(
    W_dec: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    alive: Bool[Tensor, " latent"],
) -> Int[Tensor, " feature"]:
    """How many live latents point a feature's way (cosine above ``MATCHED``)."""
    cosines = normalize(directions, dim=-1) @ normalize(W_dec, dim=-1).T
    return ((cosines > MATCHED) & alive).sum(-1)


@dataclass(frozen=True)
class Absorption:
    """What became of parents and children.

    Attributes:
        alone: how often the parent's latent is active when the parent is there without its child.
        together: the same when the child is there too.
        mixed: cosine of the child's latent with the parent's direction.
    """

    alone: Float[Tensor, " pair"]
    together: Float[Tensor, " pair"]
    mixed: Float[Tensor, " pair"]


def absorption(
    sae: Any,
    x: Float[Tensor, "batch feature"],
    h: Float[Tensor, "batch d_in"],
    directions: Float[Tensor, "feature d_in"],
    parents: int,
    least: float = 0.3,
) -> Absorption:
    """Whether a child's latent took over its parent's direction, and the parent's fell silent.

    The parent's latent is the one that tells best, among all, whether the parent is there alone.

    Args:
        sae: the autoencoder.
        x: true features, the first ``parents`` with the next as their children.
        h: the activations that they make.
        directions: of the features.
        parents: how many have a child.
        least: how large parent and child must be to count as there.
    """
    active = (sae.encode(h) > 0).float()
    parent, child = x[:, :parents] > least, x[:, parents : 2 * parents] > least
    only = parent & (x[:, parents : 2 * parents] == 0)
    both = parent & child
    fires_only = only.float().T @ active / only.sum(0)[:, None]
    fires_both = both.float().T @ active / both.sum(0)[:, None]
    found = match(sae.W_dec.detach(), directions)
    own, childs = found.latent[:parents], found.latent[parents : 2 * parents]
    mixed = cosine_similarity(sae.W_dec[childs], directions[:parents], dim=-1)
    rows = torch.arange(parents)
    return Absorption(fires_only[rows, own], fires_both[rows, own], mixed)


def rate_beside(
    active: Bool[Tensor, " batch"], there: Bool[Tensor, "batch feature"], feature: int, other: int
) -> float:
    """How often a feature's latent is active beside another feature, over how often without it.

    Both rates are taken where equally many features are there, and averaged over that number: a
    code that keeps k latents has less room where more features are there, whichever they are.

    Args:
        active: where the feature's latent is.
        there: which features are there.
        feature: whose latent it is.
        other: the feature beside it.

    Raises:
        ValueError: the two are never together, or never apart, at equal numbers of features.
    """
    number = there.sum(-1)
    with_it, without = there[:, feature] & there[:, other], there[:, feature] & ~there[:, other]
    rates = []
    for n in number.unique():
        a, b = active[with_it & (number == n)], active[without & (number == n)]
        if len(a) and len(b):
            rates.append((min(len(a), len(b)), float(a.float().mean()), float(b.float().mean())))
    if not rates:
        raise ValueError(f"no examples to compare feature {feature} with and without {other}")
    weight, beside, alone = torch.tensor(rates).T
    return float((weight * beside).sum() / (weight * alone).sum())


@torch.no_grad()
def beside(trained: Any, truth: Any) -> tuple[list[float], list[float]]:
    """`rate_beside` of parents, beside their children and beside unrelated features.

    Args:
        trained: autoencoders of one price, `mechbook.sae.training.Trained`.
        truth: features of which some have a child, `mechbook.sae.truth.Truth`.

    Returns:
        For each seed the means over parents.
    """
    x, h = truth.held_out()
    there, parents = x > 0, range(truth.parents)
    means: tuple[list[float], list[float]] = [], []
    for j in range(len(trained.seeds)):
        sae = trained.sae(0, j)
        active = sae.encode(h) != 0
        own = match(sae.W_dec, truth.directions, active.any(0)).latent
        for far, found in enumerate(means, start=1):
            rates = [
                rate_beside(active[:, own[p]], there, p, p + far * len(parents)) for p in parents
            ]
            found.append(sum(rates) / len(rates))
    return means
