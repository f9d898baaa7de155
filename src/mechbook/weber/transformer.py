"""A transformer that learns to compare: which of two lists of words, read one after the other, is longer.

    BOS  w w w … w  SEP  w w w w … w  ASK  →  left or right

Two layers with MLPs. Rows of different length stand in one batch: what follows ASK is never seen by
it, for attention looks back only. Nothing in the network is noisy; it errs because the words differ
and because it learned from examples. Its probabilities and its choices are measured apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.weber.psychometrics import Counts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

POSITIONS = ("learned", "none")


@dataclass(frozen=True)
class Task:
    """The comparison.

    Attributes:
        n_types: words.
        low: lowest mean of the two counts in training.
        high: highest mean of the two counts in training.
        largest: largest difference in training; all from 1 to it are equally frequent. None: every
            split of the words that leaves two on each side.
        longest: most words in both texts together that the model can read.
    """

    n_types: int = 50
    low: int = 5
    high: int = 35
    largest: int | None = None
    longest: int = 130

    def __post_init__(self) -> None:
        largest = 1 if self.largest is None else self.largest
        if not 1 <= largest < 2 * self.low - 1 or not 3 <= self.low < self.high:
            raise ValueError(
                f"{self}: low is from 3 to below high, and the largest difference below 2 · low - 1"
            )
        if self.longest < 2 * self.high + 1:
            raise ValueError(f"{self}: longest is at least 2 · high + 1")

    @property
    def BOS(self) -> int:
        """Token that begins a row; SEP, ASK, LEFT and RIGHT follow it in this order."""
        return self.n_types

    @property
    def answers(self) -> tuple[int, int]:
        """Tokens of the answers left and right."""
        return self.n_types + 3, self.n_types + 4

    @property
    def n_vocab(self) -> int:
        """Words and marks."""
        return self.n_types + 5

    @property
    def n_ctx(self) -> int:
        """Longest row: the words, BOS, SEP and ASK."""
        return self.longest + 3


@dataclass(frozen=True)
class ModelConfig:
    """The transformer: LayerNorm, GELU.

    Attributes:
        n_layers: blocks.
        d_model: width of the stream.
        n_heads: heads a layer.
        positions: one of `POSITIONS`: learned and added to the embedding, or none at all.
        mlps: whether each attention is followed by an MLP.
        seed: of the initial weights.
    """

    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 4
    positions: str = "learned"
    mlps: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise ValueError(f"positions is {self.positions!r}; give one of {', '.join(POSITIONS)}")


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained (AdamW; short warmup, constant, linear to nothing at the end).

    Attributes:
        steps: updates.
        batch: rows an update.
        learning_rate: the highest.
        cooldown: share of the updates, at the end, over which the rate falls to nothing.
        measure_at: updates after which `train` keeps a measurement.
        seed: of the rows.
    """

    steps: int = 250
    batch: int = 64
    learning_rate: float = 1e-3
    cooldown: float = 0.5
    measure_at: tuple[int, ...] = ()
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate at an update, as a share of the highest."""
        left = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        return min((step + 1) / 20, 1.0, left)


@dataclass(frozen=True)
class Rows:
    """Comparisons as the model reads them.

    Attributes:
        tokens: padded at the end with ASK, which nothing looks back from.
        ask: where the model is asked.
        m: words on the left.
        n: words on the right.
    """

    tokens: Int[Tensor, "batch posn"]
    ask: Int[Tensor, " batch"]
    m: Int[Tensor, " batch"]
    n: Int[Tensor, " batch"]


def build(task: Task, config: ModelConfig | None = None) -> TransformerBridge:
    """An untrained model."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = config or ModelConfig()
    model = TransformerBridge.boot_native(  # type: ignore[attr-defined]
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            d_head=config.d_model // config.n_heads,
            n_heads=config.n_heads,
            d_mlp=4 * config.d_model,
            d_vocab=task.n_vocab,
            n_ctx=task.n_ctx,
            act_fn="gelu",
            normalization_type="LN",
            attn_only=not config.mlps,
            seed=config.seed,
        )
    )
    if config.positions == "none":
        model.pos_embed.weight.requires_grad_(False).zero_()
    return model


# --- rows -------------------------------------------------------------------------------------


def rows(
    task: Task, m: Int[Tensor, " batch"], n: Int[Tensor, " batch"], draw: torch.Generator
) -> Rows:
    """Random words with these counts.

    Raises:
        ValueError: more words than the model reads, or a side without any.
    """
    if int((m + n).max()) > task.longest or int(torch.minimum(m, n).min()) < 1:
        raise ValueError(
            f"counts up to {int((m + n).max())} in all, down to {int(torch.minimum(m, n).min())} a "
            f"side; give 1 or more a side and at most {task.longest} in all"
        )
    ask, length = m + n + 2, int((m + n).max()) + 3
    tokens = torch.randint(task.n_types, (len(m), length), generator=draw)
    posn = torch.arange(length)
    tokens[:, 0] = task.BOS
    tokens = torch.where(posn == m[:, None] + 1, task.BOS + 1, tokens)
    return Rows(torch.where(posn >= ask[:, None], task.BOS + 2, tokens), ask, m, n)


def sample(task: Task, batch: int, draw: torch.Generator) -> Rows:
    """Rows of one batch: one mean for all of them, so that little is padded, and many differences.

    The sums are twice the mean, or one beside it where the parity of a difference asks for it.
    """
    mean = int(torch.randint(task.low, task.high + 1, (), generator=draw))
    largest = 2 * mean - 4 if task.largest is None else task.largest
    size = torch.randint(1, largest + 1, (batch,), generator=draw)
    beside = 2 * torch.randint(2, (batch,), generator=draw) - 1
    total = 2 * mean + beside * (size % 2)
    side = 2 * torch.randint(2, (batch,), generator=draw) - 1
    return rows(task, (total - side * size) // 2, (total + side * size) // 2, draw)


def log_odds(model: Any, given: Rows, task: Task) -> Float[Tensor, " batch"]:
    """Log-odds of right against left where the model is asked."""
    logits = model(given.tokens)[torch.arange(len(given.ask)), given.ask]
    left, right = task.answers
    return logits[:, right] - logits[:, left]


# --- training ---------------------------------------------------------------------------------


def train(
    model: TransformerBridge,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    measure: Callable[[Any], dict[str, Any]] | None = None,
    progress: bool | None = None,
) -> training.History:
    """Train in place on fresh rows; with ``measure``, keep what it gives at ``measure_at`` in metrics."""
    config = config or TrainingConfig()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate)

    def loss(model: Any, step: int) -> Tensor:
        given = sample(task, config.batch, training.generator(config.seed, step))
        odds, right = log_odds(model, given, task), (given.n > given.m).float()
        return torch.nn.functional.binary_cross_entropy_with_logits(odds, right)

    last: dict[str, Any] = {}

    def metrics(model: Any, step: int) -> dict[str, Any]:
        if measure is not None and (not last or step in config.measure_at):
            last.update(measure(model))
        return dict(last)

    every = int(np.gcd.reduce([config.steps, *config.measure_at]))
    return training.train(
        model,
        loss,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, config.rate),
        steps=config.steps,
        clip=1.0,
        metrics=None if measure is None else metrics,
        metrics_every=every,
        label="comparing",
        progress=progress,
    )


# --- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What a model says at some means and differences.

    Attributes:
        chosen: answers with the higher probability.
        believed: the sums of the probabilities of right, where `chosen` has numbers of choices.
        odds: log-odds of right of each row, cells in the order of `chosen`.
    """

    chosen: Counts
    believed: Counts
    odds: Float[np.ndarray, "cell row"]


DIFFERENCES = tuple(range(1, 9))


@torch.no_grad()
def answers(
    model: Any,
    task: Task,
    *,
    means: Sequence[int] = (10, 20, 30),
    differences: Sequence[int] = DIFFERENCES,
    per_cell: int = 64,
    seed: int = 1_000_003,
    judge: Callable[[Any, Rows], Float[Tensor, " batch"]] | None = None,
) -> Answers:
    """Ask about every mean and signed difference; sums one below and above where parity asks for it.

    Args:
        model: trained, or not.
        task: its task.
        means: of the two counts, whole numbers.
        differences: sizes, each with both signs.
        per_cell: rows for each mean and signed difference, even.
        seed: of the words.
        judge: from model and rows to log-odds, in place of `log_odds`: an intervention.

    Raises:
        ValueError: an odd ``per_cell``, or counts that the task cannot hold.
    """
    if per_cell < 2 or per_cell % 2:
        raise ValueError(f"per_cell is {per_cell}; give an even number, so that parities balance")
    ask = judge or (lambda model, given: log_odds(model, given, task))
    cells = [(mean, side * size) for mean in means for size in differences for side in (-1, 1)]
    every = []
    for index, (mean, difference) in enumerate(cells):
        total = torch.full((per_cell,), 2 * mean)
        if difference % 2:
            total[::2], total[1::2] = 2 * mean - 1, 2 * mean + 1
        m = (total - difference) // 2
        every.append(ask(model, rows(task, m, m + difference, training.generator(seed, index))))
    odds = torch.stack(every)
    right = [(odds > 0).double().sum(1).numpy(), odds.double().sigmoid().sum(1).numpy()]
    mean_of, difference_of = np.array(cells, dtype=float).T
    number = np.full(len(cells), float(per_cell))
    chosen, believed = (Counts(mean_of, difference_of, r, number) for r in right)
    return Answers(chosen, believed, odds.numpy())


@dataclass(frozen=True)
class Evidence:
    """How the log-odds follow the difference at each mean.

    Attributes:
        means: of the two counts.
        slope: log-odds for one word more.
        bias: log-odds at no difference.
        noise: standard deviation of the log-odds among rows with the same counts.
        exponent: that of 1 / slope ∝ mean^exponent, by least squares on logarithms: 1 where the
            evidence is the ratio (Weber's law), 0 where it is the difference; not a number where a
            slope is not above 0.
    """

    means: Float[np.ndarray, " mean"]
    slope: Float[np.ndarray, " mean"]
    bias: Float[np.ndarray, " mean"]
    noise: Float[np.ndarray, " mean"]
    exponent: float


def evidence(found: Answers, largest: int = 4) -> Evidence:
    """Lines through the log-odds near no difference, one for each mean.

    Unlike a psychometric function they exist for a model that never errs, too.

    Args:
        found: from `answers`.
        largest: sizes of differences that are used; log-odds bend at larger ones.

    Raises:
        ValueError: fewer than two means.
    """
    cells, values = found.chosen, found.odds.mean(1)
    if len(cells.means) < 2:
        raise ValueError(f"{len(cells.means)} mean; an exponent needs at least two")
    near = abs(cells.difference) <= largest
    lines, noise = [], []
    for mean in cells.means:
        at = near & (cells.mean == mean)
        lines.append(np.polyfit(cells.difference[at], values[at], 1))
        noise.append(float(np.sqrt(found.odds[at].var(1).mean())))
    slope, bias = np.array(lines).T
    gamma = float("nan")
    if (slope > 0).all():
        gamma = -float(np.polyfit(np.log(cells.means), np.log(slope), 1)[0])
    return Evidence(cells.means, slope, bias, np.array(noise), gamma)
