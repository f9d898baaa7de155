"""Steps a second for each member: E runs of the in-context learning chapter packed, against a plain loop.

Not part of the tests: ``make bench`` runs it. The plain loop is an ordinary model, torch's own AdamW, no
``vmap``, with the same fast last layer and the same sequences. Times are the processor's, summed over
threads, not the clock's; rounds of both kinds alternate, and the ratio is that of the medians. Memory is
the peak of a fresh process that trains the pack, less what it held before the pack was built.
"""

import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mechbook.icl import decay, runs
from mechbook.icl.classes import pool
from mechbook.icl.config import IclConfig, gaussian, paper
from mechbook.icl.model import build
from mechbook.icl.sequences import Stream

ROUNDS = 3
MEMBERS = (1, 8, 30)
PLAIN_STEPS = 20
GLYPHS = {"source": "glyphs", "side": 12, "n_holdout": 10, "n_classes": 32, "n_features": 64}
CONFIGS = {
    "2 layers, attention only, d 64, batch 128": IclConfig(**GLYPHS),
    "2 layers, attention only, d 64, batch 32": IclConfig(**GLYPHS, batch=32),
    "Gaussian, 2 layers, d 80, batch 128": gaussian(),
    "12 layers, MLPs, 8 heads, d 64, batch 32": paper(**GLYPHS, features="pca", embedder="linear"),
}


def pack_of(config: IclConfig, members: int, steps: int) -> runs.Pack:
    """Runs that differ in their decay, and read the same sequences."""
    base = replace(config, steps=steps, evaluate_every=steps, episodes=1)
    return runs.Pack.of([replace(base, decay=0.01 * i) for i in range(members)])


def packed(config: IclConfig, members: int, steps: int) -> float:
    """Seconds of the processor that an update of one member takes in a pack; the first one warms up."""
    pack = pack_of(config, members, steps)
    losses = runs.Losses(pack, torch.device("cpu"))
    ensemble = runs.Ensemble([build(member) for member in pack.configs])
    names = [(name, runs._own_name(name)) for name, _ in ensemble.named_parameters()]
    optimizer = decay.adam(ensemble, names, pack.configs)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.process_time()
        optimizer.zero_grad()
        losses(ensemble, step).sum().backward()
        optimizer.step()
    return (time.process_time() - start) / steps / members


def plain(config: IclConfig, steps: int) -> float:
    """The same of one ordinary model by itself: what a loop over members would take for each."""
    model, stream = build(config), Stream(config, pool(config))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.1, fused=True)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.process_time()
        batch = stream.batch(step)
        optimizer.zero_grad()
        logits = model(batch["inputs"], batch["labels"])
        torch.nn.functional.cross_entropy(logits, batch["target"]).backward()
        optimizer.step()
    return (time.process_time() - start) / steps


def peak() -> float:
    """MiB that this process has held at most (Linux; what getrusage says there survives an exec)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (line,) = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def memory(config: IclConfig, members: int) -> float:
    """MiB by which two updates of a pack raise the peak of this process."""
    pool(config)  # the classes are there whatever is trained on them
    before = peak()
    packed(config, members, 1)
    return peak() - before


def memory_of_a_fresh_process(config: IclConfig, members: int) -> float:
    """`memory` where nothing else was computed before."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(memory, config, members).result()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("members", MEMBERS)
def test_packed_against_a_plain_loop(name, members, capsys):
    """Print steps a second, the ratio and the memory; a pack must not be slower by half."""
    steps = max(2, 24 // members)
    rounds = [
        (plain(CONFIGS[name], PLAIN_STEPS), packed(CONFIGS[name], members, steps))
        for _ in range(ROUNDS)
    ]
    alone, together = (statistics.median(times) for times in zip(*rounds, strict=True))
    held = memory_of_a_fresh_process(CONFIGS[name], members)
    with capsys.disabled():
        print(
            f"\n{name}, {members} members: {1 / together:.0f} steps/s a member, plain loop "
            f"{1 / alone:.0f}: {alone / together:.2f} times as fast; {held:.0f} MiB"
        )
    assert together < 2 * alone
