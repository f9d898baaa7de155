"""Calendar sums: "two months from January is", for months, weekdays and hours, and the network that learns them.

A prompt is five tokens, ``<number> <unit> from <item> is``: the words around the item carry no
news, but they are there, as in language. The answer is read after the last one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from mechbook import artifacts, training
from mechbook.language_model.model import parameters
from mechbook.language_model.tokenizer import MONTHS, WEEKDAYS

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MODEL, SEED = "months-model", 5
"""The artifact's name, and its seed: held-out sums and all."""

ITEM, FINAL = 3, 4
"""Positions in the prompt: of the month (or weekday, or hour), and of the last token."""


@dataclass(frozen=True)
class Cycle:
    """Things that come round.

    Attributes:
        unit: the word between the number and "from".
        items: in their order.
    """

    unit: str
    items: tuple[str, ...]

    def __len__(self) -> int:
        """How many items come before the first comes again."""
        return len(self.items)


CYCLES = (
    Cycle("months", MONTHS),
    Cycle("days", WEEKDAYS),
    Cycle("hours", tuple(f"{hour}:00" for hour in range(24))),
)


@dataclass(frozen=True)
class Task:
    """Which sums there are, and which of them are kept from training.

    Attributes:
        offsets: numbers 0 to ``offsets - 1`` stand before the unit.
        held_out: share of the pairs of number and item that are never trained on.
        cycles: how many of `CYCLES`, from the first.
        seed: of what is held out.
    """

    offsets: int = 60
    held_out: float = 0.2
    cycles: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.offsets < 1 or not 1 <= self.cycles <= len(CYCLES):
            raise ValueError(f"{self}: give 1 or more offsets and 1 to {len(CYCLES)} cycles")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; give a share between 0 and 1")

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: numbers, then "from" and "is", then each unit and its items."""
        numbers = tuple(map(str, range(self.offsets)))
        rest = [word for c in CYCLES[: self.cycles] for word in (c.unit, *c.items)]
        return (*numbers, "from", "is", *rest)

    def first_item(self, cycle: int) -> int:
        """The token of a cycle's first item.

        Raises:
            ValueError: no such cycle in the task.
        """
        if not 0 <= cycle < self.cycles:
            raise ValueError(f"cycle is {cycle}; the task has 0 to {self.cycles - 1}")
        return self.offsets + 3 + sum(1 + len(c) for c in CYCLES[:cycle])


@dataclass(frozen=True)
class Sums:
    """Prompts with their answers.

    Attributes:
        tokens: the prompts.
        answer: the token that follows.
        cycle: which of `CYCLES`.
        item: the item's place in its cycle.
        offset: the number.
    """

    tokens: Int[Tensor, "sum 5"]
    answer: Int[Tensor, " sum"]
    cycle: Int[Tensor, " sum"]
    item: Int[Tensor, " sum"]
    offset: Int[Tensor, " sum"]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.tokens)

    def take(self, which: Tensor) -> Sums:
        """Some of them."""
        return Sums(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def of(self, cycle: int) -> Sums:
        """Those of one cycle."""
        return self.take(self.cycle == cycle)


def sums(task: Task) -> Sums:
    """All sums of a task: cycle by cycle, offset by offset, item by item."""
    parts = []
    for index, cycle in enumerate(CYCLES[: task.cycles]):
        offset, item = torch.meshgrid(
            torch.arange(task.offsets), torch.arange(len(cycle)), indexing="ij"
        )
        offset, item = offset.flatten(), item.flatten()
        first = task.first_item(index)
        fixed = [torch.full_like(item, t) for t in (first - 1, task.offsets, task.offsets + 1)]
        tokens = torch.stack([offset, fixed[0], fixed[1], first + item, fixed[2]], 1)
        answer = first + (offset + item) % len(cycle)
        parts.append((tokens, answer, torch.full_like(item, index), item, offset))
    return Sums(*(torch.cat(column) for column in zip(*parts, strict=True)))


def split(task: Task) -> tuple[Sums, Sums]:
    """The sums for training, and those held out."""
    every = sums(task)
    order = torch.randperm(len(every), generator=training.generator(task.seed))
    count = round(task.held_out * len(every))
    return every.take(order[count:].sort().values), every.take(order[:count].sort().values)


# --- the network ------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetConfig:
    """The transformer and its training.

    Attributes:
        n_layers: blocks, each attention and MLP behind RMSNorms.
        d_model: width of the stream.
        n_heads: heads a layer.
        d_mlp: neurons a layer.
        steps: updates.
        batch: sums an update, as many of each cycle.
        learning_rate: the highest (AdamW; linear warmup, then a cosine to nothing).
        warmup: updates until it.
        weight_decay: of all weights; it is what makes the sums general.
        seed: of the initial weights and of the batches.
    """

    n_layers: int = 4
    d_model: int = 64
    n_heads: int = 4
    d_mlp: int = 256
    steps: int = 2000
    batch: int = 512
    learning_rate: float = 3e-3
    warmup: int = 50
    weight_decay: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_layers, self.d_model, self.n_heads, self.d_mlp, self.steps, self.batch) < 1:
            raise ValueError(f"{self}: layers, widths, heads, steps and batch must be 1 or more")
        if self.d_model % self.n_heads:
            raise ValueError(f"{self.n_heads} heads do not divide a width of {self.d_model}")

    def rate(self, step: int) -> float:
        """The learning rate at an update, as a share of the highest."""
        warm = min((step + 1) / self.warmup, 1.0)
        return warm * 0.5 * (1 + float(np.cos(np.pi * step / self.steps)))


def build(task: Task, config: NetConfig | None = None) -> TransformerBridge:
    """An untrained network for the task."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = config or NetConfig()
    return TransformerBridge.boot_native(  # type: ignore[attr-defined]
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            d_head=config.d_model // config.n_heads,
            n_heads=config.n_heads,
            d_mlp=config.d_mlp,
            d_vocab=len(task.words),
            n_ctx=5,
            act_fn="relu",
            normalization_type="RMS",
            seed=config.seed,
        )
    )


def train(
    model: TransformerBridge,
    task: Task,
    config: NetConfig | None = None,
    *,
    measure_every: int = 250,
    measure: training.Metrics | None = None,
    progress: bool | None = None,
) -> training.History:
    """Train in place; the history has the accuracies of `accuracies`, held out.

    Args:
        model: the network.
        task: what it learns; ``split(task)`` says which sums are held out.
        config: how.
        measure_every: updates between two measurements.
        measure: what else goes into the history.
        progress: whether a bar is shown.
    """
    config = config or NetConfig()
    known, new = split(task)
    pools = [(known.cycle == cycle).nonzero().flatten() for cycle in range(task.cycles)]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
    )

    def loss(model: Any, step: int) -> Tensor:
        draw = training.generator(config.seed, step)
        batch = known.take(_drawn(pools, config.batch, draw))
        return F.cross_entropy(model(batch.tokens)[:, -1], batch.answer)

    def metrics(model: Any, step: int) -> dict[str, Any]:
        more = {} if measure is None else measure(model, step)
        return {**accuracies(model, new, task.cycles), **more}

    return training.train(
        model,
        loss,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, config.rate),
        steps=config.steps,
        clip=1.0,
        metrics=metrics,
        metrics_every=measure_every,
        label="calendar sums",
        progress=progress,
    )


def _drawn(pools: Sequence[Tensor], batch: int, draw: torch.Generator) -> Int[Tensor, " batch"]:
    """Sums drawn for one update: as many of each cycle, so that the shortest is learned too."""
    each = -(-batch // len(pools))
    chosen = [p[torch.randint(len(p), (each,), generator=draw)] for p in pools]
    return torch.cat(chosen)[:batch] if len(pools) == 1 else torch.cat(chosen)


@torch.no_grad()
def predictions(model: Any, found: Sums) -> Int[Tensor, " sum"]:
    """The likeliest token after each prompt."""
    return model(found.tokens)[:, -1].argmax(-1)


def accuracies(model: Any, found: Sums, cycles: int = len(CYCLES)) -> dict[str, float]:
    """The share of right answers: ``all``, and by the unit of each cycle."""
    right = (predictions(model, found) == found.answer).float()
    named = {"all": float(right.mean())}
    for index, cycle in enumerate(CYCLES[:cycles]):
        named[cycle.unit] = float(right[found.cycle == index].mean())
    return named


# --- artifact ---------------------------------------------------------------------------------


def trained(seed: int, steps: int = NetConfig.steps) -> TransformerBridge:
    """A network trained from the start; weights, batches and held-out sums are the seed's own."""
    task, config = Task(seed=seed), NetConfig(seed=seed, steps=steps)
    model = build(task, config)
    train(model, task, config, measure_every=steps, progress=False)
    return model.eval()


def make_model(seed: int = SEED, steps: int = NetConfig.steps) -> tuple[dict[str, Tensor], dict]:
    """Recipe of ``months-model``: one trained network, in 16 bits.

    Its seed is none of those of the table ``months-seeds``, so it can be held against them.
    """
    model = trained(seed, steps)
    own = parameters(model)
    with torch.no_grad():
        for place in own.values():  # what is measured is what is kept
            place.copy_(place.half().float())
    told = accuracies(model, split(Task(seed=seed))[1])
    right = ", ".join(f"{unit} {share:.3f}" for unit, share in told.items())
    settings = json.dumps(asdict(NetConfig(seed=seed, steps=steps)))
    about = f"A network for calendar sums ({settings}); right on held-out sums: {right}"
    return {name: t.half() for name, t in own.items()}, {"about": about, "seeds": [seed]}


def load(
    tensors: Mapping[str, Tensor] | None = None, config: NetConfig | None = None
) -> TransformerBridge:
    """The trained network of the artifact, in 32 bits.

    Args:
        tensors: other weights than the artifact's.
        config: their shape.

    Raises:
        ArtifactError: the artifact is missing or damaged.
        ValueError: weights of another network.
    """
    tensors = artifacts.load_tensors(MODEL) if tensors is None else tensors
    model = build(Task(), config)
    own = parameters(model)
    wrong = [k for k in {**own, **tensors} if getattr(tensors.get(k), "shape", 0) != _shape(own, k)]
    if wrong:
        raise ValueError(f"the weights do not fit the network: {', '.join(wrong)}; make them again")
    with torch.no_grad():
        for name, place in own.items():
            place.copy_(tensors[name])
    return model.eval()


def _shape(tensors: Mapping[str, Tensor], name: str) -> Any:
    return tensors[name].shape if name in tensors else None
