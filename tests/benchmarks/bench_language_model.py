"""What the book's training of the language model costs beside a plain PyTorch loop.

Not part of the tests: ``make bench`` runs it. Both train the full-size model on random tokens, with
AdamW, clipping and 16-bit products; the plain loop takes the library's cross-entropy. Rounds of
both kinds alternate, so that a busy machine slows both; the ratio is that of the medians. Then the
cross-entropy alone.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mechbook import training
from mechbook.language_model import train, weights
from mechbook.language_model.corpus import Stream, Windows
from mechbook.language_model.model import ModelConfig, build

STEPS = 3
ROUNDS = 5
CONFIG = train.TrainingConfig(measure_on=1)


@pytest.fixture(scope="module")
def model():
    return build(ModelConfig(), weights.load_tokenizer())


@pytest.fixture(scope="module")
def windows(model):
    """As many windows of random tokens as the updates of a round take."""
    length, count = model.cfg.n_ctx, STEPS * CONFIG.batch
    ids = torch.randint(model.cfg.d_vocab, (count * length,), generator=training.generator(0))
    ends, all_begin = np.array([len(ids)]), np.ones(len(ids), dtype=bool)
    return Windows(Stream(ids.numpy().astype(np.uint16), ends, all_begin, ends), length, end=0)


def ours(model, windows) -> None:
    """The book's loop as the recipe calls it, its two measurements on one window included."""
    train.run(model, windows, windows, CONFIG, progress=False)


def plain(model, windows) -> None:
    """The same updates, written out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.learning_rate, betas=(0.9, 0.98))
    for step in range(STEPS):
        tokens = windows.batch(step, CONFIG.batch, CONFIG.seed)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip)
        optimizer.step()


def library(logits, target):
    return F.cross_entropy(logits.float(), target)


def alternating(benchmark, run: Callable[[], None], other: Callable[[], None]) -> float:
    """Measure ``run`` by the benchmark, and ``other`` before each of its rounds; its median."""
    for warm_up in (run, other):
        warm_up()
    seconds = []

    def before():
        start = time.perf_counter()
        other()
        seconds.append(time.perf_counter() - start)

    benchmark.pedantic(run, setup=before, rounds=ROUNDS)
    return statistics.median(seconds)


def test_the_books_loop_against_a_plain_one(benchmark, capsys, model, windows):
    alone = alternating(benchmark, lambda: ours(model, windows), lambda: plain(model, windows))
    book, tokens = benchmark.stats.stats.median, STEPS * CONFIG.batch * windows.length
    benchmark.extra_info |= {"tokens a second": tokens / book, "ratio": alone / book}
    with capsys.disabled():
        print(
            f"\nlanguage model, {STEPS} updates of {CONFIG.batch} x {windows.length} tokens, "
            f"{torch.get_num_threads()} threads: the book's loop {tokens / book:,.0f} tokens a "
            f"second, a plain loop {tokens / alone:,.0f}: {alone / book:.2f} times as fast"
        )


def test_cross_entropy_against_the_librarys(benchmark, capsys, model):
    rows, types, draw = CONFIG.batch * model.cfg.n_ctx, model.cfg.d_vocab, training.generator(1)
    logits = torch.randn(rows, types, generator=draw).bfloat16().requires_grad_()
    target = torch.randint(types, (rows,), generator=draw)

    def forth_and_back(loss: Callable) -> None:
        logits.grad = None
        loss(logits, target).backward()

    alone = alternating(
        benchmark,
        lambda: forth_and_back(train.CrossEntropy.apply),
        lambda: forth_and_back(library),
    )
    book = benchmark.stats.stats.median
    benchmark.extra_info |= {"the library's, s": alone, "ratio": alone / book}
    with capsys.disabled():
        print(
            f"\ncross-entropy of {rows} x {types} logits in 16 bits, forth and back: the book's "
            f"{book * 1000:.0f} ms, the library's {alone * 1000:.0f} ms: "
            f"{alone / book:.2f} times as fast"
        )
