"""Sparse autoencoders of several kinds behind one interface: encode, decode, and the terms of a loss.

An activation is a row ``h`` of ``d_in`` numbers. Every variant takes the same first and last step::

    pre = (h - b_dec) W_enc + b_enc        [latent]   b_dec centers what the encoder sees
    h'  = z W_dec + b_dec                  [d_in]     row i of W_dec is the direction of latent i

and differs in how ``z`` comes from ``pre`` and in what is paid for it. The error is a *sum* over
the ``d_in`` numbers and the sparsity a *sum* over latents, both a mean over the batch. Everything
runs under ``torch.func.vmap``, so many autoencoders train at once (``mechbook.ensembles``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mechbook import training

PENALTIES = ("l1", "l2", "none")
DECODERS = ("unit", "weighted", "free")
STARTS = ("tied", "independent")


@dataclass(frozen=True)
class SAEConfig:
    """The shape of an autoencoder and what it pays for.

    Attributes:
        d_in: dimensions of an activation.
        d_sae: latents, the size of the dictionary.
        variant: one of ``VARIANTS``.
        k: latents that may be active at once (on average, for ``batchtopk``); for these two only.
        penalty: what a ReLU autoencoder pays for its latents: ``l1`` (their sum), ``l2`` (the sum
            of their squares) or ``none``. The other variants have their own.
        mean: whether that is the mean over latents instead of the sum.
        decoder: ``unit``: directions are kept at length 1. ``weighted``: lengths are free and
            the penalty counts a latent times the length of its direction, which comes to the
            same. ``free``: lengths are free and the penalty does not see them.
        start: ``tied``: the encoder starts as the decoder's transpose. ``independent``: as random
            directions of its own.
        bandwidth: width of the window in which JumpReLU's threshold feels a gradient.
        threshold: where JumpReLU's thresholds start.
        auxiliary: price of the error that dead latents leave (TopK variants); 0 without.
        k_auxiliary: dead latents that may help with that error at once.
    """

    d_in: int
    d_sae: int
    variant: str = "relu"
    k: int = 0
    penalty: str = "l1"
    mean: bool = False
    decoder: str = "unit"
    start: str = "tied"
    bandwidth: float = 0.1
    threshold: float = 0.1
    auxiliary: float = 1 / 32
    k_auxiliary: int = 32

    def __post_init__(self) -> None:
        if self.d_in < 1 or self.d_sae < 1:
            raise ValueError(
                f"d_in is {self.d_in} and d_sae is {self.d_sae}; an activation and a dictionary "
                "have at least 1 dimension"
            )
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; give one of {', '.join(allowed)}"
                )
        if self.variant in ("topk", "batchtopk") and not 1 <= self.k <= self.d_sae:
            raise ValueError(
                f"k is {self.k} for {self.d_sae} latents; {self.variant} keeps from 1 to {self.d_sae}"
            )
        if not (self.bandwidth > 0 and self.threshold > 0):
            raise ValueError(
                f"bandwidth is {self.bandwidth}, threshold {self.threshold}; give numbers above 0"
            )


class Losses(NamedTuple):
    """What a batch costs, and the code that it cost it for.

    Attributes:
        reconstruction: squared error, summed over dimensions, mean over the batch.
        sparsity: to be multiplied by the price of sparsity.
        auxiliary: added as it is.
        z: the code.
    """

    reconstruction: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    auxiliary: Float[Tensor, ""]
    z: Float[Tensor, "batch latent"]


class SAE(nn.Module):
    """ReLU and a penalty: ``z = ReLU(pre)``, ``loss = |h - h'|² + λ Σ z``.

    Bricken et al., "Towards Monosemanticity" (2023); with ``penalty="l2"`` or ``"none"`` the
    controls, with ``decoder="weighted"`` the form of Anthropic's update of April 2024, which
    SAELens trains too. The base of all other variants.

    Args:
        config: shapes and penalties.
        seed: of the start.
    """

    W_enc: Tensor
    b_enc: Tensor

    def __init__(self, config: SAEConfig, seed: int = 0):
        """Draw directions of length 1; biases are zero."""
        super().__init__()
        self.config = config
        draw = training.generator(seed)
        rows = torch.randn(2, config.d_sae, config.d_in, generator=draw)
        decoder, other = torch.nn.functional.normalize(rows, dim=-1)
        self.W_dec = nn.Parameter(decoder.clone())  # [latent, d_in]
        self.b_dec = nn.Parameter(torch.zeros(config.d_in))  # [d_in]
        self._start_encoder((decoder if config.start == "tied" else other).T.clone())

    def _start_encoder(self, weights: Float[Tensor, "d_in latent"]) -> None:
        self.W_enc = nn.Parameter(weights)
        self.b_enc = nn.Parameter(torch.zeros(self.config.d_sae))

    def pre_activations(self, h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch latent"]:
        """What the latents see: ``(h - b_dec) W_enc + b_enc``."""
        # multiplied out, so that the gradient of b_dec costs no product of the size of the batch
        return h @ self.W_enc + (self.b_enc - self.b_dec @ self.W_enc)

    def activate(self, pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """From pre-activations to the code."""
        return pre.relu()

    def activate_in_training(
        self, pre: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch latent"]:
        """The same, where training does it otherwise."""
        return self.activate(pre)

    def encode(self, h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch latent"]:
        """The code of activations."""
        return self.activate(self.pre_activations(h))

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch d_in"]:
        """Activations from a code."""
        return z @ self.W_dec + self.b_dec

    def forward(self, h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """Encode and decode."""
        return self.decode(self.encode(h))

    def losses(
        self, h: Float[Tensor, "batch d_in"], dead: Bool[Tensor, " latent"] | None = None
    ) -> Losses:
        """The terms of the loss on a batch.

        Args:
            h: activations.
            dead: which latents count as dead, for the auxiliary loss; None without.
        """
        pre = self.pre_activations(h)
        z = self.activate_in_training(pre)
        error = h - self.decode(z)
        auxiliary = h.new_zeros(()) if dead is None else self.auxiliary(pre, error, dead)
        return Losses(_summed_square(error), self.sparsity(pre, z), auxiliary, z)

    def sparsity(
        self, pre: Float[Tensor, "batch latent"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, ""]:
        """What is paid for a code, before its price."""
        if self.config.penalty == "none":
            return z.new_zeros(())
        paid = self._size(z) if self.config.penalty == "l1" else z.pow(2)
        return self._per_example(self._weighted(paid)).mean()

    def _size(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        return z  # after a ReLU it is its own absolute value

    def _weighted(self, paid: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        return paid * self.W_dec.norm(dim=-1) if self.config.decoder == "weighted" else paid

    def _per_example(self, paid: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        return paid.mean(-1) if self.config.mean else paid.sum(-1)

    def auxiliary(
        self,
        pre: Float[Tensor, "batch latent"],
        error: Float[Tensor, "batch d_in"],
        dead: Bool[Tensor, " latent"],
    ) -> Float[Tensor, ""]:
        """A loss that is added as it is; nothing here."""
        return error.new_zeros(())


class TiedSAE(SAE):
    """One matrix for both ways: ``W_enc = W_decᵀ``; otherwise as ``SAE``.

    Cunningham et al., "Sparse Autoencoders Find Highly Interpretable Features" (2023).
    """

    def _start_encoder(self, weights: Float[Tensor, "d_in latent"]) -> None:
        self.b_enc = nn.Parameter(torch.zeros(self.config.d_sae))

    @property
    def W_enc(self) -> Float[Tensor, "d_in latent"]:  # type: ignore[override]
        """The decoder, transposed."""
        return self.W_dec.T


class LinearSAE(SAE):
    """No ReLU anywhere: ``z = pre``. A control; without a penalty it can only learn what PCA does."""

    def activate(self, pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """The code is what the latents see."""
        return pre

    def _size(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        return z.abs()


class DecoderReLUSAE(LinearSAE):
    """The ReLU at the wrong end: ``z = pre``, ``h' = ReLU(z W_dec + b_dec)``. A control."""

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch d_in"]:
        """Activations from a code, clipped at zero."""
        return super().decode(z).relu()


class TopKSAE(SAE):
    """The k largest: ``z = TopK(ReLU(pre))``; nothing is paid for sparsity.

    Gao et al., "Scaling and evaluating sparse autoencoders" (2024), with its auxiliary loss: the
    error that the live latents leave is reconstructed by the ``k_auxiliary`` largest of the dead.
    """

    def activate(self, pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Keep the k largest of each example (fewer, where fewer are above zero)."""
        return _keep_largest(pre.relu(), self.config.k)

    def sparsity(
        self, pre: Float[Tensor, "batch latent"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, ""]:
        """Nothing: k says how sparse a code is."""
        return z.new_zeros(())

    def auxiliary(
        self,
        pre: Float[Tensor, "batch latent"],
        error: Float[Tensor, "batch d_in"],
        dead: Bool[Tensor, " latent"],
    ) -> Float[Tensor, ""]:
        """The error that is left when dead latents reconstruct the error, times its price."""
        latents = torch.where(dead, pre, -torch.inf).relu()
        z = _keep_largest(latents, min(self.config.k_auxiliary, self.config.d_sae))
        left = _summed_square(error.detach() - z @ self.W_dec)
        return self.config.auxiliary * left * dead.any()


class BatchTopKSAE(TopKSAE):
    """The k·batch largest of a whole batch in training, a fixed threshold afterwards.

    Bussmann et al., "BatchTopK Sparse Autoencoders" (2024). The threshold is the mean, over
    batches, of the smallest activation that was kept; ``mechbook.sae.training`` sets it.
    """

    def __init__(self, config: SAEConfig, seed: int = 0):
        """Draw as always; the threshold is not known yet."""
        super().__init__(config, seed)
        self.threshold = nn.Parameter(torch.zeros(()), requires_grad=False)

    def activate(self, pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Keep what is above the threshold."""
        return pre.relu() * (pre > self.threshold)

    def activate_in_training(
        self, pre: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch latent"]:
        """Keep the k·batch largest of the batch."""
        return _keep_largest(pre.relu().flatten(), self.config.k * len(pre)).view_as(pre)


class JumpReLUSAE(SAE):
    """A threshold of its own for each latent: ``z = pre · H(pre - θ)``, and L0 is paid for.

    Rajamanoharan et al., "Jumping Ahead" (2024), sections 3 and 4: the step H has no gradient, so
    the threshold gets that of a window of width ``bandwidth`` around it; what flows to ``pre`` is
    the gradient above the threshold.
    """

    def __init__(self, config: SAEConfig, seed: int = 0):
        """Draw as always; thresholds start at ``config.threshold``."""
        super().__init__(config, seed)
        start = torch.full((config.d_sae,), config.threshold)
        self.log_threshold = nn.Parameter(start.log())

    @property
    def threshold(self) -> Float[Tensor, " latent"]:
        """θ, kept above zero by learning its logarithm."""
        return self.log_threshold.exp()

    def activate(self, pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Keep what is above its latent's threshold."""
        theta, window = self._window(pre)
        return pre * (pre > theta) - (theta - theta.detach()) * theta.detach() * window

    def sparsity(
        self, pre: Float[Tensor, "batch latent"], z: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, ""]:
        """L0: how many latents are active."""
        theta, window = self._window(pre)
        active = (pre > theta).float() - (theta - theta.detach()) * window
        return self._per_example(active).mean()

    def _window(self, pre: Float[Tensor, "*batch latent"]) -> tuple[Tensor, Tensor]:
        """Thresholds, and 1/bandwidth where a pre-activation is within half of it."""
        theta, width = self.threshold, self.config.bandwidth
        return theta, ((pre - theta).abs() < width / 2).float().detach() / width


class GatedSAE(SAE):
    """One path says *whether*, the other *how much*: ``z = H(gate) · ReLU(mag)``.

    Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse Autoencoders" (2024):
    both paths share their directions, ``W_mag = W_gate · exp(r_mag)``; L1 is paid for the gate
    alone; an auxiliary term has ``ReLU(gate)`` reconstruct through a frozen decoder.
    """

    def __init__(self, config: SAEConfig, seed: int = 0):
        """Draw as always; both paths start alike."""
        super().__init__(config, seed)
        self.b_mag = nn.Parameter(torch.zeros(config.d_sae))
        self.r_mag = nn.Parameter(torch.zeros(config.d_sae))

    def activate(self, pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Open the gate where ``pre`` is above zero; the magnitude has its own scale and bias."""
        magnitude = (pre - self.b_enc) * self.r_mag.exp() + self.b_mag
        return (pre > 0) * magnitude.relu()

    def losses(
        self, h: Float[Tensor, "batch d_in"], dead: Bool[Tensor, " latent"] | None = None
    ) -> Losses:
        """The terms of the loss on a batch; the auxiliary one is always there."""
        pre = self.pre_activations(h)
        z, gate = self.activate(pre), pre.relu()
        guess = gate @ self.W_dec.detach() + self.b_dec.detach()
        paid = self._per_example(self._weighted(gate)).mean()
        return Losses(_summed_square(h - self.decode(z)), paid, _summed_square(h - guess), z)


_CLASSES: dict[str, type[SAE]] = {
    "relu": SAE,
    "tied": TiedSAE,
    "topk": TopKSAE,
    "batchtopk": BatchTopKSAE,
    "jumprelu": JumpReLUSAE,
    "gated": GatedSAE,
    "linear": LinearSAE,
    "decoder-relu": DecoderReLUSAE,
}
VARIANTS = tuple(_CLASSES)
"""Names of the variants; the last two are controls."""
_CHOICES = {"variant": VARIANTS, "penalty": PENALTIES, "decoder": DECODERS, "start": STARTS}


def build(config: SAEConfig, seed: int = 0) -> SAE:
    """A new autoencoder of the config's variant."""
    return _CLASSES[config.variant](config, seed)


def _summed_square(error: Float[Tensor, "batch d_in"]) -> Float[Tensor, ""]:
    return error.pow(2).sum(-1).mean()


def _keep_largest(values: Float[Tensor, "*batch n"], k: int) -> Float[Tensor, "*batch n"]:
    """Zero all but the k largest along the last axis (values are not negative; ties all stay)."""
    smallest = values.detach().topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    return values * (values >= smallest)
