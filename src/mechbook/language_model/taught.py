"""What if the text asked for it? The trained model goes on for a little, with text that is said twice.

In most windows of books little is gained by looking for an earlier occurrence. Here the trained model
reads windows that begin again after a while, for a few hundred updates, and heads are watched: does
one come to look at what followed before? After how long a window begins again is drawn for each, or
else a head that looks a fixed distance back would do. The control is the same training on windows as
they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import artifacts, training
from mechbook.language_model import corpus, induction, score, train, weights
from mechbook.language_model.corpus import Windows
from mechbook.language_model.model import ModelConfig

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAME = "language-model-taught"
RUNS = ("said twice", "as it is")


@dataclass(frozen=True)
class TaughtConfig:
    """How the trained model goes on (AdamW without weight decay, constant rate after a warmup).

    Attributes:
        steps: updates.
        batch: windows an update.
        twice: how many of these begin again.
        shortest: tokens after which a window begins again, at least.
        longest: at most.
        learning_rate: a small one, so that what was learned before stays.
        warmup: updates until it.
        measure_every: updates from one measurement to the next.
    """

    steps: int = 300
    batch: int = 16
    twice: int = 12
    shortest: int = 16
    longest: int = 64
    learning_rate: float = 3e-4
    warmup: int = 20
    measure_every: int = 25


def said_again(
    windows: Int[Tensor, "batch length+1"], period: Int[Tensor, " batch"]
) -> Int[Tensor, "batch length+1"]:
    """Windows of which only the first tokens are kept, said again and again until they are full.

    Args:
        windows: rows that begin with the end-of-text mark.
        period: how many tokens are kept, for each row.
    """
    place = torch.arange(windows.shape[1] - 1) % period[:, None]
    return torch.cat([windows[:, :1], windows[:, 1:].gather(1, place)], 1)


def go_on(
    model: TransformerBridge,
    books: Windows,
    held_out: Int[Tensor, "window length+1"],
    texts: Mapping[str, Int[Tensor, "text posn"]],
    *,
    twice: bool,
    seed: int = 0,
    config: TaughtConfig | None = None,
) -> training.History:
    """Train the model further, in place.

    Args:
        model: the trained model.
        books: windows to read.
        held_out: windows of unread books, for the loss on text as it is.
        texts: random text, "repeated" and "permuted", see `induction`.
        twice: whether most windows are said twice.
        seed: of the order of the windows.
        config: how.

    Returns:
        A history with ``loss on books``, ``gain``, ``gain, permuted`` (nats) and ``induction``
        (attention, [layer, head]).
    """
    config = config or TaughtConfig()
    optimizer = torch.optim.AdamW(
        model.original_model.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / config.warmup, 1.0)
    )

    def loss(model: Any, step: int) -> Tensor:
        rows = books.batch(step, config.batch, seed)
        if twice:
            draw = training.generator(seed, step)
            sizes = (config.shortest, config.longest + 1, (config.twice,))
            period = torch.randint(*sizes, generator=draw)
            rows = torch.cat([said_again(rows[: config.twice], period), rows[config.twice :]])
        return train.next_token_loss(model, rows)

    return training.train(
        model,
        loss,
        optimizer=optimizer,
        scheduler=rate,
        steps=config.steps,
        clip=1.0,
        metrics=lambda model, step: _measured(model, held_out, texts),
        metrics_every=config.measure_every,
        label=RUNS[0] if twice else RUNS[1],
        unit="tokens",
        units_a_step=config.batch * books.length,
    )


def _measured(
    model: Any,
    held_out: Int[Tensor, "window length+1"],
    texts: Mapping[str, Int[Tensor, "text posn"]],
) -> dict[str, Any]:
    return {
        "loss on books": float(score.token_losses(model, held_out).mean()),
        "gain": induction.gain(model, texts["repeated"]).value,
        "gain, permuted": induction.gain(model, texts["permuted"]).value,
        "induction": induction.head_scores(model, texts["repeated"]).induction,
    }


def make_taught(text: str, seeds: int = 2) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Recipe: the trained model goes on with text said twice, and with text as it is.

    Columns: ``run``, ``seed``, ``step``, ``quantity`` (see `go_on`), ``place`` ("" or "layer.head"),
    ``value``.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    tokenizer = weights.load_tokenizer()
    books, unread = (_windows(tokenizer, text, split) for split in corpus.SPLITS)
    rows: list[tuple] = []
    for run in RUNS:
        for seed in range(seeds):
            model, texts = weights.load(), random_texts(tokenizer)
            twice = run == RUNS[0]
            history = go_on(model, books, unread.evenly(64), texts, twice=twice, seed=seed)
            rows += [(run, seed, *row) for row in history.rows()]
            print(f"{run}, seed {seed} done", flush=True)
    names = ("run", "seed", "step", "quantity", "place", "value")
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    about = (
        "The language model trained further on windows said twice, and as they are: heads, gains"
    )
    inputs = {weights.NAME: artifacts.checksum(weights.NAME)}
    return columns, {"about": about, "seeds": list(range(seeds)), "inputs": inputs}


def random_texts(tokenizer: Any, count: int = 16) -> dict[str, Int[Tensor, "text posn"]]:
    """Random text said twice, and with the second half in another order."""
    draw, allowed = training.generator(0), induction.whole_words(tokenizer)
    repeated = induction.repeated(tokenizer.get_vocab_size(), induction.HALF, count, draw, allowed)
    return {"repeated": repeated, "permuted": induction.permuted(repeated, draw)}


def _windows(tokenizer: Any, text: str, split: str, books: int = 14) -> Windows:
    """Windows of some books at even distances: all of the training text is more than is read."""
    opened = list(corpus.open_text(text, split))
    which = np.linspace(0, len(opened) - 1, min(books, len(opened))).round().astype(int)
    stream = corpus.encode(tokenizer, (opened[i].text for i in which))
    return corpus.windows(tokenizer, stream, ModelConfig().n_ctx)


def along(
    table: Mapping[str, np.ndarray], run: str, quantity: str
) -> tuple[Int[np.ndarray, " measured"], Float[np.ndarray, "seed measured"]]:
    """A quantity of the artifact during a run, for every seed; of several places the greatest.

    Raises:
        ValueError: no such rows.
    """
    rows = (table["run"] == run) & (table["quantity"] == quantity)
    if not rows.any():
        raise ValueError(f"no rows of {quantity!r} for {run!r}; runs are {', '.join(RUNS)}")
    seeds, steps = (np.unique(table[name][rows]) for name in ("seed", "step"))
    values = table["value"][rows].reshape(len(seeds), len(steps), -1)
    return steps, values.max(-1)
