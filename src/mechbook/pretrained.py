"""Pretrained models from this machine: found in a folder or in Hugging Face's cache, never fetched unasked.

``python -m mechbook.pretrained gpt2`` fetches one, for those who ask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def find(name: str) -> Path | None:
    """The folder of a model: a local folder of that name, or its place in Hugging Face's cache; None without."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name, "config.json").is_file():
        return Path(name)
    try:
        config = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no name that the hub could have
        return None
    return Path(config).parent if isinstance(config, str) else None


def load(name: str, *, module: str = "mechbook.pretrained") -> Any:
    """A pretrained model as a ``TransformerBridge``, from the local disk alone, on the CPU.

    Args:
        name: of a model of the hub, such as ``gpt2``, or a local folder.
        module: whose `main` fetches a model, for the message.

    Raises:
        ValueError: the model is not there, or not all of it; the text says how to fetch it.
    """
    folder = find(name)
    fetch = f"with a network, fetch it once by `python -m {module} {name}`."
    if folder is None:
        raise ValueError(f"{name} is not on this machine; {fetch}")
    from transformer_lens.model_bridge import TransformerBridge

    try:
        return TransformerBridge.boot_transformers(str(folder), device="cpu")
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} is not whole on this machine ({reason}); {fetch}") from error


def beginning(model: Any) -> int:
    """Number of the token that begins a text; the one that ends a text, where there is no other.

    Raises:
        ValueError: the tokenizer has neither.
    """
    for token in (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer marks neither the beginning nor the end of a text; set one")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a model into the local cache of Hugging Face, and say so."""
    parser = argparse.ArgumentParser(prog="mechbook.pretrained", description=main.__doc__)
    parser.add_argument("name", help="a model of the hub, such as gpt2")
    name = parser.parse_args(arguments).name
    from huggingface_hub import snapshot_download

    print(f"fetching {name} from the hub into the local cache")
    try:
        snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"])
    except (OSError, ValueError) as error:
        print(f"{name} could not be fetched: {error}".splitlines()[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
