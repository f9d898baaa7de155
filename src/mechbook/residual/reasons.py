"""One small test for each other reason that the notes give for residual connections.

Do-nothing option and refinement: ``train_stack``, ``drop_each_block``. Highway:
``token_accuracy``. Scales: ``stream_scales``. Modular writers: ``write_changes``. Against
recurrent networks: ``longest_chain``, ``parallel_scan``, ``time_layers``.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechbook import training
from mechbook.residual.gradients import Block, DeepTransformer, Placement, random_stack
from mechbook.residual.rotation import Transformer, run

Start = Literal["random", "zero branch", "identity"]
STARTS: tuple[Start, ...] = ("random", "zero branch", "identity")


# --- deep stacks, trained ---------------------------------------------------------------------


@dataclass(frozen=True)
class StackSettings:
    """A deep stack of blocks ``relu(x W_in) W_out`` and its training.

    Attributes:
        skip: ``x + F(x)`` if true, ``F(x)`` if not.
        start: ``random``: He's variance (times 1/depth with a skip); ``zero branch``: the same with
            ``W_out = 0``; ``identity``: each branch starts as the identity, relu(x) − relu(−x).
        lr: learning rate of Adam.
    """

    depth: int = 16
    width: int = 16
    hidden: int = 64
    skip: bool = True
    start: Start = "random"
    steps: int = 300
    batch: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start is {self.start!r}; choose one of {STARTS}")
        if min(self.depth, self.width, self.hidden, self.steps, self.batch) < 1 or self.lr <= 0:
            raise ValueError(f"got {self}; sizes and steps must be at least 1 and lr above 0")
        if self.start == "identity" and self.hidden < 2 * self.width:
            raise ValueError(
                f"hidden is {self.hidden}; the identity needs at least 2 · width = {2 * self.width}"
            )


class StackModel(nn.Module):
    """Stacks of all seeds at once, trainable; the leading axis of each parameter is the seed."""

    def __init__(self, settings: StackSettings, seeds: Sequence[int]):
        super().__init__()
        s = self.settings = settings
        stack = random_stack(
            s.depth, skip=s.skip, gain=s.depth**-0.5 if s.skip else 1.0, width=s.width,
            hidden=s.hidden, seeds=seeds,
        )  # fmt: skip
        W_in, W_out = (w.float().transpose(0, 1).contiguous() for w in (stack.W_in, stack.W_out))
        if s.start == "zero branch":
            W_out = torch.zeros_like(W_out)
        if s.start == "identity":
            W_in, W_out = _identity_branch(W_in, W_out, s.width)
        self.W_in, self.W_out = nn.Parameter(W_in), nn.Parameter(W_out)

    def forward(
        self, x: Float[Tensor, "seed batch width"], *, without: int | None = None
    ) -> Float[Tensor, "seed batch width"]:
        """The output; block ``without`` is passed by."""
        return self.streams(x, without=without)[-1]

    def streams(self, x: Tensor, *, without: int | None = None) -> list[Tensor]:
        """The stream before the first block and after each one."""
        streams = [x]
        for layer in range(self.settings.depth):
            if layer != without:
                branch = (x @ self.W_in[:, layer]).relu() @ self.W_out[:, layer]
                x = x + branch if self.settings.skip else branch
            streams.append(x)
        return streams


def _identity_branch(W_in: Tensor, W_out: Tensor, width: int) -> tuple[Tensor, Tensor]:
    W_in, W_out = W_in.clone(), torch.zeros_like(W_out)
    eye = torch.eye(width)
    W_in[..., :width], W_in[..., width : 2 * width] = eye, -eye
    W_out[..., :width, :], W_out[..., width : 2 * width, :] = eye, -eye
    return W_in, W_out


@dataclass(frozen=True)
class Task:
    """Data and a score for stacks.

    Attributes:
        draw: ``draw(seed, step)`` → inputs ``[batch width]``.
        loss: ``loss(output, input)`` → one value a seed.
        accuracy: share of right answers a seed, where there are right answers.
    """

    draw: Callable[[int, int], Tensor]
    loss: Callable[[Tensor, Tensor], Float[Tensor, " seed"]]
    accuracy: Callable[[Tensor, Tensor], Float[Tensor, " seed"]] | None = None


def identity_task(settings: StackSettings) -> Task:
    """Give back the input: the loss is the squared error over the input's squared size."""

    def loss(output: Tensor, x: Tensor) -> Tensor:
        return (output - x).pow(2).sum((-1, -2)) / x.pow(2).sum((-1, -2))

    return Task(_gaussian_inputs(settings), loss)


def teacher_task(settings: StackSettings, *, n_classes: int = 4, seed: int = 99) -> Task:
    """Say which of the classes a fixed random two-layer network gives to a Gaussian input.

    The classes are read off the first coordinates of the output, as logits.

    Raises:
        ValueError: more classes than coordinates, or fewer than 2.
    """
    if not 2 <= n_classes <= settings.width:
        raise ValueError(f"n_classes is {n_classes}; give 2 to {settings.width} (the width)")
    generator = training.generator(seed)
    first = torch.randn(settings.width, 32, generator=generator)
    second = torch.randn(32, n_classes, generator=generator)

    usual = second.sum(0) * math.sqrt(settings.width / (2 * math.pi))  # so that classes balance

    def labels(x: Tensor) -> Tensor:
        return ((x @ first).relu() @ second - usual).argmax(-1)

    def loss(output: Tensor, x: Tensor) -> Tensor:
        logits = output[..., :n_classes].flatten(0, 1)
        nats = F.cross_entropy(logits, labels(x).flatten(), reduction="none")
        return nats.view(len(x), -1).mean(-1)

    def accuracy(output: Tensor, x: Tensor) -> Tensor:
        return (output[..., :n_classes].argmax(-1) == labels(x)).float().mean(-1)

    return Task(_gaussian_inputs(settings), loss, accuracy)


def _gaussian_inputs(settings: StackSettings) -> Callable[[int, int], Tensor]:
    def draw(seed: int, step: int) -> Tensor:
        generator = training.generator(seed, step)
        return torch.randn(settings.batch, settings.width, generator=generator)

    return draw


@dataclass(frozen=True)
class Trained:
    """A trained stack of several seeds.

    Attributes:
        settings: what was trained.
        model: the module.
        task: what it was trained on.
        x: held-out inputs.
        loss: training loss.
        final: held-out loss after training.
    """

    settings: StackSettings
    model: StackModel
    task: Task
    x: Float[Tensor, "seed batch width"]
    loss: Float[np.ndarray, "step seed"]
    final: Float[np.ndarray, " seed"]


def train_stack(
    settings: StackSettings,
    task: Callable[[StackSettings], Task],
    *,
    seeds: Sequence[int] = range(5),
) -> Trained:
    """Train one stack a seed with Adam, and score it on fresh inputs.

    Raises:
        ValueError: no seed.
        TrainingError: the loss became infinite or not a number.
    """
    model, job = StackModel(settings, seeds), task(settings)

    def batch(step: int) -> Tensor:
        return torch.stack([job.draw(seed, step) for seed in seeds])

    history = training.train(
        model,
        lambda m, step: job.loss(m(batch(step)), batch(step)),
        optimizer=torch.optim.Adam(model.parameters(), lr=settings.lr),
        steps=settings.steps,
        clip=1.0,
        progress=False,
    )
    x = torch.cat([batch(10**6 + i) for i in range(8)], dim=1)
    with torch.no_grad():
        final = job.loss(model(x), x).numpy()
    return Trained(settings, model, job, x, history.loss, final)


def running_mean(
    loss: Float[np.ndarray, "step seed"], window: int = 10
) -> Float[np.ndarray, "window seed"]:
    """Each value averaged with the ``window - 1`` before it; the first ones are left out.

    Raises:
        ValueError: the window is below 1 or longer than the curve.
    """
    if not 1 <= window <= len(loss):
        raise ValueError(f"window is {window}; give 1 to {len(loss)} (the number of steps)")
    return np.lib.stride_tricks.sliding_window_view(loss, window, axis=0).mean(-1)


def linear_baseline(
    settings: StackSettings, task: Callable[[StackSettings], Task], *, steps: int = 300
) -> float:
    """Accuracy of the best linear map on the same task: what needs no depth at all.

    Raises:
        ValueError: the task has no right answers.
    """
    job = task(settings)
    if job.accuracy is None:
        raise ValueError("this task has no accuracy; give teacher_task")
    linear = nn.Linear(settings.width, settings.width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    x = torch.cat([job.draw(0, step) for step in range(100)])[None]
    training.train(
        linear,
        lambda m, step: job.loss(m(x), x).mean(),
        optimizer=torch.optim.Adam(linear.parameters(), lr=3e-2),
        steps=steps,
        progress=False,
    )
    with torch.no_grad():
        fresh = torch.cat([job.draw(1, step) for step in range(100)])[None]
        return float(job.accuracy(linear(fresh), fresh).mean())


@torch.no_grad()
def drop_each_block(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of the whole stack (by seed), and with each block passed by (block × seed).

    Raises:
        ValueError: the task has no right answers.
    """
    if trained.task.accuracy is None:
        raise ValueError("this task has no accuracy; train on teacher_task")
    model, x, accuracy = trained.model, trained.x, trained.task.accuracy
    dropped = [accuracy(model(x, without=layer), x) for layer in range(model.settings.depth)]
    return accuracy(model(x), x).numpy(), torch.stack(dropped).numpy()


@torch.no_grad()
def early_accuracy(trained: Trained) -> np.ndarray:
    """Accuracy when the answer is read off the stream after 0, 1, … blocks (block × seed).

    Raises:
        ValueError: the task has no right answers.
    """
    if trained.task.accuracy is None:
        raise ValueError("this task has no accuracy; train on teacher_task")
    streams = trained.model.streams(trained.x)
    return torch.stack([trained.task.accuracy(s, trained.x) for s in streams]).numpy()


@torch.no_grad()
def relative_updates(trained: Trained) -> np.ndarray:
    """How much each block changes its input: ‖y − x‖ / ‖x‖, averaged (block × seed)."""
    streams = trained.model.streams(trained.x)
    return torch.stack(
        [
            ((y - x).norm(dim=-1) / x.norm(dim=-1).clamp(min=1e-12)).mean(-1)
            for x, y in itertools.pairwise(streams)
        ]
    ).numpy()


# --- the highway ------------------------------------------------------------------------------


def token_accuracy(
    *,
    skip: bool,
    depth: int = 16,
    seeds: Sequence[int] = range(5),
    shuffled: bool = False,
    batch: int = 128,
    posn: int = 16,
) -> Float[np.ndarray, "depth_plus_1 seed"]:
    """How often a linear probe names the token at its own position, after each block.

    Freshly initialized pre-norm transformers (width 32, 32 tokens). The probe is ridge regression
    to one-hot vectors, fitted on half of the sequences and scored on the other half.

    Args:
        skip: with or without the identity path.
        depth: number of blocks.
        seeds: one network each.
        shuffled: fit on shuffled tokens instead, for chance level.
        batch: sequences.
        posn: tokens a sequence.

    Raises:
        ValueError: no seed, or fewer than 2 sequences.
    """
    if not seeds or batch < 2:
        raise ValueError(f"got {len(seeds)} seeds and {batch} sequences; give ≥ 1 and ≥ 2")
    columns = [_probe_one(skip, depth, seed, shuffled, batch, posn) for seed in seeds]
    return np.array(columns).T


@torch.no_grad()
def _probe_one(
    skip: bool, depth: int, seed: int, shuffled: bool, batch: int, posn: int
) -> list[float]:
    with training.seeded(seed):
        model = DeepTransformer(depth, "pre", skip=skip)
        tokens = torch.randint(32, (batch, posn))
        labels = tokens.flatten()[torch.randperm(tokens.numel())] if shuffled else tokens.flatten()
    streams = [F.layer_norm(x, x.shape[-1:]).flatten(0, 1) for x in model.streams(tokens)]
    half = (batch // 2) * posn
    return [_ridge_accuracy(x, labels, half) for x in streams]


def _ridge_accuracy(x: Tensor, labels: Tensor, half: int) -> float:
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    train, target = x[:half], F.one_hot(labels[:half], 32).double()
    gram = train.T @ train + 1e-3 * torch.eye(x.shape[1], dtype=x.dtype)
    guess = (x[half:] @ torch.linalg.solve(gram, train.T @ target)).argmax(-1)
    return float((guess == labels[half:]).double().mean())


# --- scales -----------------------------------------------------------------------------------


@torch.no_grad()
def stream_scales(
    placement: Placement, *, skip: bool = True, depth: int = 32, seeds: Sequence[int] = range(5)
) -> Float[np.ndarray, "depth_plus_1 seed"]:
    """Root mean square of the stream's coordinates before and after each block, untrained.

    Raises:
        ValueError: no seed, or as ``DeepTransformer``.
    """
    if not seeds:
        raise ValueError("seeds is empty; give at least one")
    columns = []
    for seed in seeds:
        with training.seeded(seed):
            model = DeepTransformer(depth, placement, skip=skip)
            tokens = torch.randint(32, (8, 16))
        columns.append([float(x.pow(2).mean().sqrt()) for x in model.streams(tokens)])
    return np.array(columns).T


def growth_exponent(scales: Float[np.ndarray, "depth_plus_1 seed"]) -> Float[np.ndarray, " seed"]:
    """Slope of log scale against log depth, over the second half of the depth.

    Raises:
        ValueError: fewer than four blocks, or scales that are not positive and finite.
    """
    if len(scales) < 5 or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(
            f"scales have {len(scales)} rows; give at least 5, all positive and finite"
        )
    layers = np.arange(len(scales) // 2, len(scales))
    return np.polyfit(np.log(layers), np.log(scales[layers]), 1)[0]


# --- modular writers --------------------------------------------------------------------------


def ablate(model: Transformer, writer: str) -> Transformer:
    """The model without one writer: a head (``L0H1``) or an MLP (``L0 mlp``).

    Raises:
        ValueError: the model has no such writer.
    """
    t = dict(model.tensors)
    heads = len(t["blocks.0.attn.W_O"])
    names = [f"L{i}H{h}" for i in range(model.n_layers) for h in range(heads)]
    if writer in names:
        layer, head = divmod(names.index(writer), heads)
        key = f"blocks.{layer}.attn.W_O"
        t[key] = t[key].clone()
        t[key][head] = 0
        return replace(model, tensors=t)
    mlps = [] if model.attn_only else [f"L{i} mlp" for i in range(model.n_layers)]
    if writer not in mlps:
        raise ValueError(f"the model has no writer {writer!r}; it has {names + mlps}")
    for key in (f"blocks.{mlps.index(writer)}.mlp.{w}" for w in ("W_out", "b_out")):
        t[key] = torch.zeros_like(t[key])
    return replace(model, tensors=t)


def write_changes(
    model: Transformer,
    tokens: Int[Tensor, "batch posn"],
    writer: str,
    *,
    parallel: bool = False,
) -> dict[str, float]:
    """How much each other write changes when one writer is taken out: ‖change‖ / ‖write‖.

    Args:
        model: a transformer.
        tokens: its input.
        writer: the one to take out, see ``ablate``.
        parallel: attention and MLP of a layer read the same stream, see
            ``run``.

    Raises:
        ValueError: no such writer, or bad tokens.
    """
    before = run(model, tokens, parallel=parallel).writes
    after = run(ablate(model, writer), tokens, parallel=parallel).writes
    return {
        name: float((after[name] - write).norm() / write.norm())
        for name, write in before.items()
        if name != writer and float(write.norm()) > 0
    }


# --- steps that wait for each other -----------------------------------------------------------


def longest_chain(output: Tensor) -> int:
    """Number of operations on the longest path of the computation that made ``output``.

    Operations on that path have to wait for each other, however many processors there are. Read
    from the graph that autograd recorded, so some input must require a gradient.

    Raises:
        ValueError: no computation was recorded.
    """
    if output.grad_fn is None:
        raise ValueError("output has no recorded computation; let an input require a gradient")
    depth: dict[object, int] = {}
    pending: list[object] = [output.grad_fn]
    while pending:
        node = pending[-1]
        below = [n for n, _ in node.next_functions if n is not None]  # type: ignore[attr-defined]
        missing = [n for n in below if n not in depth]
        if missing:
            pending.extend(missing)
        else:
            depth[pending.pop()] = 1 + max((depth[n] for n in below), default=0)
    return depth[output.grad_fn]


@dataclass(frozen=True)
class Chains:
    """Longest chains of operations for sequences of several lengths."""

    lengths: tuple[int, ...]
    rnn: Int[np.ndarray, " length"]
    attention: Int[np.ndarray, " length"]
    generation: Int[np.ndarray, " length"]


def count_chains(
    lengths: Sequence[int] = (4, 8, 16, 32, 64), *, d_model: int = 8, seed: int = 0
) -> Chains:
    """Longest chains of a recurrent cell, of a transformer block, and of a block that generates.

    The cell runs along the sequence; the generating block makes the sequence position by position
    from its own output.

    Raises:
        ValueError: no length, or one below 1.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths are {tuple(lengths)}; give one or more, each at least 1")
    with training.seeded(seed):
        cell, block = nn.RNNCell(d_model, d_model), Block(d_model, 2, "pre")
        inputs = torch.randn(1, max(lengths), d_model)
    counts = [
        (
            longest_chain(_recur(cell, inputs[:, :length])),
            longest_chain(block(inputs[:, :length])),
            longest_chain(_generate(block, inputs[:, :1], length)),
        )
        for length in lengths
    ]
    rnn, attention, generation = np.array(counts).T
    return Chains(tuple(lengths), rnn, attention, generation)


def _recur(cell: nn.RNNCell, x: Tensor) -> Tensor:
    state = torch.zeros(len(x), cell.hidden_size)
    for t in range(x.shape[1]):
        state = cell(x[:, t], state)
    return state


def _generate(block: Block, start: Tensor, length: int) -> Tensor:
    sequence = start
    for _ in range(length):
        sequence = torch.cat([sequence, block(sequence)[:, -1:]], dim=1)
    return sequence


def sequential_scan(
    a: Float[Tensor, posn * d], b: Float[Tensor, posn * d]
) -> Float[Tensor, posn * d]:
    """The recurrence ``h_t = a_t h_(t−1) + b_t`` with ``h_(−1) = 0``, one step after the other."""
    _require_same_shape(a, b)
    h, states = torch.zeros_like(b[0]), []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


def parallel_scan(
    a: Float[Tensor, posn * d], b: Float[Tensor, posn * d]
) -> tuple[Float[Tensor, posn * d], int]:
    """The same recurrence in ⌈log₂ posn⌉ rounds, each of which works on all positions at once.

    Two steps in a row are one step again: ``h → a₂(a₁h + b₁) + b₂ = (a₂a₁)h + (a₂b₁ + b₂)``. Round
    by round every position takes in a stretch of twice the length.

    Returns:
        All states, and the number of rounds.

    Raises:
        ValueError: the shapes differ or there is no position.

    Source: W. D. Hillis, G. L. Steele, "Data Parallel Algorithms" (1986).
    """
    _require_same_shape(a, b)
    a, b, reach, rounds = a.clone(), b.clone(), 1, 0
    while reach < len(b):
        b = torch.cat([b[:reach], a[reach:] * b[:-reach] + b[reach:]])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach, rounds = 2 * reach, rounds + 1
    return b, rounds


def _require_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim < 1 or len(a) < 1:
        raise ValueError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; give both [posn, …] with posn ≥ 1"
        )


@dataclass(frozen=True)
class Times:
    """Seconds for one forward and backward pass, by sequence length (median of repeats)."""

    lengths: tuple[int, ...]
    rnn: Float[np.ndarray, " length"]
    attention: Float[np.ndarray, " length"]


def time_layers(
    lengths: Sequence[int] = (32, 128, 512, 1024), *, d_model: int = 64, repeats: int = 5
) -> Times:
    """One layer of a GRU and one of attention, same width, same sequences, on this machine.

    Raises:
        ValueError: no length or no repeat.
    """
    if not lengths or min(lengths) < 1 or repeats < 1:
        raise ValueError(f"lengths {tuple(lengths)}, repeats {repeats}; give at least 1 of each")
    with training.seeded(0):
        gru = nn.GRU(d_model, d_model, batch_first=True)
        block = Block(d_model, 4, "none", skip=False)
        x = torch.randn(4, max(lengths), d_model)
    rnn, attention = (
        np.array([_seconds(layer, x[:, :length], repeats) for length in lengths])
        for layer in (lambda y: gru(y)[0], block.attention)
    )
    return Times(tuple(lengths), rnn, attention)


def _seconds(layer: Callable[[Tensor], Tensor], x: Tensor, repeats: int) -> float:
    layer(x).sum().backward()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        layer(x).sum().backward()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
