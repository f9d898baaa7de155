"""The chapter's measurements on GPT-2 with an autoencoder that others trained, from the local disk.

SAELens fetches such an autoencoder, in an environment of its own (it asks for an older
TransformerLens), and writes it to a folder that `mechbook.sae.saelens` reads::

    from sae_lens import SAE
    SAE.from_pretrained("gpt2-small-res-jb", "blocks.8.hook_resid_pre").save_model("gpt2-sae")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import artifacts, pretrained
from mechbook.sae import activations, recovery, saelens
from mechbook.sae.reading import SAMPLES

PLACE = "blocks.8.hook_resid_pre"


def report(name: str = "gpt2", folder: Path | str = "gpt2-sae", place: str = PLACE) -> str:
    """How well an autoencoder stands in for a pretrained model; one line where one is not there.

    Args:
        name: of the model, such as ``gpt2``, or a local folder.
        folder: of the autoencoder, as SAELens writes it.
        place: hook of the model that it reads.
    """
    if not Path(folder).is_dir():
        return (
            f"Skipped: there is no folder {Path(folder).name}; SAELens writes it, see the module."
        )
    try:
        sae, model = saelens.load(folder), pretrained.load(name)
    except ValueError as missing:
        return f"Skipped: {missing}"
    tokens = windows(model, artifacts.load_texts(SAMPLES)["text"].tolist())
    return "\n".join(measure(model, sae, tokens, place))


def windows(
    model: Any, texts: Sequence[str], length: int = 96, count: int = 16
) -> Int[Tensor, "text posn"]:
    """Texts as rows of the mark that begins a text and ``length`` tokens.

    Raises:
        ValueError: no text is long enough.
    """
    mark = pretrained.beginning(model)
    rows = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    kept = [[mark, *row[:length]] for row in rows if len(row) >= length][:count]
    if not kept:
        raise ValueError(f"none of {len(texts)} texts has {length} tokens; give longer ones")
    return torch.tensor(kept)


@torch.no_grad()
def measure(model: Any, sae: Any, tokens: Int[Tensor, "text posn"], place: str) -> list[str]:
    """Lines on sparsity, reconstruction, and loss recovered against the mean.

    The mean over coordinates is left out of what the autoencoder reads, and put back: those of
    ``gpt2-small-res-jb`` were trained so, and the model's norms cannot see it.
    """

    def stand_in(h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        level = h.mean(-1, keepdim=True)
        return sae(h - level) + level

    h = activations.collect(model, tokens[:, :-1], place)
    quality = recovery.quality(sae, h - h.mean(-1, keepdim=True))
    loss = [activations.patched_loss(model, tokens, place, f)
            for f in (None, stand_in, torch.zeros_like, lambda v: h.mean(0).expand_as(v))]  # fmt: skip
    found = activations.LossRecovered(*loss)
    return [
        f"{place}: {quality.l0:.1f} of {sae.config.d_sae} latents at once, {quality.explained:.3f} explained",
        f"loss {found.clean:.2f}, from the reconstruction {found.patched:.2f}, recovered "
        f"{found.against_mean:.3f} against the mean",
    ]
