"""Autoencoders on disk in the format of SAELens, for those who go on there.

A folder with ``cfg.json`` and ``sae_weights.safetensors``, as SAELens 6 writes it: names and
orientation of the tensors are those of this package (``W_enc`` is ``[d_in, d_sae]``). SAELens
itself is not needed here. It is no dependency of the book, as its releases up to 6.54 ask for a
TransformerLens below 4 and the book uses a later one: install it in an environment of its own, then
``sae_lens.SAE.load_from_disk(folder)`` reads what `save` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechbook.sae.variants import SAE, SAEConfig, build

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_ARCHITECTURES = {
    "relu": "standard",
    "tied": "standard",
    "topk": "topk",
    "batchtopk": "jumprelu",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
_VARIANTS = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
_NAMES = {"gated": {"b_enc": "b_gate"}}
"""Names of SAELens that differ from ours, by architecture."""


def save(
    sae: SAE, folder: Path | str, *, model: str = "", place: str = "", scale: float = 1.0
) -> Path:
    """Write an autoencoder for SAELens.

    Tied weights are written out as two matrices, and a batch threshold as one a latent, as SAELens
    does itself.

    Args:
        sae: the autoencoder.
        folder: is made where it is missing.
        model: whose activations these are, for SAELens' metadata.
        place: which hook they come from, likewise.
        scale: factor that activations were multiplied by; it is folded into the weights.

    Raises:
        ValueError: a variant that SAELens does not have.
    """
    variant = sae.config.variant
    if variant not in _ARCHITECTURES:
        raise ValueError(
            f"SAELens has no architecture for {variant!r}; it takes {', '.join(_ARCHITECTURES)}"
        )
    architecture = _ARCHITECTURES[variant]
    config = {
        "architecture": architecture,
        "d_in": sae.config.d_in,
        "d_sae": sae.config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"model_name": model, "hook_name": place},
    }
    if architecture == "topk":
        config |= {"k": sae.config.k, "rescale_acts_by_decoder_norm": False}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_tensors(sae, architecture, scale), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    return folder


@torch.no_grad()
def _tensors(sae: SAE, architecture: str, scale: float) -> dict[str, Tensor]:
    """Tensors under SAELens' names, for activations that were not multiplied by ``scale``.

    Only what touches the activations changes: latents keep their size.
    """
    tensors = {name: p.detach().clone() for name, p in sae.named_parameters()}
    tensors["W_enc"] = sae.W_enc.detach().clone() * scale
    tensors["W_dec"] = tensors["W_dec"] / scale
    tensors["b_dec"] = tensors["b_dec"] / scale
    if architecture == "jumprelu":
        tensors.pop("log_threshold", None)
        threshold: Any = sae.threshold
        tensors["threshold"] = threshold.detach().expand(sae.config.d_sae).clone()
    names = _NAMES.get(architecture, {})
    return {names.get(name, name): t.contiguous() for name, t in tensors.items()}


def load(folder: Path | str) -> SAE:
    """Read an autoencoder that SAELens, or `save`, has written.

    Raises:
        ValueError: not such a folder, an architecture or normalization that this book does not
            have, or tensors that do not fit.
    """
    config, tensors = _read(Path(folder))
    architecture = config.get("architecture")
    if architecture not in _VARIANTS:
        raise ValueError(
            f"the architecture is {architecture!r}; this book reads {', '.join(_VARIANTS)}"
        )
    wanted = {"normalize_activations": "none", "apply_b_dec_to_input": True}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]!r}; this book reads {value!r}: fold it first")
    k = int(config.get("k", 0))
    sae = build(SAEConfig(config["d_in"], config["d_sae"], _VARIANTS[architecture], k=k))
    _fill(sae, {ours: name for ours, name in _NAMES.get(architecture, {}).items()}, tensors)
    return sae


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config, load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder.name} holds no whole autoencoder of SAELens ({CONFIG} and {WEIGHTS}): {error}"
        ) from error


@torch.no_grad()
def _fill(sae: SAE, names: dict[str, str], tensors: dict[str, Tensor]) -> None:
    """Copy tensors into an autoencoder, names and shapes compared."""
    if "threshold" in tensors:
        tensors = tensors | {"log_threshold": tensors["threshold"].clamp(min=1e-30).log()}
    for ours, parameter in sae.named_parameters():
        name = names.get(ours, ours)
        if name not in tensors or tensors[name].shape != parameter.shape:
            there = list(tensors[name].shape) if name in tensors else "missing"
            raise ValueError(f"{name} is {there}; it should be {list(parameter.shape)}")
        parameter.copy_(tensors[name])
