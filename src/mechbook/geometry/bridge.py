"""The months inside any pretrained model: the literature's 144 prompts, layer by layer, into a results file.

``python -m mechbook.geometry.bridge --model gpt2 --out months.parquet`` writes the table, from a
model that is on this machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import pretrained, training
from mechbook.geometry import circles, spaces, streams
from mechbook.geometry.counts import GROUPS
from mechbook.geometry.interventions import SITES
from mechbook.geometry.spaces import Space
from mechbook.language_model.tokenizer import MONTHS

NUMBERS = tuple(word.capitalize() for word in GROUPS["numbers"])
TEMPLATE = "Let's do some calendar math. {number} months from {month} is"
"""The prompt of Engels et al. (2024)."""

KINDS = ("add", "lerp", "slerp", "angular", "first harmonic", "norm only", "random")


@dataclass(frozen=True)
class Prompts:
    """Prompts as tokens, one row each, grouped by length so that no padding is needed.

    Attributes:
        rows: tokens of each prompt.
        month: place of the month's last token in it.
        item: which month.
        offset: the number.
        answers: the token with which each month begins after a prompt.
    """

    rows: list[list[int]]
    month: Int[Tensor, " prompt"]
    item: Int[Tensor, " prompt"]
    offset: Int[Tensor, " prompt"]
    answers: Int[Tensor, " month"]

    @property
    def answer(self) -> Int[Tensor, " prompt"]:
        """Which month is right."""
        return (self.item + self.offset) % len(self.answers)


def prompts(model: Any, template: str = TEMPLATE) -> Prompts:
    """The 12 × 12 prompts, for a model's tokenizer.

    Args:
        model: a ``TransformerBridge`` with a tokenizer.
        template: with ``{number}`` and ``{month}``.

    Raises:
        ValueError: the template lacks a place, two months begin with one token, or a prompt is
            longer than the model reads.
    """
    if "{number}" not in template or "{month}" not in template:
        raise ValueError(f"the template {template!r} needs {{number}} and {{month}}")
    before = template[: template.index("{month}") + len("{month}")]
    rows, month, item, offset = [], [], [], []
    start = pretrained.beginning(model)
    for j, name in enumerate(MONTHS):
        for i, number in enumerate(NUMBERS, 1):
            text = template.format(number=number, month=name)
            rows.append([start, *_ids(model, text)])
            month.append(len(_ids(model, before.format(number=number, month=name))))
            item.append(j)
            offset.append(i)
    longest = max(map(len, rows))
    if longest > model.cfg.n_ctx:
        raise ValueError(f"a prompt has {longest} tokens; the model reads {model.cfg.n_ctx}")
    answers = _answers(model, template)
    return Prompts(rows, torch.tensor(month), torch.tensor(item), torch.tensor(offset), answers)


def _ids(model: Any, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _answers(model: Any, template: str) -> Int[Tensor, " month"]:
    """The first token of each month where it continues a prompt."""
    text = template.format(number=NUMBERS[0], month=MONTHS[0])
    alone = _ids(model, text)
    found = [_ids(model, f"{text} {month}")[len(alone)] for month in MONTHS]
    if len(set(found)) < len(found):
        raise ValueError(
            "two months begin with one and the same token for this model, so its answers cannot be "
            "told apart; this measurement needs a tokenizer that has the months as tokens"
        )
    return torch.tensor(found)


@torch.no_grad()
def _each_length(found: Prompts) -> list[tuple[Tensor, Tensor]]:
    """The prompts of each length: which they are, and their tokens."""
    lengths = torch.tensor([len(row) for row in found.rows])
    groups = [(lengths == size).nonzero().flatten() for size in lengths.unique().tolist()]
    return [(which, torch.tensor([found.rows[i] for i in which.tolist()])) for which in groups]


def read(model: Any, found: Prompts, site: str) -> Float[Tensor, "depth prompt d_model"]:
    """The stream at the month's token (``item``) or at the last token (``final``), at all depths.

    Raises:
        ValueError: no such site.
    """
    _require_site(site)
    stream = torch.empty(model.cfg.n_layers + 1, len(found.rows), model.cfg.d_model)
    for which, tokens in _each_length(found):
        stream[:, which] = streams.read(model, tokens, _position(found, site, which)).float()
    return stream


def _position(found: Prompts, site: str, which: Tensor) -> Tensor | int:
    return found.month[which] if site == "item" else -1


def _require_site(site: str) -> None:
    if site not in SITES:
        raise ValueError(f"no site {site!r}; there are: {', '.join(SITES)}")


@torch.no_grad()
def said(
    model: Any, found: Prompts, site: str = "final", depth: int = 0, edit: Any = None
) -> Int[Tensor, " prompt"]:
    """Which month the model says, of the twelve; with the stream changed at one place if asked.

    Args:
        model: a ``TransformerBridge``.
        found: the prompts.
        site: where the stream is changed.
        depth: at which depth.
        edit: ``edit(h, which)`` from the stream there and the prompts' numbers to a new stream.
    """
    _require_site(site)
    months = torch.empty(len(found.rows), dtype=torch.long)
    for which, tokens in _each_length(found):

        def change(h: Tensor, which: Tensor = which) -> Tensor:
            return h if edit is None else edit(h, which)

        logits = streams.edited(model, tokens, depth, change, _position(found, site, which))
        months[which] = logits[:, found.answers].argmax(-1)
    return months


# --- the table --------------------------------------------------------------------------------


def measure(
    model: Any,
    *,
    orders: int = 500,
    strength: float = 1.0,
    shifts: Sequence[int] = (1, 3, 5),
    folds: int = 2,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The months of a model by site and depth: circle, probe and interventions.

    Centroids come from the prompts of other offsets than those that are changed (``folds`` parts).

    Returns:
        Columns ``site``, ``depth``, ``quantity``, ``value``, ``hits``, ``total``. Quantities:
        ``first harmonic``, ``its p-value``, ``probe R²``, ``probe R², shuffled`` (mean) and
        ``flips: …`` for each of `KINDS`; ``accuracy`` at depth 0. Hits and total are 0 where the
        value is no share of trials.

    Raises:
        ValueError: as in `prompts`.
    """
    found = prompts(model)
    right = int((said(model, found) == found.answer).sum())
    rows: list[tuple] = [("final", 0, "accuracy", right / len(found.rows), right, len(found.rows))]
    for site in SITES:
        h = read(model, found, site)
        classes = found.item if site == "item" else found.answer
        part = found.offset % folds
        for depth, stream in enumerate(h):
            rows += [(site, depth, *row) for row in _circle(stream, classes, orders, seed)]
            rest = [part != fold for fold in range(folds)]
            classed = [_space(stream[others], classes[others], seed) for others in rest]
            place = _Place(model, found, site, depth, classes, part, classed, seed)
            for kind in KINDS:
                hits, total = place.flips(kind, strength, shifts)
                rows.append((site, depth, f"flips: {kind}", hits / total, hits, total))
    names = ("site", "depth", "quantity", "value", "hits", "total")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


def _circle(stream: Tensor, classes: Tensor, orders: int, seed: int) -> list[tuple]:
    points = spaces.centroids(stream, classes, len(MONTHS)).double().numpy()
    try:
        found = circles.circularity(points, orders=orders, seed=seed)
    except ValueError:  # the last token before the first block is the same in every prompt
        return []
    null = circles.probe_null(points, orders=min(orders, 100), seed=seed)
    return [
        ("first harmonic", found.first, 0, 0),
        ("its p-value", found.p_value, 0, 0),
        ("probe R²", circles.probe_r2(points), 0, 0),
        ("probe R², shuffled", float(null.mean()), 0, 0),
    ]


@dataclass(frozen=True)
class _Place:
    """One site and depth of a model, with what an intervention there needs."""

    model: Any
    found: Prompts
    site: str
    depth: int
    classes: Int[Tensor, " prompt"]
    part: Int[Tensor, " prompt"]
    classed: list[Space | None]
    seed: int

    def changed(self, h: Tensor, which: Tensor, end: Tensor, kind: str, strength: float) -> Tensor:
        """The streams of some prompts after an intervention, with centroids of the other parts."""
        draw = training.generator(self.seed, self.depth)
        changed = h.clone()
        for fold, where in enumerate(self.classed):
            own = (self.part[which] == fold).nonzero().flatten()
            if where is not None and len(own):
                start, stop = self.classes[which[own]], end[which[own]]
                new = spaces.move(kind, h[own].float(), start, stop, where, strength, draw)
                changed[own] = new.to(h.dtype)
        return changed

    def flips(self, kind: str, strength: float, shifts: Sequence[int]) -> tuple[int, int]:
        """Flips to the counterfactual month over all prompts and shifts, and how many there were."""
        hits = 0
        for shift in shifts:
            end = (self.classes + shift) % len(MONTHS)

            def edit(h: Tensor, which: Tensor, end: Tensor = end) -> Tensor:
                return self.changed(h, which, end, kind, strength)

            turn = self.found.offset if self.site == "item" else 0
            now = said(self.model, self.found, self.site, self.depth, edit)
            hits += int((now == (end + turn) % len(MONTHS)).sum())
        return hits, len(shifts) * len(self.found.rows)


def _space(stream: Tensor, classes: Tensor, seed: int) -> Space | None:
    """The classes' space; None where all centroids are one point, and nothing can be moved."""
    means = spaces.centroids(stream, classes, len(MONTHS))
    if not bool((means - means.mean(0)).abs().max() > 1e-6 * means.abs().max()):
        return None
    return spaces.space(means, training.generator(seed))


# --- the results file -------------------------------------------------------------------------


def write(table: dict[str, np.ndarray], path: Path | str, name: str) -> None:
    """Write the table of one model as a parquet file."""
    columns = {"model": np.array([name] * len(table["depth"])), **table}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({key: pa.array(values) for key, values in columns.items()}), path)


def results(path: Path | str) -> dict[str, np.ndarray] | None:
    """The columns of a results file, with ``model``; None where there is no such file.

    Raises:
        ValueError: a file that is no such table.
    """
    file = Path(path)
    if not file.is_file():
        return None
    try:
        table = pq.read_table(file)
        columns = {c: table.column(c).to_numpy(zero_copy_only=False) for c in table.column_names}
        return {c: x.astype(str) if x.dtype == object else x for c, x in columns.items()}
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{file.name} is no table of results; write it again") from error


def report(name: str) -> str:
    """The table of a model in words; one line where there is no model.

    Args:
        name: of the model, such as ``gpt2``, or a local folder.
    """
    try:
        table = measure(pretrained.load(name))
    except ValueError as missing:
        return f"Skipped: {missing}"
    return "\n".join([f"{Path(name).name}: the months in 144 prompts", *lines(table)])


def lines(table: dict[str, np.ndarray]) -> list[str]:
    """The table as lines of text, one for each site and depth."""
    right = table["value"][table["quantity"] == "accuracy"][0]
    told = [f"  right answers among the twelve months: {right:.2f}"]
    for site in SITES:
        for depth in np.unique(table["depth"]):
            here = (table["site"] == site) & (table["depth"] == depth)
            here &= table["quantity"] != "accuracy"
            pairs = zip(table["quantity"][here], table["value"][here], strict=True)
            told.append(f"  {site}, depth {depth}: " + ", ".join(f"{q} {v:.2f}" for q, v in pairs))
    return told


def by_depth(
    table: dict[str, np.ndarray],
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """The flip rates of a table as `months_plots.flips` takes them.

    Returns:
        The depths, and site → kind of intervention → [depth].
    """
    columns = (table[name].tolist() for name in ("site", "quantity", "depth", "value"))
    rate = {
        (site, quantity.removeprefix("flips: "), depth): value
        for site, quantity, depth, value in zip(*columns, strict=True)
        if quantity.startswith("flips: ")
    }
    depths = np.unique(table["depth"])
    kinds = dict.fromkeys(kind for _, kind, _ in rate)
    return depths, {
        site: {kind: np.array([rate[site, kind, d] for d in depths.tolist()]) for kind in kinds}
        for site in SITES
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the months of a model on this machine, and write the results file."""
    parser = argparse.ArgumentParser(prog="mechbook.geometry.bridge", description=main.__doc__)
    parser.add_argument("--model", required=True, help="a model of the hub, or a local folder")
    parser.add_argument("--out", required=True, help="parquet file to write")
    options = parser.parse_args(arguments)
    try:
        table = measure(pretrained.load(options.model))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    write(table, options.out, Path(options.model).name)
    print("\n".join(lines(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
