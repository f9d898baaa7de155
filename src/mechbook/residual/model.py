"""A small language with habits and repeats, and the transformer that the chapter trains on it.

Every word has one favorite successor, which follows it half of the time; otherwise any word may
follow. After a while the text starts again from its beginning. So there are two ways to guess the
next word: the *habit* needs only the current word, the *copy* needs to find the earlier occurrence
and to see what came after it. Where the two disagree, one can tell which of them a model uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook import training

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = ("fresh", "repeat: habit right", "repeat: habit wrong")
_ONSETS, _VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True)
class Language:
    """The parameters of the language.

    Attributes:
        n_words: size of the vocabulary, 2 to 70.
        habit: probability that a word's favorite follows because it is the favorite, 0 to 1.
        shortest: length in words of the shortest passage that is repeated, at least 2.
        longest: length in words of the longest one.
        length: words in a text.
        seed: of the ring of favorites.
    """

    n_words: int = 64
    habit: float = 0.5
    shortest: int = 8
    longest: int = 20
    length: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        most = len(_ONSETS) * len(_VOWELS)
        if not 2 <= self.n_words <= most:
            raise ValueError(f"n_words is {self.n_words}; give 2 to {most}")
        if not 0 <= self.habit <= 1:
            raise ValueError(f"habit is {self.habit}; give a probability from 0 to 1")
        if not 2 <= self.shortest <= self.longest < self.length:
            raise ValueError(
                f"shortest={self.shortest}, longest={self.longest}, length={self.length}: "
                "give 2 ≤ shortest ≤ longest < length"
            )


@dataclass(frozen=True)
class Texts:
    """A batch of texts.

    Attributes:
        tokens: the words, as numbers.
        period: length of the passage that each text repeats from then on.
    """

    tokens: Int[Tensor, "batch length"]
    period: Int[Tensor, " batch"]


@dataclass(frozen=True)
class ModelConfig:
    """The transformer: pre-norm blocks (RMSNorm), learned positions, untied unembedding.

    Attributes:
        n_layers: blocks, each attention and then MLP.
        d_model: width of the residual stream.
        n_heads: heads a layer; each reads and writes ``d_model / n_heads`` dimensions.
        d_mlp: neurons a layer.
        seed: of the initial weights.
    """

    n_layers: int = 3
    d_model: int = 64
    n_heads: int = 4
    d_mlp: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_layers, self.d_model, self.n_heads, self.d_mlp) < 1:
            raise ValueError(f"{self}: layers, widths and heads must be 1 or more")
        if self.d_model % self.n_heads or self.d_model % 2:
            raise ValueError(
                f"d_model={self.d_model} with {self.n_heads} heads: "
                "give an even width that the number of heads divides"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained (AdamW, linear warmup, cosine to 2 % of the learning rate).

    Attributes:
        steps: updates.
        batch: texts an update.
        learning_rate: the highest.
        warmup: updates until the highest learning rate.
        seed: of the texts.
    """

    steps: int = 800
    batch: int = 32
    learning_rate: float = 6e-3
    warmup: int = 50
    seed: int = 0


# --- the language -----------------------------------------------------------------------------


def words(language: Language) -> tuple[str, ...]:
    """The words as text: one syllable each."""
    return tuple(onset + vowel for vowel in _VOWELS for onset in _ONSETS)[: language.n_words]


def favorites(language: Language) -> Int[Tensor, " word"]:
    """Each word's favorite successor; together they form one ring through all words."""
    order = torch.randperm(language.n_words, generator=training.generator(language.seed))
    favorite = torch.empty_like(order)
    favorite[order] = order.roll(-1)
    return favorite


def transition(language: Language) -> Float[Tensor, "word next"]:
    """The probability of each next word, given the word before, where nothing is repeated."""
    chances = torch.full((language.n_words,) * 2, (1 - language.habit) / language.n_words)
    chances[torch.arange(language.n_words), favorites(language)] += language.habit
    return chances


def entropy(language: Language) -> float:
    """The lowest loss that is possible outside repeats, in nats a word: a closed form."""
    other = (1 - language.habit) / language.n_words
    favorite = other + language.habit
    terms = [(1, favorite), (language.n_words - 1, other)]
    return -sum(count * p * math.log(p) for count, p in terms if p > 0)


def sample(language: Language, batch: int, generator: torch.Generator) -> Texts:
    """Draw texts: a passage of random length, said again and again until the text is full."""
    if batch < 1:
        raise ValueError(f"batch is {batch}; give 1 or more")
    favorite, shape = favorites(language), (batch, language.length)
    tokens = torch.randint(language.n_words, shape, generator=generator)
    habitual = torch.rand(shape, generator=generator) < language.habit
    for t in range(1, language.length):
        tokens[:, t] = torch.where(habitual[:, t], favorite[tokens[:, t - 1]], tokens[:, t])
    period = torch.randint(language.shortest, language.longest + 1, (batch,), generator=generator)
    source = torch.arange(language.length) % period[:, None]
    return Texts(tokens.gather(1, source), period)


def kinds(language: Language, texts: Texts) -> dict[str, Bool[Tensor, "batch posn"]]:
    """Which positions are of which kind, told by the word that comes next.

    The position where the passage starts again is of no kind: nothing could foretell it. The last
    word has no successor, so there are ``length - 1`` positions.

    Returns:
        For each of ``KINDS`` a mask over positions.
    """
    position = torch.arange(texts.tokens.shape[1] - 1)
    copied = position >= texts.period[:, None]
    habitual = texts.tokens[:, 1:] == favorites(language)[texts.tokens[:, :-1]]
    fresh = position < texts.period[:, None] - 1
    return dict(zip(KINDS, (fresh, copied & habitual, copied & ~habitual), strict=True))


def ideal_reader(language: Language, texts: Texts) -> Float[Tensor, "batch posn word"]:
    """The best possible guess: Bayes' rule over all lengths that the passage may have.

    Returns:
        The log-probability of each next word.
    """
    tokens, chances = texts.tokens, transition(language)
    periods = torch.arange(language.shortest, language.longest + 1)
    source = torch.arange(1, tokens.shape[1]) - periods[:, None]
    copied = source >= 0
    copy = tokens[:, source.clamp(min=0)]
    said = chances[tokens[:, :-1], tokens[:, 1:]].log()[:, None]
    evidence = torch.where(copied, torch.where(copy == tokens[:, None, 1:], 0.0, -60.0), said)
    before = torch.cat([torch.zeros_like(evidence[..., :1]), evidence.cumsum(-1)[..., :-1]], -1)
    belief = before.softmax(1)
    habit = (belief * ~copied).sum(1)[..., None] * chances[tokens[:, :-1]]
    guess = habit.transpose(1, 2).scatter_add(1, copy, belief * copied)
    return guess.transpose(1, 2).clamp(min=1e-30).log()


# --- the model --------------------------------------------------------------------------------


def build(language: Language, config: ModelConfig) -> TransformerBridge:
    """An untrained transformer for the language, from TransformerLens and without a download.

    Its learned positions start from sinusoids, so that "one place back" is a rotation from the
    start and the attention to the previous word forms within a live run.
    """
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_native(  # type: ignore[attr-defined]
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            d_head=config.d_model // config.n_heads,
            n_heads=config.n_heads,
            d_mlp=config.d_mlp,
            d_vocab=language.n_words,
            n_ctx=language.length,
            act_fn="gelu",
            normalization_type="RMS",
            seed=config.seed,
        )
    )
    with torch.no_grad():
        model.W_pos.copy_(0.3 * _sinusoids(language.length, config.d_model))
    return model


def _sinusoids(length: int, width: int) -> Float[Tensor, "length width"]:
    """Sines and cosines of wavelengths from 2π to about 200π words."""
    frequency = 100.0 ** -(torch.arange(width // 2) / (width // 2))
    angle = torch.arange(length)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)


def next_word_loss(
    logits: Float[Tensor, "batch posn word"], tokens: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch posn"]:
    """Cross-entropy in nats at each position that has a next word."""
    return torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), tokens[:, 1:], reduction="none"
    )


def train(model: TransformerBridge, language: Language, config: TrainingConfig) -> training.History:
    """Train the model in place on fresh texts at each step."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
    )

    def rate(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        return min((step + 1) / config.warmup, 1.0) * (0.02 + 0.98 * cosine)

    def loss(model: Any, step: int) -> Tensor:
        tokens = sample(language, config.batch, training.generator(config.seed, step)).tokens
        return next_word_loss(model(tokens[:, :-1]), tokens).mean()

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return training.train(
        model, loss, optimizer=optimizer, scheduler=schedule, steps=config.steps, clip=1.0
    )


def held_out(language: Language, batch: int = 256, seed: int = 1_000_003) -> Texts:
    """Texts from a random stream that no training run uses (their seeds are small)."""
    return sample(language, batch, training.generator(seed))


@dataclass(frozen=True)
class Run:
    """A model on held-out texts, with all that the chapter looks at.

    Attributes:
        model: the transformer.
        language: what it reads.
        texts: the held-out texts.
        logits: what it says at each position that has a next word.
        cache: every activation, by TransformerLens' names.
    """

    model: Any
    language: Language
    texts: Texts
    logits: Float[Tensor, "batch posn word"]
    cache: Any

    @property
    def kinds(self) -> dict[str, Bool[Tensor, "batch posn"]]:
        """The masks of ``KINDS``."""
        return kinds(self.language, self.texts)


def run(model: TransformerBridge, language: Language, texts: Texts | None = None) -> Run:
    """Run the model on texts (held-out ones by default) and keep every activation."""
    texts = texts or held_out(language)
    with torch.no_grad():
        logits, cache = model.run_with_cache(texts.tokens[:, :-1])
    return Run(model, language, texts, logits, cache)


# --- the artifact -----------------------------------------------------------------------------


def make_seed_table(
    seeds: int = 8, steps: int = TrainingConfig.steps
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``residual-lens-seeds``: the chapter's model once a seed, and its measures.

    Args:
        seeds: how many, from 0 on.
        steps: of training, as in the chapter.

    Returns:
        The columns (see ``seed_table.measure``) and what the card says.
    """
    from mechbook.residual import seed_table

    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    rows = [row for seed in range(seeds) for row in seed_table.measure(seed, steps)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    about = (
        "Logit lens, probes, decomposition, direct logit attribution, composition and norms of "
        "the residual chapter's model, by seed, with untrained and one-layer controls."
    )
    return columns, {"about": about, "seeds": list(range(seeds))}
