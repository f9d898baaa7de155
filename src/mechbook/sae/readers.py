"""An autoencoder with what it needs to read the language model; the two that ship with the book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import artifacts
from mechbook.language_model import weights
from mechbook.sae.variants import SAE, SAEConfig, build

NAME = "sae-language-model"
VARIANTS = ("topk", "relu")


@dataclass(frozen=True)
class Reader:
    """An autoencoder and what it needs to read a language model.

    Attributes:
        sae: of activations times ``scale``.
        place: hook of the model.
        scale: factor of the activations.
        mean: of the activations, before the factor.
        density: how often each latent was active on held-out text.
    """

    sae: SAE
    place: str
    scale: float
    mean: Float[Tensor, " d_in"]
    density: Float[Tensor, " latent"]

    def encode(self, h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch latent"]:
        """The code of activations as the model has them."""
        return self.sae.encode(h * self.scale)

    def reconstruct(self, h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """Activations as the model has them, there and back."""
        return self.sae(h * self.scale) / self.scale

    @property
    def directions(self) -> Float[Tensor, "latent d_in"]:
        """What a latent of size 1 adds to the model's activations."""
        return self.sae.W_dec.detach() / self.scale


def load(variant: str = "topk", *, data: Path = artifacts.DATA) -> Reader:
    """One of the two autoencoders that ship with the book.

    Args:
        variant: ``topk`` or ``relu``.
        data: folder of the artifacts.

    Raises:
        ArtifactError: missing, damaged, or not made for the language model that is here.
        ValueError: another variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; the book ships {' and '.join(VARIANTS)}")
    tensors = artifacts.load_tensors(NAME, data=data)
    made_for = artifacts.load_card(NAME, data=data).inputs.get("model")
    if made_for != artifacts.checksum(weights.NAME, data=data):
        raise artifacts.ArtifactError(
            f"{NAME} was not made for the {weights.NAME} that is here; restore both from one "
            f"commit, or make it again (`python -m mechbook make {NAME} --text FOLDER`)"
        )
    return unpack(
        {k.split("/")[1]: t for k, t in tensors.items() if k.startswith(variant)}, variant
    )


def pack(reader: Reader) -> dict[str, Tensor]:
    """A reader as tensors: its weights in 16 bits, scale, mean and densities in 32."""
    named = {name: p.detach().half() for name, p in reader.sae.named_parameters()}
    extra = {"scale": torch.tensor(reader.scale), "mean": reader.mean, "density": reader.density}
    extra["k"] = torch.tensor(reader.sae.config.k)
    extra["layer"] = torch.tensor(int(reader.place.split(".")[1]))
    return named | extra


def unpack(tensors: Mapping[str, Tensor], variant: str) -> Reader:
    """A reader from its tensors.

    Raises:
        ArtifactError: tensors missing, of the wrong shape, or not finite.
    """
    try:
        d_in, d_sae = tensors["W_enc"].shape
        sae = build(SAEConfig(d_in, d_sae, variant, k=int(tensors["k"])))
        state = {name: tensors[name].float() for name, _ in sae.named_parameters()}
        if not all(bool(torch.isfinite(t).all()) for t in state.values()):
            raise ValueError("a weight is not finite")
        sae.load_state_dict(state)
        place = f"blocks.{int(tensors['layer'])}.hook_resid_post"
        return Reader(sae, place, float(tensors["scale"]), tensors["mean"], tensors["density"])
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise artifacts.ArtifactError(
            f"{NAME} holds no whole {variant} autoencoder: {reason}; `python -m mechbook make {NAME} "
            "--text FOLDER` makes it again"
        ) from error
