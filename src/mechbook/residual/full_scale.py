"""The chapter's logit lens on a pretrained model: what the local cache holds, and nothing that is not there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def find(name: str) -> Path | None:
    """The folder of a model: a local folder of that name, or its place in Hugging Face's cache; None without."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name, "config.json").is_file():
        return Path(name)
    config = try_to_load_from_cache(name, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def load(name: str) -> Any:
    """A pretrained model as a ``TransformerBridge``, from the local disk alone.

    Raises:
        ValueError: the model is not there; the text says how to fetch it.
    """
    folder = find(name)
    if folder is None:
        fetch = f"python -m mechbook.residual.full_scale {name}"
        raise ValueError(
            f"{name} is not on this machine; with a network, fetch it once by `{fetch}`."
        )
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder), device="cpu")


@torch.no_grad()
def early_logits(model: Any, prompt: str) -> Float[Tensor, "depth word"]:
    """The lens at the last position, after the embedding and after each layer.

    The model's own modules do the decoding, so a LayerNorm with its bias is decoded as it should be.
    """
    _, cache = model.run_with_cache(prompt)
    depths = [cache["blocks.0.hook_resid_pre"]]
    depths += [cache[f"blocks.{layer}.hook_resid_post"] for layer in range(model.cfg.n_layers)]
    return torch.stack([model.unembed(model.ln_final(stream))[0, -1] for stream in depths])


def lens_report(name: str, prompt: str, word: str) -> str:
    """One line a depth: the best guess, and the rank and probability of a word; one line where there is no model.

    Args:
        name: of the model, such as ``gpt2``.
        prompt: the text whose next word is asked for.
        word: one token, with its leading space.
    """
    try:
        model = load(name)
    except ValueError as missing:
        return f"Skipped: {missing}"
    logits = early_logits(model, prompt)
    token = int(model.to_single_token(word))
    lines = [f"{name}: {prompt!r}"]
    for depth, row in enumerate(logits):
        rank = int((row > row[token]).sum())
        chance = float(row.softmax(-1)[token])
        guess = model.tokenizer.decode([int(row.argmax())])
        lines.append(
            f"after {depth:2d} layers: {guess!r:14} {word!r} has rank {rank}, p = {chance:.3f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a model into the local cache of Hugging Face, and say so."""
    parser = argparse.ArgumentParser(prog="mechbook.residual.full_scale", description=main.__doc__)
    parser.add_argument("name", help="a model of the hub, such as gpt2")
    name = parser.parse_args(arguments).name
    from huggingface_hub import snapshot_download

    print(f"fetching {name} from the hub into the local cache")
    try:
        snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"])
    except OSError as error:
        print(f"{name} could not be fetched: {error}".splitlines()[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
