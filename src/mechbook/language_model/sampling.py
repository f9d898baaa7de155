"""The model writes; and whether its probabilities fit what it reads.

A text is drawn from front to back: the model gives every word a probability, one word is drawn,
the model reads it, and so on (ancestral sampling). Text that was drawn at temperature 1 is what the
model's probabilities describe, to the letter: on it the mean loss equals, up to chance, the mean
entropy of the predictions, and the probability of the best guess is how often that guess is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import einops
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook import artifacts, training
from mechbook.language_model import score, weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PLAN = ((2400, 1.0, 0), (60, 0.7, 1))
"""The text that ships with the book: documents, temperature, seed. A document is one window."""

_NAMES = tuple(f"{kind}_{part}" for part in ("Q", "K", "V", "O", "in", "out") for kind in "Wb")


class Reader:
    """The model's forward pass, token after token: keys and values are kept, none is found twice.

    TransformerLens keeps none for a model of `model.build`: its ``generate`` reads the whole text
    again for each new token. Same formulas and same logits as the model, up to rounding; hooks on
    the model are not called.

    Attributes:
        length: tokens read so far; at most the model's context.
    """

    def __init__(self, model: TransformerBridge, batch: int) -> None:
        self.length, self._eps, self._n_ctx = 0, model.cfg.eps, model.cfg.n_ctx
        rotary: Any = model.original_model.rotary
        self._turn = rotary.apply_rope
        self._weights = _weights(model)
        shape = (batch, model.cfg.n_heads, model.cfg.n_ctx, model.cfg.d_head)
        self._keys = [torch.empty(shape) for _ in model.blocks]
        self._values = [torch.empty(shape) for _ in model.blocks]

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, "batch new"]) -> Float[Tensor, "batch word"]:
        """Read on; the logits of the token after the last one.

        Raises:
            ValueError: nothing to read, or more than the context holds.
        """
        w, here = self._weights, slice(self.length, self.length + tokens.shape[1])
        if not here.start < here.stop <= self._n_ctx:
            raise ValueError(
                f"{tokens.shape[1]} tokens after {self.length}; the model reads 1 to "
                f"{self._n_ctx} in all. Start a new Reader, or use sample, which does"
            )
        self.length = here.stop
        residual = w["W_E"][tokens]
        for layer in range(len(self._keys)):
            residual = residual + self._attention(layer, here, self._norm("ln1", layer, residual))
            residual = residual + self._mlp(layer, self._norm("ln2", layer, residual))
        return self._norm("ln_final", 0, residual[:, -1]) @ w["W_U"]

    def _norm(self, name: str, layer: int, residual: Tensor) -> Tensor:
        scale = (residual.pow(2).mean(-1, keepdim=True) + self._eps).sqrt()
        return residual / scale * self._weights[name][layer]

    def _attention(self, layer: int, here: slice, x: Tensor) -> Float[Tensor, "batch new d_model"]:
        query, key = (self._project(letter, layer, x) for letter in "QK")
        posn = torch.arange(here.start, here.stop)
        query, self._keys[layer][:, :, here] = self._turn(query, key, position_ids=posn[None])
        self._values[layer][:, :, here] = self._project("V", layer, x)
        key, value = (kept[layer][:, :, : here.stop] for kept in (self._keys, self._values))
        scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
        later = torch.arange(here.stop) > posn[:, None]
        z = scores.masked_fill(later, -math.inf).softmax(-1) @ value
        W_O, shape = self._weights["W_O"][layer], "batch head new d_head, head d_head d_model"
        return einops.einsum(z, W_O, f"{shape} -> batch new d_model") + self._weights["b_O"][layer]

    def _project(
        self, letter: str, layer: int, x: Tensor
    ) -> Float[Tensor, "batch head new d_head"]:
        W, b = (self._weights[f"{kind}_{letter}"][layer] for kind in "Wb")
        shape = "batch new d_model, head d_model d_head -> batch head new d_head"
        return einops.einsum(x, W, shape) + b[:, None]

    def _mlp(self, layer: int, x: Tensor) -> Float[Tensor, "batch new d_model"]:
        W_in, b_in, W_out, b_out = (
            self._weights[name][layer] for name in ("W_in", "b_in", "W_out", "b_out")
        )
        return torch.nn.functional.gelu(x @ W_in + b_in) @ W_out + b_out


def _weights(model: Any) -> dict[str, Tensor]:
    """The weights by the names of TransformerLens, those of the blocks stacked by layer."""
    found = {name: getattr(model, name) for name in (*_NAMES, "W_E", "W_U")}
    for name in ("ln1", "ln2"):
        found[name] = torch.stack([getattr(block, name).weight for block in model.blocks])
    found["ln_final"] = model.ln_final.weight[None]
    return {name: tensor.detach() for name, tensor in found.items()}


# --- drawing ----------------------------------------------------------------------------------


def nucleus(
    probabilities: Float[Tensor, "batch word"], top_p: float
) -> Float[Tensor, "batch word"]:
    """Keep the likeliest words that together reach ``top_p``, as few as can be; the rest get 0.

    Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, equations 2 and 3.
    """
    if top_p == 1:
        return probabilities
    ordered, words = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.zeros_like(ordered).scatter(-1, words, ordered * (before < top_p))
    return kept / kept.sum(-1, keepdim=True)


def choose(
    logits: Float[Tensor, "batch word"],
    draws: Float[Tensor, " batch"],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Int[Tensor, " batch"]:
    """One word for each row: the word in whose share of the line from 0 to 1 the draw falls.

    Args:
        logits: of the model.
        draws: evenly distributed from 0 up to, not including, 1.
        temperature: logits are divided by it; 0 takes the likeliest word.
        top_p: see `nucleus`.
    """
    if temperature == 0:
        return logits.argmax(-1)
    above = logits.double() - logits.double().amax(-1, keepdim=True)
    line = nucleus((above / temperature).softmax(-1), top_p).cumsum(-1)
    places = torch.searchsorted(line, draws.double()[:, None] * line[:, -1:], right=True)
    return places[:, 0].clamp(max=logits.shape[-1] - 1)


def sample(
    model: TransformerBridge,
    prompts: Int[Tensor, "batch start"],
    n_tokens: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    at_once: int = 128,
) -> Int[Tensor, "batch start+n_tokens"]:
    """Continue each row by ``n_tokens`` tokens.

    A row's draws come from a random stream of its own, so its text depends on its place among the
    rows but (except where rounding tips a draw) not on ``at_once``; and a longer text begins with
    the shorter one. Where a row outgrows the context, the model goes on from a new window: the
    row's first token and the last quarter of a context.

    Args:
        model: of `model.build`; hooks on it are not called.
        prompts: rows that begin with the end-of-text mark.
        n_tokens: to write.
        temperature: 1 draws from the model's own probabilities, less prefers likely words, 0
            always takes the likeliest.
        top_p: draw only among the likeliest words that together have this probability.
        seed: of the draws.
        at_once: rows in one forward pass.

    Raises:
        ValueError: an argument outside its range, or a prompt longer than the context.
    """
    _check(n_tokens, temperature, top_p)
    if prompts.ndim != 2 or not len(prompts) or not 1 <= prompts.shape[1] <= model.cfg.n_ctx:
        raise ValueError(
            f"prompts have shape {list(prompts.shape)}; give one row or more, each of 1 to "
            f"{model.cfg.n_ctx} tokens, the end-of-text mark first"
        )
    streams = [training.generator(seed, row) for row in range(len(prompts))]
    draws = torch.stack([torch.rand(n_tokens, generator=g, dtype=torch.float64) for g in streams])
    chosen = partial(choose, temperature=temperature, top_p=top_p)
    parts = zip(prompts.split(at_once), draws.split(at_once), strict=True)
    return torch.cat([_continued(model, *part, chosen) for part in parts])


def _continued(
    model: Any,
    tokens: Int[Tensor, "batch start"],
    draws: Float[Tensor, "batch step"],
    chosen: Callable[[Tensor, Tensor], Tensor],
) -> Int[Tensor, "batch start+step"]:
    reader, unread = Reader(model, len(tokens)), tokens
    for draw in draws.T:
        if reader.length + unread.shape[1] > model.cfg.n_ctx:
            last = tokens[:, tokens.shape[1] - model.cfg.n_ctx // 4 :]
            reader, unread = Reader(model, len(tokens)), torch.cat([tokens[:, :1], last], 1)
        unread = chosen(reader.read(unread), draw)[:, None]
        tokens = torch.cat([tokens, unread], 1)
    return tokens


def _check(n_tokens: int, temperature: float, top_p: float) -> None:
    if n_tokens < 1:
        raise ValueError(f"n_tokens is {n_tokens}; give 1 or more")
    if not temperature >= 0:
        raise ValueError(
            f"temperature is {temperature}; give a number above 0, or 0 for the likeliest word "
            "at each step"
        )
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; give a number above 0 and up to 1 (1 keeps all words)")


def write(
    model: TransformerBridge,
    prompt: str = "",
    n_tokens: int = 60,
    temperature: float = 0.8,
    top_p: float = 1.0,
    seed: int = 0,
) -> str:
    """Let the model continue a text: the prompt, as the tokenizer gives it back, and what follows.

    Args:
        model: with its tokenizer, from `weights.load`.
        prompt: may be empty; then the model begins in the middle of anything.
        n_tokens: to write: words, pieces of words and punctuation marks.
        temperature: see `sample`.
        top_p: see `sample`.
        seed: another one, another text.

    Raises:
        ValueError: an argument outside its range, or a prompt longer than the context.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"prompt is {prompt!r}; give text, or '' to let the model begin")
    ids = model.tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids
    if len(ids) >= model.cfg.n_ctx:
        raise ValueError(
            f"the prompt has {len(ids)} tokens; the model reads at most {model.cfg.n_ctx - 1} "
            "after the end-of-text mark. Give the last part of it"
        )
    tokens = torch.tensor([[int(model.tokenizer.bos_token_id), *ids]])
    written = sample(model, tokens, n_tokens, temperature=temperature, top_p=top_p, seed=seed)
    return decode(model, written)[0]


def decode(model: TransformerBridge, tokens: Int[Tensor, "batch posn"]) -> list[str]:
    """The rows as text, without end-of-text marks."""
    return model.tokenizer.backend_tokenizer.decode_batch(tokens.tolist())


# --- is the model as sure as it should be? ----------------------------------------------------


@torch.no_grad()
def entropy(
    model: Any, windows: Int[Tensor, "batch posn+1"], at_once: int = 32
) -> Float[Tensor, " batch"]:
    """Mean entropy, in nats a token, of the model's predictions in each window.

    That is the loss that the model expects. Compare with ``score.token_losses(...).mean(1)``, the
    loss that it has: equal in expectation on text that the model wrote at temperature 1.

    Args:
        model: anything that turns tokens into logits.
        windows: rows that begin with the end-of-text mark; the last token is not read.
        at_once: rows in one forward pass.

    Raises:
        ValueError: nothing to predict, or more tokens than the model can read.
    """
    score.check_length(model, windows.shape[1] - 1)
    means = []
    for part in windows.split(at_once):
        guesses = model(part[:, :-1]).float().softmax(-1)
        means.append(torch.special.entr(guesses).sum(-1).mean(-1))
    return torch.cat(means)


@dataclass(frozen=True)
class Calibration:
    """The model's best guesses, sorted into bins of equal width by their probability.

    Attributes:
        predicted: mean probability of the guesses in a bin; nan in an empty one.
        right: share of them that came true; nan in an empty one.
        count: how many there are.
    """

    predicted: Float[Tensor, " bin"]
    right: Float[Tensor, " bin"]
    count: Int[Tensor, " bin"]

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of the bins, each counting as its guesses.

        Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3.
        """
        gaps = (self.right - self.predicted).abs() * self.count
        return float(gaps.nansum() / self.count.sum())


@torch.no_grad()
def calibration(
    model: Any, windows: Int[Tensor, "batch posn+1"], n_bins: int = 10, at_once: int = 32
) -> Calibration:
    """Compare the probability of the model's best guess with how often it is right.

    Args:
        model: anything that turns tokens into logits.
        windows: rows that begin with the end-of-text mark.
        n_bins: of equal width between 0 and 1.
        at_once: rows in one forward pass.

    Raises:
        ValueError: no bin, nothing to predict, or more tokens than the model can read.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; give 1 or more")
    score.check_length(model, windows.shape[1] - 1)
    sure, right = [], []
    for part in windows.split(at_once):
        best = model(part[:, :-1]).float().softmax(-1).max(-1)
        sure.append(best.values.double().flatten())
        right.append((best.indices == part[:, 1:]).double().flatten())
    return binned(torch.cat(sure).numpy(), torch.cat(right).bool().numpy(), n_bins)


def binned(
    sure: Float[np.ndarray, " guess"], right: Bool[np.ndarray, " guess"], n_bins: int = 10
) -> Calibration:
    """Guesses sorted into bins.

    Args:
        sure: the probability of each guess.
        right: whether it came true.
        n_bins: of equal width between 0 and 1.
    """
    confidence, came = (torch.as_tensor(values).double() for values in (sure, right))
    place = (confidence * n_bins).long().clamp(max=n_bins - 1)
    count = torch.bincount(place, minlength=n_bins)
    predicted, share = (torch.bincount(place, x, n_bins) / count for x in (confidence, came))
    return Calibration(predicted, share, count)


def encoded(
    model: TransformerBridge, texts: Sequence[str], length: int = 112
) -> Int[Tensor, "batch length+1"]:
    """Texts as rows of tokens: the end-of-text mark, then the first ``length`` tokens.

    Re-encoding can join what the model had spelled in pieces, so a text of 128 sampled tokens may
    come back with a few less; texts shorter than ``length`` are left out.

    Raises:
        ValueError: no text is long enough.
    """
    tokenizer, end = model.tokenizer.backend_tokenizer, int(model.tokenizer.bos_token_id)
    found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    rows = [[end, *text.ids[:length]] for text in found if len(text.ids) >= length]
    if not rows:
        raise ValueError(f"none of {len(found)} texts has {length} tokens; give longer ones")
    return torch.tensor(rows)


# --- the text that ships with the book --------------------------------------------------------


def documents(
    model: TransformerBridge, count: int, temperature: float, seed: int
) -> dict[str, np.ndarray]:
    """Documents that the model writes from nothing, each exactly one window of the context.

    So the model's own loss on a document has the same past in view that wrote it. A document begins
    and ends in the middle of a sentence, as the windows do that the model was trained on.

    Returns:
        Columns ``title``, ``text``, ``temperature``, ``seed``; document ``n`` is row ``n`` of
        `sample` with that seed. A text read again may come out in other tokens than it was
        written in (a word that the model spelled in pieces is one token again), so what needs the
        very tokens, such as loss against entropy, takes them from `sample`.
    """
    prompts = torch.full((count, 1), int(model.tokenizer.bos_token_id))
    tokens = sample(model, prompts, model.cfg.n_ctx, temperature=temperature, seed=seed)
    titles = [f"sample {n}, temperature {temperature:g}" for n in range(count)]
    return {
        "title": np.array(titles),
        "text": np.array(decode(model, tokens)),
        "temperature": np.full(count, temperature),
        "seed": np.full(count, seed),
    }


def make_samples() -> tuple[dict[str, np.ndarray], dict]:
    """Recipe of the text that ships with the book: the model writes it, see `PLAN`."""
    model = weights.load()
    parts = [documents(model, *plan) for plan in PLAN]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    counts = " and ".join(f"{count:,} at temperature {heat:g}" for count, heat, _ in PLAN)
    about = (
        f"Text written by the book's own language model, no book and no source of facts: "
        f"{counts}. Each document is one window of {model.cfg.n_ctx} tokens that follow the "
        "end-of-text mark, so it begins and ends in the middle of a sentence."
    )
    seeds = [seed for _, _, seed in PLAN]
    inputs = {weights.NAME: artifacts.checksum(weights.NAME)}
    return columns, {"about": about, "seeds": seeds, "inputs": inputs}
