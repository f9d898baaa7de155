"""Steps a second for each member: E members packed against a plain loop over single models.

For tests/benchmarks: ``make bench`` runs it. Time of the processor, not of the clock, so that a busy
machine does little harm; rounds of both kinds alternate, and the medians are compared. The plain loop
is an ordinary model with torch's own AdamW and its fast short last layer, without ``vmap``.
"""

import resource
import statistics
import time
from dataclasses import replace

import pytest
import torch

from mechbook.icl import runs
from mechbook.icl.config import IclConfig, gaussian, paper
from mechbook.icl.model import build
from mechbook.icl.sequences import Stream

ROUNDS = 3
GLYPHS = {"source": "glyphs", "side": 12, "n_holdout": 10, "n_classes": 32, "n_features": 64}
CONFIGS = {
    "2 layers, attention only, d 64, batch 128": IclConfig(**GLYPHS),
    "2 layers, attention only, d 64, batch 32": IclConfig(**GLYPHS, batch=32),
    "Gaussian, 2 layers, d 80, batch 128": gaussian(),
    "12 layers, MLPs, 8 heads, d 64, batch 32": paper(**GLYPHS, features="pca", embedder="linear"),
}


def packed(config: IclConfig, members: int, steps: int) -> float:
    """Seconds of the processor a step of one member takes in a pack."""
    settings = [replace(config, decay=float(i), steps=steps, episodes=1) for i in range(members)]
    pack = runs.Pack.of([replace(c, evaluate_every=steps) for c in settings])
    loss = runs.Losses(pack, torch.device("cpu"))
    ensemble = runs.Ensemble([build(c) for c in settings])
    names = [(name, runs._own_name(name)) for name, _ in ensemble.named_parameters()]
    optimizer = runs.decay.adam(ensemble, names, settings)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.process_time()
        optimizer.zero_grad()
        loss(ensemble, step).sum().backward()
        optimizer.step()
    return (time.process_time() - start) / steps / members


def plain(config: IclConfig, steps: int) -> float:
    """The same of one model by itself."""
    model, stream = build(config), Stream(config, runs.classes.pool(config))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.1, fused=True)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.process_time()
        batch = stream.batch(step)
        loss = torch.nn.functional.cross_entropy(
            model(batch["inputs"], batch["labels"]), batch["target"]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - start) / steps


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("members", [1, 3, 8, 30])
def test_packed_against_a_plain_loop(name, members, capsys):
    steps = max(4, 40 // members)
    rounds = [
        (plain(CONFIGS[name], 30), packed(CONFIGS[name], members, steps)) for _ in range(ROUNDS)
    ]
    alone, together = (statistics.median(times) for times in zip(*rounds, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with capsys.disabled():
        print(
            f"\n{name}, {members} members: {1 / together:.0f} steps/s a member, plain loop "
            f"{1 / alone:.0f}: {alone / together:.2f} times as fast; peak memory {peak:.0f} MiB"
        )
