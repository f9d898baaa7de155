"""The exercises of the chapter on the residual stream.

Everything is in the row convention: a vector is a row, a matrix acts from the right. Specifications
work in float64 and state properties; they never call a solution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook.exercises import (
    Exercise,
    Hint,
    Wrong,
    distinct_sizes,
    draw,
    equal,
    require_shape,
)

# --- 1. the stream is a sum -------------------------------------------------------------------


def stream_after(
    embedding: Float[Tensor, " d_model"], writes: Float[Tensor, "layer d_model"], depth: int
) -> Float[Tensor, " d_model"]:
    """The stream after the first `depth` layers."""
    raise NotImplementedError


def stream_after_solution(
    embedding: Float[Tensor, " d_model"], writes: Float[Tensor, "layer d_model"], depth: int
) -> Float[Tensor, " d_model"]:
    """The embedding plus all that was written so far."""
    return embedding + writes[:depth].sum(0)


def _stream_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    layers, width = distinct_sizes(2, generator, low=3)
    embedding, writes = (draw(*shape, generator=generator) for shape in ((width,), (layers, width)))
    start = candidate(embedding, writes, 0)
    require_shape(start, width)
    if not equal(start, embedding):
        raise Hint("After 0 layers nothing is written yet. What is in the stream then?")
    step = candidate(embedding, writes, 2) - candidate(embedding, writes, 1)
    if not equal(step, writes[1]):
        raise Hint(
            "From depth 1 to depth 2 the stream should grow by one write. Is yours replaced?"
        )
    final = candidate(embedding, writes, layers)
    if not equal(final - writes.sum(0), embedding):
        raise Hint("Take every write away from the final stream: the embedding should be left.")


def _off_by_one(embedding: Tensor, writes: Tensor, depth: int) -> Tensor:
    return embedding + writes[: depth + 1].sum(0)


def _overwritten(embedding: Tensor, writes: Tensor, depth: int) -> Tensor:
    return writes[depth - 1] if depth else embedding


# --- 2. heads are summed ----------------------------------------------------------------------


def attention_write(
    z: Float[Tensor, "posn head d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    b_O: Float[Tensor, " d_model"],
) -> Float[Tensor, "posn d_model"]:
    """What an attention layer adds to the stream."""
    raise NotImplementedError


def attention_write_solution(
    z: Float[Tensor, "posn head d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    b_O: Float[Tensor, " d_model"],
) -> Float[Tensor, "posn d_model"]:
    """Each head through its own W_O, all of them added, and the layer's bias once."""
    return torch.einsum("phe,hed->pd", z, W_O) + b_O


def _heads_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    posn, heads, d_head, width = distinct_sizes(4, generator)
    z, W_O = (
        draw(posn, heads, d_head, generator=generator),
        draw(heads, d_head, width, generator=generator),
    )
    b_O = draw(width, generator=generator)
    silent = candidate(torch.zeros_like(z), W_O, b_O)
    require_shape(silent, posn, width)
    if not equal(silent, b_O.expand(posn, width)):
        raise Hint("With all heads silent the layer should write b_O, once. Whose bias is it?")
    alone = torch.zeros_like(z)
    alone[:, 0] = z[:, 0]
    if not equal(candidate(alone, W_O, b_O) - b_O, z[:, 0] @ W_O[0]):
        raise Hint("With one head speaking, the layer should write that head's vector in full.")
    rows, matrix = z.reshape(posn, -1), W_O.reshape(-1, width)
    if not equal(candidate(z, W_O, b_O) - b_O, rows @ matrix):
        raise Hint("It should equal: concatenate the heads, multiply by one tall W_O.")


def _bias_for_each_head(z: Tensor, W_O: Tensor, b_O: Tensor) -> Tensor:
    return (torch.einsum("phe,hed->phd", z, W_O) + b_O).sum(1)


def _mean_of_heads(z: Tensor, W_O: Tensor, b_O: Tensor) -> Tensor:
    return torch.einsum("phe,hed->phd", z, W_O).mean(1) + b_O


# --- 3. the logit lens ------------------------------------------------------------------------


def logit_lens(
    stream: Float[Tensor, "posn d_model"],
    gain: Float[Tensor, " d_model"],
    W_U: Float[Tensor, "d_model word"],
    eps: float,
) -> Float[Tensor, "posn word"]:
    """Decode a stream with the model's own final RMSNorm and unembedding."""
    raise NotImplementedError


def logit_lens_solution(
    stream: Float[Tensor, "posn d_model"],
    gain: Float[Tensor, " d_model"],
    W_U: Float[Tensor, "d_model word"],
    eps: float,
) -> Float[Tensor, "posn word"]:
    """Divide each position by its own root mean square, scale by the gain, unembed."""
    scale = (stream.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (stream / scale * gain) @ W_U


def _lens_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    posn, width, n_words = distinct_sizes(3, generator)
    stream, W_U = (
        draw(posn, width, generator=generator),
        draw(width, n_words, generator=generator),
    )
    gain, eps = 0.5 + draw(width, generator=generator).abs(), 1e-9
    logits = candidate(stream, gain, W_U, eps)
    require_shape(logits, posn, n_words)
    if not equal(candidate(10 * stream, gain, W_U, eps), logits):
        raise Hint("A ten times longer stream should give the same logits: what does the norm do?")
    louder = stream.clone()
    louder[0] *= 10
    if not equal(candidate(louder, gain, W_U, eps)[1:], logits[1:]):
        raise Hint("One position should not change another's logits. Over which axis is your mean?")
    if not equal(candidate(stream, 2 * gain, W_U, eps), 2 * logits):
        raise Hint("Twice the gain should give twice the logits. Where does the gain come in?")
    norm = torch.nn.functional.rms_norm(stream, (width,), gain, eps)
    if not equal(logits, norm @ W_U):
        raise Hint("Compare with rms_norm(stream) @ W_U, torch's own norm with this gain and eps.")


def _lens_without_norm(stream: Tensor, gain: Tensor, W_U: Tensor, eps: float) -> Tensor:
    return (stream * gain) @ W_U


def _norm_over_positions(stream: Tensor, gain: Tensor, W_U: Tensor, eps: float) -> Tensor:
    return (stream / (stream.pow(2).mean() + eps).sqrt() * gain) @ W_U


def _lens_without_gain(stream: Tensor, gain: Tensor, W_U: Tensor, eps: float) -> Tensor:
    return torch.nn.functional.rms_norm(stream, stream.shape[-1:], None, eps) @ W_U


# --- 4. direct logit attribution --------------------------------------------------------------


def attribute(
    writes: Float[Tensor, "component posn d_model"],
    gain: Float[Tensor, " d_model"],
    W_U: Float[Tensor, "d_model word"],
    word: Int[Tensor, " posn"],
    eps: float,
) -> Float[Tensor, "component posn"]:
    """What each component adds to the logit of `word`, with the final norm's scale held fixed."""
    raise NotImplementedError


def attribute_solution(
    writes: Float[Tensor, "component posn d_model"],
    gain: Float[Tensor, " d_model"],
    W_U: Float[Tensor, "d_model word"],
    word: Int[Tensor, " posn"],
    eps: float,
) -> Float[Tensor, "component posn"]:
    """All components share the scale of their sum, the final stream."""
    scale = (writes.sum(0).pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (writes / scale * gain * W_U.T[word]).sum(-1)


def _attribution_specification(
    candidate: Callable[..., Tensor], generator: torch.Generator
) -> None:
    parts, posn, width, n_words = distinct_sizes(4, generator)
    writes = draw(parts, posn, width, generator=generator)
    gain, eps = 0.5 + draw(width, generator=generator).abs(), 1e-9
    W_U = draw(width, n_words, generator=generator)
    word = torch.randint(n_words, (posn,), generator=generator)
    found = candidate(writes, gain, W_U, word, eps)
    require_shape(found, parts, posn)
    louder = writes.clone()
    louder[:, 0] *= 3
    if not equal(candidate(louder, gain, W_U, word, eps), found):
        raise Hint(
            "A final stream three times as long at one position should change nothing there."
        )
    norm = torch.nn.functional.rms_norm(writes.sum(0), (width,), gain, eps)
    logit = (norm @ W_U).gather(-1, word[:, None])[:, 0]
    if not equal(found.sum(0), logit):
        raise Hint(
            "The contributions should add up to the logit. Do all share one scale, and whose?"
        )


def _own_scales(writes: Tensor, gain: Tensor, W_U: Tensor, word: Tensor, eps: float) -> Tensor:
    scale = (writes.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (writes / scale * gain * W_U.T[word]).sum(-1)


def _no_scale(writes: Tensor, gain: Tensor, W_U: Tensor, word: Tensor, eps: float) -> Tensor:
    return (writes * gain * W_U.T[word]).sum(-1)


# --- 5. rotating readers and writers ----------------------------------------------------------

Pair = tuple[Tensor, Tensor]


def change_basis(
    W_in: Float[Tensor, "d_model d_mlp"],
    W_out: Float[Tensor, "d_mlp d_model"],
    R: Float[Tensor, "d_model d_model"],
) -> tuple[Float[Tensor, "d_model d_mlp"], Float[Tensor, "d_mlp d_model"]]:
    """The new reader and writer of an MLP whose stream `x` became `x @ R` (R invertible)."""
    raise NotImplementedError


def change_basis_solution(
    W_in: Float[Tensor, "d_model d_mlp"],
    W_out: Float[Tensor, "d_mlp d_model"],
    R: Float[Tensor, "d_model d_model"],
) -> tuple[Float[Tensor, "d_model d_mlp"], Float[Tensor, "d_mlp d_model"]]:
    """In rows: a reader undoes R from the left, a writer applies it from the right."""
    return torch.linalg.inv(R) @ W_in, W_out @ R


def _basis_specification(candidate: Callable[..., Pair], generator: torch.Generator) -> None:
    width, d_mlp = distinct_sizes(2, generator, low=3)
    W_in, W_out = draw(width, d_mlp, generator=generator), draw(d_mlp, width, generator=generator)
    rotation = torch.linalg.qr(draw(width, width, generator=generator)).Q
    stretch = rotation * torch.linspace(1, 2, width, dtype=torch.float64)
    x, hidden = draw(3, width, generator=generator), draw(3, d_mlp, generator=generator)
    for R, words in ((rotation, ""), (stretch, "Does yours hold for every invertible R, or only")):
        reader, writer = candidate(W_in, W_out, R)
        require_shape(reader, width, d_mlp)
        require_shape(writer, d_mlp, width)
        if not equal(hidden @ writer, hidden @ W_out @ R):
            raise Hint("What is written should arrive as (hidden @ W_out) @ R, in the new basis.")
        if not equal((x @ R) @ reader, x @ W_in):
            more = f" {words} where Rᵀ undoes it?" if words else " On which side, and undoing R?"
            raise Hint("From x @ R the reader should get what it got from x." + more)


def _same_side(W_in: Tensor, W_out: Tensor, R: Tensor) -> Pair:
    return R @ W_in, W_out @ R


def _transposed(W_in: Tensor, W_out: Tensor, R: Tensor) -> Pair:
    return R.T @ W_in, W_out @ R


def _reader_only(W_in: Tensor, W_out: Tensor, R: Tensor) -> Pair:
    return torch.linalg.inv(R) @ W_in, W_out


# --- 6. the identity path ---------------------------------------------------------------------

Branch = Callable[[Tensor], Tensor]


def stack_jacobian(
    branches: list[Callable[[Tensor], Tensor]], x: Float[Tensor, " d_model"]
) -> Float[Tensor, "d_out d_in"]:
    """The derivative of x → x + F₁(x) → … as a product of (I + J); [i, j] is ∂yᵢ/∂xⱼ."""
    raise NotImplementedError


def stack_jacobian_solution(
    branches: list[Callable[[Tensor], Tensor]], x: Float[Tensor, " d_model"]
) -> Float[Tensor, "d_out d_in"]:
    """The later factor from the left, each at the stream that its branch saw."""
    product = torch.eye(len(x), dtype=x.dtype)
    for branch in branches:
        J = torch.autograd.functional.jacobian(branch, x)
        product = (torch.eye(len(x), dtype=x.dtype) + J) @ product
        x = x + branch(x)
    return product


def _jacobian_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (width,) = distinct_sizes(1, generator, low=3)
    matrices = 0.7 * draw(3, width, width, generator=generator)
    x = draw(width, generator=generator)
    silent = candidate([torch.zeros_like, torch.zeros_like], x)
    require_shape(silent, width, width)
    if not equal(silent, torch.eye(width, dtype=x.dtype)):
        raise Hint("Branches that write nothing pass the gradient on unchanged: I, not 0.")
    linear = [_branch(W) for W in matrices[:2]]
    eye = torch.eye(width, dtype=x.dtype)
    if not equal(candidate(linear, x), (eye + matrices[1]) @ (eye + matrices[0])):
        raise Hint(
            "Which factor stands on the left? Follow a small change of x through two layers."
        )
    curved = [_branch(W, torch.tanh) for W in matrices]
    if not equal(candidate(curved, x) @ matrices[0, 0], _slope(curved, x, matrices[0, 0])):
        raise Hint("For curved branches it fails: at which stream must each J be taken?")


def _branch(W: Tensor, curve: Branch = torch.clone) -> Branch:
    return lambda v: curve(W @ v)


def _slope(branches: list[Branch], x: Tensor, direction: Tensor, h: float = 1e-5) -> Tensor:
    """The change of the output for a small step of x, by differences."""
    ends = []
    for y in (x + h * direction, x - h * direction):
        for branch in branches:
            y = y + branch(y)
        ends.append(y)
    return (ends[0] - ends[1]) / (2 * h)


def _no_identity(branches: list[Branch], x: Tensor) -> Tensor:
    product = torch.eye(len(x), dtype=x.dtype)
    for branch in branches:
        product = torch.autograd.functional.jacobian(branch, x) @ product
        x = x + branch(x)
    return product


def _wrong_order(branches: list[Branch], x: Tensor) -> Tensor:
    product = torch.eye(len(x), dtype=x.dtype)
    for branch in branches:
        J = torch.autograd.functional.jacobian(branch, x)
        product = product @ (torch.eye(len(x), dtype=x.dtype) + J)
        x = x + branch(x)
    return product


def _all_at_the_input(branches: list[Branch], x: Tensor) -> Tensor:
    product = torch.eye(len(x), dtype=x.dtype)
    for branch in branches:
        J = torch.autograd.functional.jacobian(branch, x)
        product = (torch.eye(len(x), dtype=x.dtype) + J) @ product
    return product


# --- 7. folding a gain ------------------------------------------------------------------------


def fold_gain(
    gain: Float[Tensor, " d_model"], W: Float[Tensor, "d_model d_out"]
) -> Float[Tensor, "d_model d_out"]:
    """The matrix that reads a norm without gain as `W` reads the same norm with it."""
    raise NotImplementedError


def fold_gain_solution(
    gain: Float[Tensor, " d_model"], W: Float[Tensor, "d_model d_out"]
) -> Float[Tensor, "d_model d_out"]:
    """(x * gain) @ W = x @ (diag(gain) @ W): each row of W by its gain."""
    return gain[:, None] * W


def _fold_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    width, d_out = distinct_sizes(2, generator)
    gain = 0.5 + draw(width, generator=generator).abs()
    square, W = (draw(width, n, generator=generator) for n in (width, d_out))
    ones = torch.ones(width, dtype=torch.float64)
    x = draw(4, width, generator=generator)
    if not equal(candidate(ones, square), square):
        raise Hint("With a gain of ones there is nothing to fold: W should stay as it is.")
    doubled = candidate(2 * ones, square)
    if not equal(doubled, 2 * square):
        raise Hint("With a gain of 2 everywhere, is what is read twice as large, or half?")
    if not equal(x @ candidate(gain, square), (x * gain) @ square):
        raise Hint("The gain scales what comes in, not what goes out: rows of W or columns?")
    folded = candidate(gain, W)
    require_shape(folded, width, d_out)
    if not equal(x @ folded, (x * gain) @ W):
        raise Hint("It holds for square matrices only. Try a W with fewer columns than rows.")


def _fold_columns(gain: Tensor, W: Tensor) -> Tensor:
    return W * gain


def _fold_inverse(gain: Tensor, W: Tensor) -> Tensor:
    return W / gain[:, None]


# --- all of them ------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        name="the-stream-is-a-sum",
        prompt="Write the stream after the first `depth` layers, given the embedding and what each "
        "layer wrote. Nothing in it is ever replaced.",
        stub=stream_after,
        solution=stream_after_solution,
        specification=_stream_specification,
        wrong=(
            Wrong(_off_by_one, "After 0 layers nothing is written yet."),
            Wrong(_overwritten, "Is yours replaced?"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="heads-are-summed",
        prompt="Each head has its own $W_O$, shape `[d_head, d_model]`. Write what the whole "
        "attention layer adds to the stream, output bias included.",
        stub=attention_write,
        solution=attention_write_solution,
        specification=_heads_specification,
        wrong=(
            Wrong(_bias_for_each_head, "Whose bias is it?"),
            Wrong(_mean_of_heads, "write that head's vector in full"),
        ),
    ),
    Exercise(
        name="a-logit-lens",
        prompt="Decode a stream early: the final RMSNorm with its gain and `eps`, then $W_U$. Each "
        "position is normed by itself.",
        stub=logit_lens,
        solution=logit_lens_solution,
        specification=_lens_specification,
        wrong=(
            Wrong(_lens_without_norm, "A ten times longer stream"),
            Wrong(_norm_over_positions, "Over which axis is your mean?"),
            Wrong(_lens_without_gain, "Where does the gain come in?"),
        ),
    ),
    Exercise(
        name="attribute-a-logit",
        prompt="Split the logit of one word at each position into what every component added. The "
        "norm is not linear; which number must be held fixed so that the parts add up?",
        stub=attribute,
        solution=attribute_solution,
        specification=_attribution_specification,
        wrong=(
            Wrong(_own_scales, "Do all share one scale, and whose?"),
            Wrong(_no_scale, "A final stream three times as long"),
        ),
    ),
    Exercise(
        name="fold-a-gain",
        prompt="A norm multiplies by `gain` before a reader multiplies by `W`. Make one matrix of "
        "the two, so that the norm needs no gain.",
        stub=fold_gain,
        solution=fold_gain_solution,
        specification=_fold_specification,
        wrong=(
            Wrong(_fold_columns, "rows of W or columns?"),
            Wrong(_fold_inverse, "twice as large, or half?"),
        ),
    ),
    Exercise(
        name="change-the-basis",
        prompt="Every vector $x$ of the stream becomes $xR$ with an invertible $R$. The notes write "
        "$W \\to WR$ for writers and $W \\to WR^{-1}$ for readers. Write both in the row convention "
        "of this book, so that the model computes the same.",
        stub=change_basis,
        solution=change_basis_solution,
        specification=_basis_specification,
        wrong=(
            Wrong(_same_side, "On which side, and undoing R?"),
            Wrong(_transposed, "every invertible R"),
            Wrong(_reader_only, "in the new basis"),
        ),
    ),
    Exercise(
        name="the-gradient-of-a-stack",
        prompt="Branches $F_1, F_2, \\dots$ act one after the other as $x \\leftarrow x + F(x)$. "
        "Write the derivative of the end by the start as a product of factors $I + J$, with "
        "`torch.autograd.functional.jacobian` for each $J$.",
        stub=stack_jacobian,
        solution=stack_jacobian_solution,
        specification=_jacobian_specification,
        wrong=(
            Wrong(_no_identity, "I, not 0"),
            Wrong(_wrong_order, "Which factor stands on the left?"),
            Wrong(_all_at_the_input, "at which stream must each J be taken?"),
        ),
        level="challenge",
    ),
    Exercise(
        name="a-lens-of-your-own",
        prompt="The logit lens reads only half of the habit from the embedding, a probe all of it. Fit, for each "
        "depth, one matrix that brings the stream into the basis of the last depth (least squares), "
        "and decode with the model's own unembedding. Where does it beat the logit lens, where not "
        "the probe? Say before you run it what you expect on positions where habit and copy differ.",
        level="open-ended",
        answer="No single answer. A good one compares all three by depth and kind of position on "
        "texts that were not used for fitting, and says what a high score may *not* be taken for: "
        "that a map finds the information does not show that the model uses it.",
    ),
    Exercise(
        name="who-copies-without-the-copying-heads",
        prompt="Direct attribution leaves in what later layers made of a head's write. Remove the "
        "copying heads of layer 1 for real (set their `hook_z` to zero or to its mean, and run the "
        "rest again) and compare with the switchboard. Do the heads of layer 2 take over?",
        level="open-ended",
        answer="No single answer. A good one reports zero and mean ablation side by side, several "
        "seeds, the effect on *fresh* positions as a control, and separates the direct effect (the "
        "head's own write through the unembedding) from the rest.",
    ),
)
