"""How fast sparse autoencoders train, beside a plain PyTorch loop and beside two libraries.

Not part of the tests: ``make bench`` runs it. Rounds of both kinds alternate, so that a busy
machine slows both; the ratio is that of the medians, with the range over rounds. A round is a whole
training from stored activations, and both sides use as many threads as torch chooses. With one
thread (``OMP_NUM_THREADS=1``) it is the time of the processor that counts, to which other programs
add little; with more it is that of the clock.

*Beside a plain loop*: same start, batches, loss, unit directions and Adam, which is checked by the
losses that come out. The plain loop is as one writes it; the tuned one also has the book's two
shortcuts, fused Adam and ``b_dec`` multiplied out. Neither counts silent latents nor looks out for
NaN, which the book's loop does.

*Beside SAELens and dictionary_learning*: same activations, sizes, updates and learning rate, the
loss that both sides have, and each library's own training loop (``rival_sae.py`` says what else
they do). They ask for other versions of the book's packages, so they need an environment of their
own, which ``make clean`` removes; without it these are skipped::

    python3 -m venv build/rivals && build/rivals/bin/pip install sae-lens dictionary-learning
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mechbook import training
from mechbook.sae.training import Trained, TrainingConfig, shuffled, train
from mechbook.sae.variants import SAEConfig, build

ROUNDS = 5
BATCH = 512
PRICE = 1.0
RATE = 1e-3
K = 32
RELU = SAEConfig(256, 2048)
WEIGHTED = SAEConfig(256, 2048, decoder="weighted")
TOPK = SAEConfig(256, 2048, "topk", k=K)
TOY = SAEConfig(10, 40)

CLOCK = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
pytestmark = pytest.mark.benchmark(timer=CLOCK)

RIVALS = Path(__file__).parents[2] / "build" / "rivals" / "bin" / "python"
MAKE_RIVALS = (
    "no build/rivals/bin/python, so nothing is measured beside SAELens and dictionary_learning; "
    "make it: python3 -m venv build/rivals && "
    "build/rivals/bin/pip install sae-lens dictionary-learning"
)


def activations(config: SAEConfig, steps: int) -> Tensor:
    """Random numbers, a fresh row for each place in each batch."""
    return torch.randn(steps * BATCH, config.d_in, generator=training.generator(0))


def ours(config: SAEConfig, rows: Tensor, seeds: tuple[int, ...] = (0,)) -> Trained:
    """The book's training, its two measurements included; one member a seed."""
    steps = len(rows) // BATCH
    how = TrainingConfig(steps, RATE, decay=0, measure_every=steps)
    return train(config, how, shuffled(rows, BATCH, seeds), [PRICE], seeds, progress=False)


class Plain(nn.Module):
    """The same autoencoder without the book's package, from the same start."""

    def __init__(self, config: SAEConfig, seed: int, center: Tensor, tuned: bool):
        super().__init__()
        start = build(config, seed)
        self.k, self.tuned = config.k, tuned
        self.W_enc, self.b_enc = start.W_enc, start.b_enc
        self.W_dec, self.b_dec = start.W_dec, nn.Parameter(center)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        if self.tuned:
            pre = h @ self.W_enc + (self.b_enc - self.b_dec @ self.W_enc)
        else:
            pre = (h - self.b_dec) @ self.W_enc + self.b_enc
        z = pre.relu()
        if self.k:
            values, places = z.topk(self.k, dim=-1, sorted=False)
            z = torch.zeros_like(z).scatter(-1, places, values)
        return z, z @ self.W_dec + self.b_dec


def plain(config: SAEConfig, rows: Tensor, seed: int = 0, tuned: bool = False) -> list[float]:
    """The same updates, written out; the losses."""
    order = torch.randperm(len(rows), generator=training.generator(seed))
    batches = order.view(-1, BATCH)
    sae = Plain(config, seed, rows[batches[0]].mean(0), tuned)
    optimizer = torch.optim.Adam(sae.parameters(), lr=RATE, fused=True if tuned else None)
    losses = []
    for places in batches:
        h = rows[places]
        z, found = sae(h)
        loss = (h - found).pow(2).sum(-1).mean()
        if config.variant == "relu":
            loss = loss + PRICE * z.sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            sae.W_dec.grad -= (sae.W_dec.grad * sae.W_dec).sum(-1, keepdim=True) * sae.W_dec
            optimizer.step()
            sae.W_dec /= sae.W_dec.norm(dim=-1, keepdim=True)
        losses.append(loss.item())
    return losses


# --- rounds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounds:
    """Seconds of each round: the book's, and those of the others by name."""

    book: list[float]
    others: dict[str, list[float]]

    def ratio(self, name: str) -> float:
        return statistics.median(self.others[name]) / statistics.median(self.book)

    def range(self, name: str) -> str:
        each = [other / book for other, book in zip(self.others[name], self.book, strict=True)]
        return f"{min(each):.2f} to {max(each):.2f}"


def timed(run: Callable[[], object]) -> float:
    start = CLOCK()
    run()
    return CLOCK() - start


def alternating(
    benchmark, run: Callable[[], object], others: dict[str, Callable[[], float]]
) -> Rounds:
    """Measure ``run`` by the benchmark; before each of its rounds the others give their seconds."""
    for warm_up in (run, *others.values()):
        warm_up()
    seconds: dict[str, list[float]] = {name: [] for name in others}

    def before():
        for name, other in others.items():
            seconds[name].append(other())

    benchmark.pedantic(run, setup=before, rounds=ROUNDS)
    return Rounds(list(benchmark.stats.stats.data), seconds)


def report(benchmark, capsys, what: str, rounds: Rounds, updates: int) -> None:
    """Activations a second of all, and how many times as fast the book is."""
    rows = updates * BATCH
    benchmark.extra_info |= {f"ratio to {name}": rounds.ratio(name) for name in rounds.others}
    with capsys.disabled():
        print(
            f"\n{what}, batch {BATCH}, {torch.get_num_threads()} threads, "
            f"{CLOCK.__name__}: the book's training "
            f"{rows / statistics.median(rounds.book):,.0f} activations a second"
        )
        for name, seconds in rounds.others.items():
            print(
                f"  {name}: {rows / statistics.median(seconds):,.0f}; the book is "
                f"{rounds.ratio(name):.2f} times as fast ({rounds.range(name)})"
            )


def losses_agree(trained: Trained, each: list[list[float]]) -> None:
    """The plain loops have done the same: their losses are the book's."""
    np.testing.assert_allclose(np.transpose(each), trained.history.loss, rtol=1e-3)


# --- beside a plain loop ----------------------------------------------------------------------


@pytest.mark.parametrize("config", [RELU, TOPK], ids=["relu", "topk"])
def test_one_autoencoder_against_a_plain_loop(benchmark, capsys, config):
    steps = 40
    rows = activations(config, steps)
    run = partial(ours, config, rows)
    loops = {
        "a plain loop": partial(plain, config, rows),
        "a tuned one": partial(plain, config, rows, tuned=True),
    }
    for loop in loops.values():
        losses_agree(run(), [loop()])
    rounds = alternating(benchmark, run, {name: partial(timed, f) for name, f in loops.items()})
    report(benchmark, capsys, f"{config.variant}, 256 to 2048", rounds, steps)


def test_five_toy_autoencoders_against_plain_loops(benchmark, capsys):
    steps, seeds = 300, (0, 1, 2, 3, 4)
    rows = activations(TOY, steps)

    def one_by_one(tuned: bool) -> list[list[float]]:
        return [plain(TOY, rows, seed, tuned) for seed in seeds]

    loops = {
        "five plain loops": partial(one_by_one, tuned=False),
        "five tuned ones": partial(one_by_one, tuned=True),
    }
    run = partial(ours, TOY, rows, seeds)
    for loop in loops.values():
        losses_agree(run(), loop())
    rounds = alternating(benchmark, run, {name: partial(timed, f) for name, f in loops.items()})
    report(benchmark, capsys, "five of relu, 10 to 40", rounds, steps * len(seeds))


# --- beside other libraries -------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What a library is to train; ``rival_sae.py`` reads the same fields."""

    library: str
    variant: str
    d_sae: int
    k: int
    batch: int
    price: float
    learning_rate: float


class Rival:
    """A process of the other environment that trains once for each task it is sent."""

    def __init__(self, rows: Tensor, folder: Path):
        np.save(folder / "activations.npy", rows.numpy())
        self.log = folder / "rival.log"
        script = Path(__file__).with_name("rival_sae.py")
        command = [RIVALS, script, folder / "activations.npy", str(torch.get_num_threads())]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.answers: dict[Task, dict] = {}

    def seconds(self, task: Task) -> float:
        """Train, wait for the end, and give the seconds that the rival has measured."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asdict(task)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the rival has ended:\n{self.log.read_text()[-2000:]}"
        self.answers[task] = json.loads(line)
        return self.answers[task]["seconds"]

    def close(self) -> None:
        self.process.communicate()


RIVAL_STEPS = 40


@pytest.fixture(scope="module")
def rival(tmp_path_factory) -> Iterator[Rival | None]:
    if not RIVALS.exists():
        yield None
        return
    found = Rival(activations(RELU, RIVAL_STEPS), tmp_path_factory.mktemp("rival"))
    yield found
    found.close()


def tasks(config: SAEConfig, names: list[str]) -> dict[str, Task]:
    task = partial(Task, d_sae=config.d_sae, k=K, batch=BATCH, price=PRICE, learning_rate=RATE)
    return {name: task(name, config.variant) for name in names}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (WEIGHTED, ["SAELens"]),
        (RELU, ["dictionary_learning"]),
        (TOPK, ["SAELens", "dictionary_learning"]),
    ],
    ids=["relu, free lengths", "relu, unit lengths", "topk"],
)
def test_one_autoencoder_against_other_libraries(benchmark, capsys, rival, request, config, names):
    if rival is None:
        with capsys.disabled():
            print(f"\n{MAKE_RIVALS}")
        pytest.skip(MAKE_RIVALS)
    rows = activations(config, RIVAL_STEPS)
    wanted = tasks(config, names)
    others = {name: partial(rival.seconds, task) for name, task in wanted.items()}
    rounds = alternating(benchmark, partial(ours, config, rows), others)
    report(benchmark, capsys, f"{request.node.callspec.id}, 256 to 2048", rounds, RIVAL_STEPS)
    book = ours(config, rows).history.metrics
    with capsys.disabled():
        print(f"  the book: {quality(book['explained'][-1, 0], book['l0'][-1, 0])}")
        for name, task in wanted.items():
            answer = rival.answers[task]
            found = quality(answer["explained"], answer["l0"])
            print(f"  {name} {answer['version']}, torch {answer['torch']}: {found}")


def quality(explained: float, l0: float) -> str:
    return f"{explained:.3f} of the variance explained, {l0:.0f} latents active"
