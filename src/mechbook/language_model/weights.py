"""The trained model, from the file that ships with the book; and how that file is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mechbook import artifacts
from mechbook.corpora import Document
from mechbook.language_model import corpus, train
from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model.model import ModelConfig, build, parameters
from mechbook.training import History

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformer_lens.model_bridge import TransformerBridge

NAME, TOKENIZER, CURVE = "language-model", "language-model-tokenizer", "language-model-curve"
# where a training keeps its checkpoint, so that it can be killed
WORKSHOP = artifacts.DATA.parents[2] / "build" / "language-model"


def load(*, data: Path = artifacts.DATA) -> TransformerBridge:
    """The trained model with its tokenizer, on the CPU, in 32 bits, ready to run.

    Raises:
        ArtifactError: weights or tokenizer missing, damaged, or not made for one another.
    """
    tokenizer = load_tokenizer(data=data)
    tensors = artifacts.load_tensors(NAME, data=data)
    wanted = artifacts.load_card(NAME, data=data).inputs.get("tokenizer")
    if wanted != artifacts.checksum(TOKENIZER, data=data):
        raise artifacts.ArtifactError(
            f"{TOKENIZER} is not the tokenizer that {NAME} was trained with; restore both from one "
            f"commit, or make both again (`python -m mechbook make {TOKENIZER}`, then `{NAME}`)"
        )
    try:
        return restore(tokenizer, tensors)
    except artifacts.ArtifactError as error:
        raise artifacts.ArtifactError(
            f"weights/{NAME}.safetensors: {error}; `python -m mechbook make {NAME}` makes it again"
        ) from error


def load_tokenizer(*, data: Path = artifacts.DATA) -> Tokenizer:
    """The tokenizer that ships with the book.

    Raises:
        ArtifactError: missing or damaged.
    """
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(artifacts.load_json(TOKENIZER, data=data)))


def restore(
    tokenizer: Tokenizer, tensors: dict[str, Tensor], config: ModelConfig | None = None
) -> TransformerBridge:
    """A model with the given weights.

    Raises:
        ArtifactError: tensors are missing, too many, of the wrong shape, or not finite.
    """
    model = build(config or ModelConfig(), tokenizer)
    own = parameters(model)
    for name in {**own, **tensors}:
        here, there = own.get(name), tensors.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if t is None else list(t.shape) for t in (here, there)]
            raise artifacts.ArtifactError(
                f"the weights do not fit the model: {name} should be {shapes[0]} and is {shapes[1]}"
            )
        if not bool(torch.isfinite(there).all()):
            raise artifacts.ArtifactError(f"the weights are damaged: {name} is not finite")
        here.copy_(there)
    return model.eval()


# --- recipes ----------------------------------------------------------------------------------


def make_tokenizer(text: str) -> tuple[Any, dict]:
    """Recipe of the tokenizer: count the words of the training text."""
    opened = corpus.open_text(text, "train")
    tokenizer = tokenizers.train(document.text for document in opened)
    about = "Tokenizer of the language model: 8,192 types, words and pieces of words, bytes at need"
    return json.loads(tokenizer.to_str()), {"about": about, "seeds": [], "inputs": sources(opened)}


def make_weights(text: str, device: str = "cpu") -> tuple[dict[str, Tensor], dict]:
    """Recipe of the weights: one pass over the training text; goes on where it was stopped."""
    model, history = trained(text, device)
    config, last = train.TrainingConfig(), history.metrics["validation"][-1]
    tokens = len(history.loss) * config.batch * model.cfg.n_ctx
    books = sources(corpus.open_text(text, "train"))
    about = (
        f"A language model of {sum(p.numel() for p in parameters(model).values()):,} parameters in "
        f"16 bits, trained on {tokens:,} tokens ({config.passes:g} pass over {len(books)} books, "
        f"listed under inputs); {last:.2f} nats a token on a sample of the validation books (the "
        f"whole curve: {CURVE}). Limits: it writes English of 1700 to 1925 and repeats the views "
        "of those books, it sees 127 tokens back, and nothing that it states is to be relied on."
    )
    facts = {
        "about": about,
        "seeds": [ModelConfig().seed, config.seed],
        "seconds": round(float(seconds(history)[-1])),
        "device": device,
        "inputs": {"tokenizer": artifacts.checksum(TOKENIZER), **books},
    }
    return {name: tensor.half() for name, tensor in parameters(model).items()}, facts


def make_curve(text: str, device: str = "cpu") -> tuple[dict[str, np.ndarray], dict]:
    """Recipe of the curve: what the training recorded; reads the finished checkpoint."""
    _, history = trained(text, device)
    steps, config = history.metric_steps, train.TrainingConfig()
    before = [history.loss[max(0, step - config.measure_every) : step] for step in steps]
    columns = {
        "step": steps,
        "tokens": steps * config.batch * ModelConfig().n_ctx,
        "training": np.array([part.mean() if len(part) else np.nan for part in before]),
        "validation": history.metrics["validation"],
        "seconds": seconds(history),
    }
    about = "Loss of the language model during training, in nats a token: training, mean since the "
    about += "row before; validation, on 128 windows at even distances"
    return columns, {"about": about, "seeds": [config.seed], "device": device}


def trained(text: str, device: str = "cpu") -> tuple[TransformerBridge, History]:
    """The model after its training, which goes on from the checkpoint where there is one."""
    tokenizer, config = load_tokenizer(), ModelConfig()
    cut = []
    for split in corpus.SPLITS:
        print(f"encoding the {split} text", flush=True)
        texts = (document.text for document in corpus.open_text(text, split))
        cut.append(corpus.windows(tokenizer, corpus.encode(tokenizer, texts), config.n_ctx))
    model = build(config, tokenizer).to(device)
    checkpoint = WORKSHOP / "checkpoint.safetensors"
    books, held_out = cut
    settings = train.TrainingConfig()
    history = train.run(model, books, held_out, settings, checkpoint=checkpoint, progress=True)
    return model, history


def seconds(history: History) -> np.ndarray:
    """Seconds of training up to each measurement, over all parts of a run that was interrupted.

    Of the time between two measurements in which a run was stopped, only what came after counts.
    """
    since_start = history.metrics["seconds"]
    steps = np.diff(since_start, prepend=0.0)
    return np.where(steps > 0, steps, since_start).cumsum()


def sources(text: Iterable[Document]) -> dict[str, str]:
    """The sha256 of each document by its title and author."""
    return {
        f"{document.title}, {document.author}": hashlib.sha256(document.text.encode()).hexdigest()
        for document in text
    }
