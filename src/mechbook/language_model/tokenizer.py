"""Text into tokens: whole words where they are frequent, pieces of words where they are not.

The 8,192 types are the end-of-text mark, the 256 bytes, single characters, about a thousand pieces,
and for the rest the most frequent words as they are written, capitals kept. A frequent word is one
token; a rare one is spelled in pieces (``##`` marks a piece that continues a word); a character
that is in no type is spelled in bytes. So nothing is ever unknown.

Spaces are no tokens. The decoder puts them back by rule, so that text comes back with its words
and its punctuation; what gets lost on the way is markup (``*``, ``_``, ``#``), the width of spaces,
the space between two words that are spelled in bytes to their ends, and the difference between
ways to write a dash, dots or a quotation mark. A blank line is the token ``¶``.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
"""Stands before every document, and before every window that the model reads."""
PARAGRAPH = "¶"
_ENDING = r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})"
_WORD = rf"{PARAGRAPH}|{_ENDING}|[\p{{L}}\p{{M}}]+|[0-9]+|."
_PUNCTUATION = ".,;:?!—-“”‘’()…&£$°[]"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MONTHS = _words(
    "January February March April May June July August September October November December"
)
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million first second third fourth fifth sixth seventh eighth ninth tenth"
)
PRONOUNS = _words(
    "I me my mine myself you your yours yourself he him his himself she her hers herself it its "
    "itself we us our ours ourselves they them their theirs themselves who whom whose"
)
ANALOGIES = _words(
    "king queen man woman men women boy girl boys girls prince princess duke duchess lord lady "
    "father mother brother sister son daughter husband wife uncle aunt nephew niece grandfather "
    "grandmother actor actress emperor empress hero heroine host hostess widow widower god goddess "
    "monk nun wizard witch bull cow lion lioness groom bride male female gentleman lady sir madam "
    "walk walked walking talk talked talking go went gone see saw seen take took taken run ran "
    "good better best bad worse worst great greater greatest small smaller smallest old older "
    "oldest young younger youngest long longer longest London England Paris France Rome Italy "
    "Berlin Germany Madrid Spain Moscow Russia English French Italian German Spanish Russian "
    "child children house houses hand hands day days year years foot feet tooth teeth"
)
ALWAYS = tuple(
    dict.fromkeys(
        word
        for group in (MONTHS, WEEKDAYS, NUMBERS, PRONOUNS, ANALOGIES)
        for text in group
        for word in (text, text.capitalize() if text in NUMBERS + PRONOUNS else text)
    )
)
"""Words that are one token whatever their count: later chapters look at them."""


@dataclass(frozen=True)
class TokenizerConfig:
    """What is counted as a type.

    Attributes:
        n_types: size of the vocabulary; less where the text has fewer words.
        n_pieces: pieces of words among them, made by byte-pair encoding of the rare words.
        alphabet: characters seen at least so often inside rare words get a type of their own.
    """

    n_types: int = 8192
    n_pieces: int = 900
    alphabet: int = 1000

    def __post_init__(self) -> None:
        if self.n_pieces < 1 or self.alphabet < 1:
            raise ValueError(f"n_pieces={self.n_pieces}, alphabet={self.alphabet}: give 1 or more")


def train(texts: Iterable[str], config: TokenizerConfig | None = None) -> Tokenizer:
    """Make a tokenizer from text: count the words, keep the frequent, cut up the rare.

    Args:
        texts: read once.
        config: sizes.

    Raises:
        ValueError: no words in the text, or ``n_types`` leaves no room for the pieces and the
            words that are always there.
    """
    config = config or TokenizerConfig()
    counts = count_words(texts)
    if not counts:
        raise ValueError("there is no word in the text; a tokenizer needs some to count")
    fixed = [END, *(f"<0x{byte:02X}>" for byte in range(256)), PARAGRAPH, *_PUNCTUATION]
    room = config.n_types - len(fixed) - config.n_pieces
    if room < len(ALWAYS):
        raise ValueError(
            f"n_types is {config.n_types}; with {config.n_pieces} pieces and the words that are "
            f"always there, give at least {config.n_types - room + len(ALWAYS)}"
        )
    ranked = [word for word, _ in counts.most_common(config.n_types)]
    whole = {*itertools.islice(dict.fromkeys([*ALWAYS, *ranked]), room)}
    pieces, merges = _pieces({w: n for w, n in counts.items() if w not in whole}, config)
    types = list(dict.fromkeys([*fixed, *pieces, *ALWAYS, *ranked]))[: config.n_types]
    if lost := {*ALWAYS} - {*types}:
        raise ValueError(
            f"n_types is {config.n_types}; the text has so many letters that {len(pieces)} pieces "
            f"crowd out {len(lost)} words that are always there; give more types, or a higher "
            f"alphabet than {config.alphabet}"
        )
    return _assemble({token: i for i, token in enumerate(types)}, merges)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word, number and mark occurs, as the tokenizer cuts them."""
    normalizer, cutter = _normalizer(), _cutter()
    counts: Counter[str] = Counter()
    for text in texts:
        normal = normalizer.normalize_str(text)
        counts.update(word for word, _ in cutter.pre_tokenize_str(normal))
    return counts


def _pieces(
    rare: dict[str, int], config: TokenizerConfig
) -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces of the rare words by byte-pair encoding, digits left single; and the merges."""
    spelled = Counter[str]()
    for word, count in rare.items():
        spelled.update({letter: count for letter in word})
    alphabet = sorted(c for c, n in spelled.items() if n >= config.alphabet and len(c) == 1)
    singles = [*alphabet, *(f"##{c}" for c in alphabet)]
    kept = {*alphabet}
    words = {w: n for w, n in rare.items() if {*w} <= kept and not w[0].isdigit()}
    maker = Tokenizer(models.BPE(continuing_subword_prefix="##"))
    trainer = trainers.BpeTrainer(
        vocab_size=max(config.n_pieces, len(singles) + 1),
        continuing_subword_prefix="##",
        special_tokens=_letters(words),
        show_progress=False,
    )
    maker.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    maker.train_from_iterator((" ".join([w] * n) for w, n in sorted(words.items())), trainer)
    merges = [tuple(pair) for pair in json.loads(maker.to_str())["model"]["merges"]]
    learned = [first + second.removeprefix("##") for first, second in merges]
    return [*singles, *learned], merges


def _letters(words: dict[str, int]) -> list[str]:
    """The letters, first those that begin a word, then those inside, the frequent before the rare.

    The trainer decides between equally frequent pairs by the order of their letters; left to
    itself, it takes that order from a hash table, and so from chance.
    """
    inside = Counter[str]()
    for word, count in words.items():
        for letter in word[1:]:
            inside[letter] += count
    ranked = sorted(inside, key=lambda letter: (-inside[letter], letter))
    return [*sorted({c for word in words for c in word}), *(f"##{c}" for c in ranked)]


def _assemble(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    kept = [(a, b) for a, b in merges if {a, b, a + b.removeprefix("##")} <= vocabulary.keys()]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=kept,
            continuing_subword_prefix="##",
            byte_fallback=True,
            ignore_merges=True,
        )
    )
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = _cutter()
    tokenizer.decoder = _decoder()
    tokenizer.add_special_tokens([END])
    return tokenizer


def _normalizer() -> Any:
    """One way to write dashes, dots, quotation marks and blank lines; no markup."""
    opening = r"(?<![^\s(\[—“‘-])"
    rules = [
        (r"[_*#\\\x{feff}\x{200b}]+", ""),
        (r"\s*\n\s*\n\s*", f" {PARAGRAPH} "),
        (r"\s+", " "),
        (r"-{2,}|–", "—"),
        (r"\.{3,}|(?:\. ){2,}\.", "…"),
        (rf'{opening}"(?=\S)', "“"),
        (r'"', "”"),
        (rf"{opening}'(?=[^\s”])", "‘"),
        (r"’(?=\p{L})", "'"),
        (rf"(?!{_ENDING})'", "’"),
    ]
    replace = [normalizers.Replace(Regex(pattern), new) for pattern, new in rules]
    return normalizers.Sequence([normalizers.NFC(), *replace])


def _cutter() -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(_WORD), "isolated"),
        ]
    )


def _decoder() -> Any:
    """Pieces and bytes join; a space before each word; none where punctuation asks for none."""
    left = [(f" {mark}", mark) for mark in ".,;:?!”)]…"]
    left += [(f" '{end}", f"'{end}") for end in ("s", "t", "re", "ve", "m", "ll", "d")]
    both = [(" — ", "—"), (" —", "—"), (" - ", "-"), (" ’ ", "’ "), (" ’", "’")]
    right = [(f"{mark} ", mark) for mark in "“‘([£$"]
    ends = [(f" {PARAGRAPH} ", "\n\n"), (f" {PARAGRAPH}", "\n\n"), (f"{PARAGRAPH} ", "\n\n")]
    stray = [("##", "")]  # the mark before a byte inside a word
    rules = [*stray, *both, *left, *right, *ends]
    replace = [decoders.Replace(old, new) for old, new in rules]
    return decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.WordPiece("##", cleanup=False),
            decoders.Fuse(),
            *replace,
        ]
    )


def wrap(tokenizer: Tokenizer, n_ctx: int) -> PreTrainedTokenizerFast:
    """The tokenizer as Hugging Face's models and TransformerLens expect it: it puts `END` first."""
    from transformers import PreTrainedTokenizerFast

    first = Tokenizer.from_str(tokenizer.to_str())
    first.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=first,
        name_or_path="mechbook",
        add_bos_token=True,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=n_ctx,
    )
