"""How the transformer compares: probes of its stream, its number line, and attention made uniform."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.weber import bridge, transformer
from mechbook.weber.transformer import Rows, Task

TARGETS = ("m", "n", "n - m", "n + m", "(n - m) / (n + m)")


def targets(given: Rows) -> dict[str, Float[np.ndarray, " batch"]]:
    """What the probes are to tell, see `TARGETS`."""
    m, n = given.m.numpy().astype(float), given.n.numpy().astype(float)
    return dict(zip(TARGETS, (m, n, n - m, n + m, (n - m) / (n + m)), strict=True))


def independent(task: Task, batch: int, seed: int = 2_000_003) -> Rows:
    """Rows whose difference and sum are drawn apart, within what training has shown.

    A sum from twice the lowest mean to twice the highest; a difference that every such sum allows.
    """
    draw = training.generator(seed)
    half = torch.randint(task.low, task.high + 1, (batch,), generator=draw)
    side = torch.randint(2 - task.low, task.low - 1, (batch,), generator=draw)
    return transformer.rows(task, half - side, half + side, draw)


@torch.no_grad()
def streams(
    model: Any, given: Rows, at: Int[Tensor, " batch"] | None = None
) -> dict[str, Float[Tensor, "batch d_model"]]:
    """The stream where the model is asked (or at other positions), after each sublayer, by name."""
    names = {"embedding": "blocks.0.hook_resid_pre"}
    for layer in range(model.cfg.n_layers):
        names[f"attention {layer}"] = f"blocks.{layer}.hook_resid_mid"
        names[f"MLP {layer}"] = f"blocks.{layer}.hook_resid_post"
    _, cache = model.run_with_cache(given.tokens, names_filter=list(names.values()))
    rows, place = torch.arange(len(given.ask)), given.ask if at is None else at
    return {name: cache[hook][rows, place] for name, hook in names.items()}


def probe_table(model: Any, given: Rows, *, shuffled: bool = False) -> dict[str, dict[str, float]]:
    """R² on held-out rows of a linear probe for each target, at each depth where it is asked."""
    wanted = targets(given)
    return {
        depth: {
            name: bridge.probe(stream, value, shuffled=shuffled) for name, value in wanted.items()
        }
        for depth, stream in streams(model, given).items()
    }


# --- the number line --------------------------------------------------------------------------


def number_line(
    model: Any,
    task: Task,
    counts: Sequence[int],
    *,
    each: int = 32,
    depth: str = "MLP 0",
    seed: int = 3_000_003,
) -> Float[Tensor, "count d_model"]:
    """The mean stream at SEP after ``m`` words, for each count: where the network keeps ``m``."""
    found = []
    for index, count in enumerate(counts):
        m = torch.full((each,), int(count))
        given = transformer.rows(task, m, torch.ones_like(m), training.generator(seed, index))
        found.append(streams(model, given, m + 1)[depth].mean(0))
    return torch.stack(found)


def line_fit(line: Float[Tensor, "count d_model"], counts: Sequence[int]) -> dict[str, float]:
    """Correlation of the distances on a number line with those of the counts, on three scales.

    ``linear`` compares with ``|m - m'|``, ``logarithmic`` with ``|log m - log m'|``, ``inverse``
    with ``|1/m - 1/m'|``, which is what the share of one fixed token in an average looks like.
    """
    m = np.asarray(counts, dtype=float)
    upper = np.triu_indices(len(m), 1)
    own = torch.cdist(line.double(), line.double()).numpy()[upper]
    scales = {"linear": m, "logarithmic": np.log(m), "inverse": 1 / m}
    return {
        name: float(np.corrcoef(own, abs(x[:, None] - x)[upper])[0, 1])
        for name, x in scales.items()
    }


# --- causes -----------------------------------------------------------------------------------


def uniform(model: Any, layers: Sequence[int]) -> AbstractContextManager:
    """While this context is open, all heads of some layers attend to all earlier positions alike.

    Raises:
        ValueError: a layer that the model has not.
    """
    if not set(layers) <= set(range(model.cfg.n_layers)):
        raise ValueError(f"layers {list(layers)}; there are {model.cfg.n_layers}, counted from 0")

    def hook(pattern: Tensor, hook: Any) -> Tensor:
        posn = torch.arange(pattern.shape[-1])
        past = (posn <= posn[:, None]).to(pattern)
        return (past / past.sum(-1, keepdim=True)).expand_as(pattern)

    return model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", hook) for layer in layers])


def without_mlp(model: Any, layer: int) -> AbstractContextManager:
    """While this context is open, the MLP of a layer writes nothing.

    Raises:
        ValueError: a layer that the model has not.
    """
    if not 0 <= layer < model.cfg.n_layers:
        raise ValueError(f"layer {layer}; there are {model.cfg.n_layers}, counted from 0")

    def hook(written: Tensor, hook: Any) -> Tensor:
        return torch.zeros_like(written)

    return model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_mlp_out", hook)])


def unevenness(model: Any, given: Rows) -> Float[Tensor, "layer head"]:
    """How unevenly ASK attends to the words of one side, as its coefficient of variation.

    0 where each head attends to all words of a side alike, as an average would.
    """
    from mechbook import heads

    pattern = heads.patterns(model, given.tokens)
    rows, found = torch.arange(len(given.ask)), []
    asked = pattern[:, rows, :, given.ask]  # [batch, layer, head, key]
    for row, m, n in zip(asked, given.m.tolist(), given.n.tolist(), strict=True):
        for side in (row[..., 1 : m + 1], row[..., m + 2 : m + n + 2]):
            found.append(side.std(-1, correction=0) / side.mean(-1))
    return torch.stack(found).mean(0)


def direction(
    stream: Float[Tensor, "batch d_model"], target: Float[np.ndarray, " batch"]
) -> Float[Tensor, " d_model"]:
    """The unit direction in which a target's conditional mean moves (least squares of the stream on it)."""
    centred = torch.tensor(target - target.mean(), dtype=stream.dtype)
    along = centred @ (stream - stream.mean(0))
    return along / along.norm()


@torch.no_grad()
def swapped_odds(
    model: Any,
    given: Rows,
    task: Task,
    direction: Float[Tensor, " d_model"],
    layer: int,
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Log-odds when each row gets, along one direction where it is asked, what the next row has.

    Returns:
        The log-odds after the exchange, and the number of the row that gave.
    """
    donor = torch.arange(len(given.ask)).roll(-1)
    rows = torch.arange(len(given.ask))

    def hook(stream: Tensor, hook: Any) -> Tensor:
        changed = stream.clone()
        here = stream[rows, given.ask]
        gap = (here[donor] - here) @ direction
        changed[rows, given.ask] = here + gap[:, None] * direction
        return changed

    with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_mid", hook)]):
        return transformer.log_odds(model, given, task), donor
