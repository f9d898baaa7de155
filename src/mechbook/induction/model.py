"""The transformer that forms induction heads before the reader's eyes, and what is logged on the way.

Attention only, no norms, no biases: then every logit is a sum of products of weights, and a circuit
is a matrix. Two layers are needed: a head of the first tells each position what stands before it, a
head of the second finds the position that stands after the current token. One layer cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import heads, training
from mechbook.induction import causes, circuits
from mechbook.induction import task as tasks
from mechbook.induction.task import Task, Texts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

POSITIONS = ("added", "queries and keys")
LOOKS = ("previous token", "two back", "duplicate token", "induction")
"""Of `heads.places`, what is logged during training."""


@dataclass(frozen=True)
class ModelConfig:
    """The transformer.

    Attributes:
        n_layers: layers of attention.
        d_model: width of the residual stream.
        n_heads: heads a layer; each reads and writes ``d_model / n_heads`` dimensions.
        positions: ``added`` to the embedding, as usual; or given to ``queries and keys`` only, so
            that no value and no logit can depend on them.
        seed: of the initial weights.
    """

    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 2
    positions: str = "added"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_layers, self.d_model, self.n_heads) < 1 or self.d_model % self.n_heads:
            raise ValueError(
                f"{self}: layers, width and heads must be 1 or more, and the heads divide the width"
            )
        if self.positions not in POSITIONS:
            raise ValueError(f"positions is {self.positions!r}; give one of {', '.join(POSITIONS)}")


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained (AdamW; linear warmup, then constant, linear to nothing at the end).

    Attributes:
        steps: updates.
        batch: texts an update.
        learning_rate: the highest.
        warmup: updates until it.
        cooldown: share of the updates, at the end, over which it falls to nothing.
        weight_decay: of all weights.
        log_every: updates from one measurement to the next.
        seed: of the texts.
    """

    steps: int = 1500
    batch: int = 32
    learning_rate: float = 1e-2
    warmup: int = 50
    cooldown: float = 0.3
    weight_decay: float = 0.01
    log_every: int = 25
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate at an update, as a share of the highest."""
        left = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        return min((step + 1) / self.warmup, 1.0, left)


def build(task: Task, config: ModelConfig | None = None) -> TransformerBridge:
    """An untrained model for the task; its biases are zero and stay so."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = config or ModelConfig()
    model = TransformerBridge.boot_native(  # type: ignore[attr-defined]
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            d_head=config.d_model // config.n_heads,
            n_heads=config.n_heads,
            d_mlp=config.d_model,  # there is no MLP, but the library asks for its width
            d_vocab=task.n_types,
            n_ctx=task.length,
            act_fn="gelu",
            normalization_type=None,
            attn_only=True,
            seed=config.seed,
        )
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.requires_grad_(False).zero_()
    if config.positions == "queries and keys":
        _hide_positions(model)
    return model


def _hide_positions(model: Any) -> None:
    """Take the positions off again where values and logits are read; queries and keys keep them."""
    positions = model.pos_embed.weight

    def without(stream: Float[Tensor, "batch posn d_model"], hook: Any) -> Tensor:
        return stream - positions[: stream.shape[1]]

    names = [f"blocks.{layer}.attn.v.hook_in" for layer in range(model.cfg.n_layers)]
    for name in (*names, "unembed.hook_in"):
        model.add_hook(name, without, is_permanent=True)


# --- training ---------------------------------------------------------------------------------


def train(
    model: TransformerBridge,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    watch: Int[Tensor, " posn"] | None = None,
    progress: bool | None = None,
) -> training.History:
    """Train the model in place on fresh texts; the history has the metrics of `measure`.

    With ``watch``, one text, it also has ``pattern`` ([layer, head, query, key], of that text) and
    ``OV`` ([layer, head, source, output]).
    """
    config = config or TrainingConfig()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    checked = held_out(task, batch=64)

    def loss(model: Any, step: int) -> Tensor:
        texts = tasks.sample(task, config.batch, training.generator(config.seed, step))
        return tasks.loss(model(texts.tokens), texts)

    return training.train(
        model,
        loss,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, config.rate),
        steps=config.steps,
        clip=1.0,
        metrics=lambda model, step: measure(model, checked) | _watched(model, watch),
        metrics_every=config.log_every,
        label="induction",
        progress=progress,
    )


def held_out(task: Task, batch: int = 256, seed: int = 1_000_003) -> Texts:
    """Texts from a random stream that no training run uses (their seeds are small)."""
    return tasks.sample(task, batch, training.generator(seed))


@torch.no_grad()
def measure(model: Any, texts: Texts) -> dict[str, Any]:
    """What is logged during training.

    Returns:
        ``loss``, ``accuracy``, ``accuracy, ambiguous`` (not a number where no position is),
        ``in-context score`` (numbers); ``previous token``, ``two back``, ``duplicate token``,
        ``induction`` (attention, [layer, head]); ``OV diagonal``, ``OV positive`` ([layer, head]);
        with two layers ``K diagonal`` ([writer, reader]) and ``two-token diagonal`` ([writer to the
        query, writer to the key, reader]).
    """
    logits = model(texts.tokens)
    looks = heads.head_scores(model, texts.tokens)
    own = circuits.heads_of(model)
    W_E, W_U = model.W_E.detach(), model.W_U.detach()
    ov = circuits.full_ov(W_E, own, W_U)
    found: dict[str, Any] = {
        "loss": float(tasks.loss(logits, texts)),
        "accuracy": tasks.accuracy(logits, texts),
        "accuracy, ambiguous": tasks.accuracy(logits, texts, texts.ambiguous),
        "in-context score": tasks.in_context_score(logits, texts),
        **{kind: looks[kind] for kind in LOOKS},
        "OV diagonal": circuits.diagonal_share(ov),
        "OV positive": circuits.positive_ratio(ov),
    }
    if len(own.W_Q) > 1:
        found["K diagonal"] = circuits.diagonal_share(k_composed(W_E, own))
        found["two-token diagonal"] = circuits.diagonal_share(two_token(W_E, own))
    return found


@torch.no_grad()
def _watched(model: Any, text: Int[Tensor, " posn"] | None) -> dict[str, Tensor]:
    if text is None:
        return {}
    ov = circuits.full_ov(model.W_E, circuits.heads_of(model), model.W_U)
    return {"pattern": heads.patterns(model, text[None])[:, 0], "OV": ov}


def k_composed(
    W_E: Float[Tensor, "type d_model"], own: circuits.Head, early: int = 0, late: int = 1
) -> Float[Tensor, "writer reader query before"]:
    """The composed QK circuit of every head of one layer with every head of a later one."""
    return circuits.k_composed_qk(W_E, own[early][:, None], own[late][None])


def two_token(
    W_E: Float[Tensor, "type d_model"], own: circuits.Head, early: int = 0, late: int = 1
) -> Float[Tensor, "for_query for_key reader by_query by_key"]:
    """The QK circuit through both sides, of every pair of heads of one layer, for a later one's."""
    for_query, for_key = own[early][:, None, None], own[early][None, :, None]
    return circuits.both_composed_qk(W_E, for_query, for_key, own[late][None, None])


# --- seeds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One kind of model that is trained for several seeds.

    Attributes:
        name: for the table.
        model: its shape.
        task: what it learns.
    """

    name: str
    model: ModelConfig
    task: Task


VARIANTS = (
    Variant("two layers", ModelConfig(), Task()),
    Variant("one layer", ModelConfig(n_layers=1), Task()),
    Variant("one layer, four heads", ModelConfig(n_layers=1, n_heads=4), Task()),
    Variant("four heads", ModelConfig(n_heads=4), Task()),
    Variant("positions in queries and keys", ModelConfig(positions="queries and keys"), Task()),
    Variant("no token twice in a passage", ModelConfig(), Task(distinct=True)),
    Variant("permuted targets", ModelConfig(), Task(permuted=1)),
)


def make_seeds(
    seeds: int = 8, steps: int = TrainingConfig.steps
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``induction-seeds``: every variant for every seed, at each measurement.

    Columns: ``variant``, ``seed``, ``step``, ``quantity`` (of `measure`; after the last step of
    `causes.summary` as well), ``place`` ("" for a number, "layer.head", "writer.reader", …) and
    ``value``.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    rows: list[tuple] = []
    for variant in VARIANTS:
        for seed in range(seeds):
            rows += _rows(variant, seed, steps)
            print(f"{variant.name}, seed {seed} done", flush=True)
    names = ("variant", "seed", "step", "quantity", "place", "value")
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    about = "Loss, attention and circuits of small attention-only transformers during training"
    return columns, {"about": about, "seeds": list(range(seeds))}


def _rows(variant: Variant, seed: int, steps: int) -> list[tuple]:
    shape = ModelConfig(**{**vars(variant.model), "seed": seed})
    model = build(variant.task, shape)
    history = train(model, variant.task, TrainingConfig(steps=steps, seed=seed))
    rows = [(variant.name, seed, *row) for row in history.rows()]
    if shape.n_layers > 1:
        distinct = replace(variant.task, distinct=True)
        found = causes.summary(model, held_out(variant.task), held_out(distinct))
        rows += [(variant.name, seed, steps, name, "", value) for name, value in found.items()]
    return rows


def along(
    table: Mapping[str, np.ndarray], variant: str, quantity: str, places: Sequence[str] = ("",)
) -> tuple[Int[np.ndarray, " measured"], Float[np.ndarray, "seed measured place"]]:
    """A quantity of the artifact during training, for every seed.

    Returns:
        The steps, and the values.

    Raises:
        ValueError: no such rows.
    """
    rows = (table["variant"] == variant) & (table["quantity"] == quantity)
    rows &= np.isin(table["place"], list(places))
    if not rows.any():
        raise ValueError(f"no rows of {quantity!r} for {variant!r} at {list(places)}")
    seeds, steps = (np.unique(table[name][rows]) for name in ("seed", "step"))
    values = table["value"][rows]
    found = np.stack([values[table["place"][rows] == place] for place in places], -1)
    return steps, found.reshape(len(seeds), len(steps), len(places))
