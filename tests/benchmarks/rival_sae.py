"""Trains sparse autoencoders with SAELens and dictionary_learning, and says how long it took.

``bench_sae.py`` starts it in an environment of its own, once, with a file of activations and a
number of threads; then each line of its input is a task in JSON, and each line of its output the
answer: seconds, and what the autoencoder has learned. Each library trains by its own loop.

What the libraries do beside the book's updates: SAELens clips gradients, counts how often latents
are active and divides TopK activations by the lengths of directions (its default) instead of
keeping these at 1. dictionary_learning clips gradients for TopK and starts ``b_dec`` at the
geometric median. Neither warms up nor decays here. No latent is dead so early, so none of the
auxiliary losses for dead latents costs anything, here as there. SAELens can keep TopK codes as sparse
tensors; its training with them asks for an operation that torch does not have on a processor.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from sae_lens import (
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor, nn

PACKAGES = {"SAELens": "sae-lens", "dictionary_learning": "dictionary-learning"}


def batches(rows: Tensor, batch: int) -> Iterator[Tensor]:
    """All rows once, in a random order."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for places in order.view(-1, batch):
        yield rows[places]


def saelens(rows: Tensor, task: SimpleNamespace) -> nn.Module:
    """Its trainer on batches of our own, as its training on synthetic activations does."""
    shape = {"d_in": rows.shape[1], "d_sae": task.d_sae}
    if task.variant == "topk":
        config = TopKTrainingSAEConfig(**shape, k=task.k, use_sparse_activations=False)
        sae = TopKTrainingSAE(config)
    else:
        sae = StandardTrainingSAE(StandardTrainingSAEConfig(**shape, l1_coefficient=task.price))
    how = SAETrainerConfig(
        total_training_samples=len(rows),
        train_batch_size_samples=task.batch,
        lr=task.learning_rate,
        lr_end=task.learning_rate,
    )
    return SAETrainer(cfg=how, sae=sae, data_provider=batches(rows, task.batch)).fit()


def dictionary_learning(rows: Tensor, task: SimpleNamespace) -> nn.Module:
    """Its ``trainSAE`` with the trainer that keeps directions at length 1."""
    steps = len(rows) // task.batch
    own = {"k": task.k}
    kind: Callable = TopKTrainer
    if task.variant == "relu":
        own, kind = {"l1_penalty": task.price, "sparsity_warmup_steps": None}, StandardTrainer
    made = []

    def trainer(**settings):
        made.append(kind(**settings))
        return made[0]

    settings = {
        "trainer": trainer,
        "steps": steps,
        "activation_dim": rows.shape[1],
        "dict_size": task.d_sae,
        "layer": 0,
        "lm_name": "none",
        "lr": task.learning_rate,
        "warmup_steps": 0,
        "device": "cpu",
    }
    trainSAE(batches(rows, task.batch), [settings | own], steps, device="cpu")
    return made[0].ae


LIBRARIES = {"SAELens": saelens, "dictionary_learning": dictionary_learning}


@torch.no_grad()
def learned(sae: nn.Module, h: Tensor) -> dict[str, float]:
    """Share of variance explained and active latents, by the library's own encoder and decoder."""
    z = sae.encode(h)
    error = (h - sae.decode(z)).pow(2).sum()
    explained = 1 - error / (h - h.mean(0)).pow(2).sum()
    return {"explained": float(explained), "l0": float((z != 0).float().sum(-1).mean())}


def answer(rows: Tensor, task: SimpleNamespace) -> dict:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    sae = LIBRARIES[task.library](rows, task)
    seconds = clock() - start
    versions = {"version": version(PACKAGES[task.library]), "torch": torch.__version__}
    return {"seconds": seconds} | versions | learned(sae, rows[: task.batch])


def main(file: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    rows = torch.from_numpy(np.load(file))
    answers, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no answer
    for line in sys.stdin:
        found = answer(rows, SimpleNamespace(**json.loads(line)))
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
