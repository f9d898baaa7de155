"""New directions for dead latents: at random, or as Bricken et al. (2023) do it.

``simple``
    A dead latent gets a random direction, for decoder and encoder alike, and a zero bias.
``bricken``
    Bricken et al., "Towards Monosemanticity" (2023), the appendix on resampling: the loss of a
    sample of inputs is computed; for each dead latent an input is drawn with a probability
    proportional to the *square* of its loss; the input (from ``b_dec``), at length 1, becomes the
    decoder direction; the encoder direction is the same at a fraction (0.2) of the mean length of
    the live ones; the bias becomes zero; and the optimizer forgets what it knew of all of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import vmap

from mechbook import training
from mechbook.ensembles import Ensemble

if TYPE_CHECKING:
    from mechbook.sae.training import TrainingConfig

RESAMPLING = ("none", "simple", "bricken")
_OWN_STREAM = 1 << 31
"""Added to a seed, so that resampling draws other numbers than start and data do."""


@torch.no_grad()
def resample(
    ensemble: Ensemble,
    optimizer: torch.optim.Optimizer,
    dead: Bool[Tensor, "member latent"],
    h: Float[Tensor, "member candidate d_in"] | None,
    prices: Float[Tensor, " member"],
    how: TrainingConfig,
    seeds: Sequence[int],
    step: int,
    threshold: float = 0.1,
) -> None:
    """Give every dead latent a new direction, in place.

    Args:
        ensemble: of autoencoders.
        optimizer: theirs; ``bricken`` sets its averages to zero where it changed something.
        dead: which latents of which member.
        h: for ``bricken`` the inputs to draw from.
        prices: of sparsity, for the loss of these inputs.
        how: which of the two, and the length of new encoder directions.
        seeds: one a member.
        step: of the training, for the random numbers.
        threshold: at which the threshold of a new latent starts (JumpReLU).
    """
    named = {n.removeprefix("member/"): p for n, p in ensemble.named_parameters()}
    losses = None if h is None else ensemble.map(_each_loss, h, prices)
    for member in dead.any(-1).nonzero().flatten().tolist():
        draw = training.generator(seeds[member] + _OWN_STREAM, step)
        who = dead[member]
        if h is None or losses is None:
            new = torch.randn(int(who.sum()), named["W_dec"].shape[-1], generator=draw)
        else:
            centered = h[member] - named["b_dec"][member]
            new = centered[drawn_by_loss(losses[member], int(who.sum()), draw)]
        own = {name: p[member] for name, p in named.items()}
        new = torch.nn.functional.normalize(new, dim=-1)
        _replace(own, who, new, how.encoder_scale, threshold)
        if how.resample == "bricken":
            _forget(optimizer, named, member, who)


def drawn_by_loss(
    losses: Float[Tensor, " candidate"], count: int, generator: torch.Generator
) -> Tensor:
    """Numbers of ``count`` candidates, each drawn with probability ∝ loss², each at most once.

    More than there are candidates are drawn with repetition.
    """
    chance = losses.double().clamp(min=0).pow(2)
    chance = chance + (chance.sum() == 0)
    often = count > int((chance > 0).sum())
    return torch.multinomial(chance, count, replacement=often, generator=generator)


def _each_loss(
    sae: Any, h: Float[Tensor, "candidate d_in"], price: Tensor
) -> Float[Tensor, " candidate"]:
    def one(row: Float[Tensor, " d_in"]) -> Float[Tensor, ""]:
        terms = sae.losses(row[None])
        return terms.reconstruction + price * terms.sparsity

    return vmap(one)(h)


def _replace(
    own: Mapping[str, Tensor],
    who: Bool[Tensor, " latent"],
    new: Float[Tensor, "dead d_in"],
    scale: float,
    threshold: float,
) -> None:
    """Write new directions of length 1 into one member's parameters."""
    own["W_dec"][who] = new
    if "W_enc" in own:
        lengths = own["W_enc"].norm(dim=0)
        typical = lengths[~who].mean() if bool((~who).any()) else lengths.new_ones(())
        own["W_enc"][:, who] = (scale * typical * new).T
    for name in ("b_enc", "b_mag", "r_mag"):
        if name in own:
            own[name][who] = 0.0
    if "log_threshold" in own:
        own["log_threshold"][who] = math.log(threshold)


def _forget(
    optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor], member: int, who: Tensor
) -> None:
    """Set the optimizer's running averages of the changed entries to zero."""
    for name, stacked in named.items():
        for key, average in optimizer.state.get(stacked, {}).items():
            if key == "step" or not isinstance(average, Tensor) or average.shape != stacked.shape:
                continue
            if name == "W_enc":
                average[member][:, who] = 0.0
            elif name != "b_dec" and average.ndim >= 2:
                average[member][who] = 0.0
