"""Concepts as directions: word pairs that the book ships, and the subspace view of a linear representation.

Every word is one token of the book's language model. A concept's direction is the mean difference of
its pairs; what it is worth is told by pairs that it has not seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook.geometry import inner_products

FOUR_WORDS = {
    "man": torch.tensor([4.0, 1.0, 2.0]),
    "woman": torch.tensor([3.0, 2.0, 2.0]),
    "king": torch.tensor([5.0, 1.0, 3.0]),
    "queen": torch.tensor([4.0, 2.0, 3.0]),
}
"""The notes' made-up vectors."""


@dataclass(frozen=True)
class Concept:
    """A concept that a word can have in one of two values.

    Attributes:
        name: from one value to the other.
        family: concepts of one family cannot vary freely beside each other: no verb is both a
            past and an -ing form. They are not causally separable.
        pairs: words that differ in the concept and, as far as words can, in nothing else.
    """

    name: str
    family: str
    pairs: tuple[tuple[str, str], ...]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    split = [pair.split(":") for pair in text.split()]
    return tuple((base, target) for base, target in split)


CONCEPTS = (
    Concept(
        "male → female",
        "gender",
        _pairs(
            "man:woman men:women boy:girl boys:girls king:queen prince:princess duke:duchess "
            "lord:lady father:mother brother:sister son:daughter husband:wife uncle:aunt "
            "nephew:niece grandfather:grandmother actor:actress emperor:empress hero:heroine "
            "host:hostess widower:widow god:goddess monk:nun wizard:witch lion:lioness "
            "groom:bride male:female gentleman:lady sir:madam brothers:sisters sons:daughters "
            "fathers:mothers gentlemen:ladies"
        ),
    ),
    Concept(
        "he → she",
        "gender",
        _pairs("he:she him:her his:hers himself:herself He:She Him:Her His:Her"),
    ),
    Concept(
        "singular → plural",
        "number",
        _pairs(
            "child:children house:houses hand:hands day:days year:years foot:feet tooth:teeth "
            "friend:friends book:books letter:letters word:words eye:eyes tree:trees horse:horses "
            "dog:dogs ship:ships door:doors night:nights month:months week:weeks hour:hours "
            "minute:minutes thing:things place:places road:roads river:rivers soldier:soldiers "
            "flower:flowers window:windows city:cities body:bodies enemy:enemies country:countries"
        ),
    ),
    Concept(
        "present → past",
        "verb",
        _pairs(
            "walk:walked talk:talked go:went see:saw take:took run:ran come:came give:gave "
            "know:knew think:thought say:said make:made find:found tell:told look:looked ask:asked "
            "seem:seemed turn:turned stand:stood sit:sat hear:heard speak:spoke begin:began "
            "fall:fell bring:brought leave:left keep:kept feel:felt write:wrote hold:held "
            "follow:followed call:called pass:passed return:returned cry:cried lose:lost"
        ),
    ),
    Concept(
        "present → -ing",
        "verb",
        _pairs(
            "walk:walking talk:talking go:going see:seeing take:taking run:running come:coming "
            "give:giving know:knowing think:thinking say:saying make:making look:looking "
            "ask:asking turn:turning stand:standing sit:sitting hear:hearing speak:speaking "
            "begin:beginning fall:falling bring:bringing leave:leaving keep:keeping feel:feeling "
            "write:writing hold:holding follow:following call:calling pass:passing"
        ),
    ),
    Concept(
        "verb → third person",
        "verb",
        _pairs(
            "walk:walks talk:talks go:goes see:sees take:takes run:runs come:comes give:gives "
            "know:knows think:thinks say:says make:makes find:finds tell:tells look:looks "
            "seem:seems turn:turns stand:stands lie:lies live:lives feel:feels hold:holds "
            "follow:follows bring:brings become:becomes appear:appears"
        ),
    ),
    Concept(
        "adjective → comparative",
        "degree",
        _pairs(
            "great:greater small:smaller old:older young:younger long:longer good:better bad:worse "
            "high:higher low:lower large:larger strong:stronger deep:deeper near:nearer wide:wider "
            "early:earlier late:later happy:happier easy:easier hard:harder dark:darker "
            "bright:brighter fine:finer"
        ),
    ),
    Concept(
        "adjective → superlative",
        "degree",
        _pairs(
            "great:greatest small:smallest old:oldest young:youngest long:longest good:best "
            "bad:worst high:highest low:lowest large:largest strong:strongest deep:deepest "
            "near:nearest early:earliest late:latest happy:happiest fine:finest"
        ),
    ),
    Concept(
        "adjective → adverb",
        "part of speech",
        _pairs(
            "slow:slowly quick:quickly sudden:suddenly quiet:quietly sad:sadly full:fully "
            "certain:certainly perfect:perfectly gentle:gently heavy:heavily simple:simply "
            "usual:usually careful:carefully kind:kindly proud:proudly soft:softly bitter:bitterly "
            "clear:clearly direct:directly entire:entirely evident:evidently exact:exactly "
            "extreme:extremely final:finally free:freely general:generally"
        ),
    ),
    Concept(
        "number → ordinal",
        "ordinal",
        _pairs(
            "one:first two:second three:third four:fourth five:fifth six:sixth seven:seventh "
            "eight:eighth nine:ninth ten:tenth"
        ),
    ),
    Concept(
        "subject → object",
        "case",
        _pairs("he:him she:her they:them we:us I:me who:whom He:Him She:Her They:Them We:Us"),
    ),
    Concept(
        "subject → possessive",
        "case",
        _pairs("he:his she:her they:their we:our I:my you:your it:its who:whose thou:thy"),
    ),
    Concept(
        "small letter → capital",
        "capital",
        _pairs(
            "the:The and:And but:But in:In what:What when:When where:Where how:How why:Why "
            "this:This that:That there:There then:Then now:Now if:If as:As for:For with:With "
            "from:From to:To at:At on:On by:By so:So no:No yes:Yes not:Not all:All some:Some"
        ),
    ),
    Concept(
        "country → people",
        "place",
        _pairs(
            "England:English France:French Italy:Italian Germany:German Spain:Spanish "
            "Russia:Russian Rome:Roman Greece:Greek Scotland:Scotch Ireland:Irish America:American "
            "Europe:European Egypt:Egyptian Britain:British China:Chinese India:Indian"
        ),
    ),
    Concept(
        "with → without un-",
        "opposite",
        _pairs(
            "happy:unhappy able:unable known:unknown like:unlike usual:unusual certain:uncertain "
            "possible:impossible patient:impatient fortunate:unfortunate pleasant:unpleasant "
            "natural:unnatural necessary:unnecessary expected:unexpected seen:unseen just:unjust "
            "conscious:unconscious comfortable:uncomfortable dependent:independent"
        ),
    ),
)


def named(name: str) -> Concept:
    """A concept of the book by its name.

    Raises:
        ValueError: no such concept.
    """
    for concept in CONCEPTS:
        if concept.name == name:
            return concept
    raise ValueError(f"no concept {name!r}; there are: {', '.join(c.name for c in CONCEPTS)}")


# --- words into tokens ------------------------------------------------------------------------


def token_ids(tokenizer: Any, words: Sequence[str], before: str = "") -> Int[Tensor, " word"]:
    """The token of each word.

    Args:
        tokenizer: of Hugging Face, as a ``TransformerBridge`` carries it.
        words: each one token.
        before: what stands before each word; a space for tokenizers such as GPT-2's.

    Raises:
        ValueError: a word that is no single token.
    """
    found = []
    for word in words:
        ids = tokenizer(before + word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise ValueError(
                f"{before + word!r} is {len(ids)} tokens for this tokenizer, and must be one; leave "
                "it out, or give before=' ' where words begin with a space"
            )
        found.append(int(ids[0]))
    return torch.tensor(found, dtype=torch.long)


def pair_ids(tokenizer: Any, concept: Concept, before: str = "") -> Int[Tensor, "pair 2"]:
    """The tokens of a concept's pairs; `ValueError` for a word that is no single token."""
    bases, targets = zip(*concept.pairs, strict=True)
    both = [token_ids(tokenizer, words, before) for words in (bases, targets)]
    return torch.stack(both, 1)


def in_vocabulary(tokenizer: Any, concept: Concept, before: str = "") -> Concept:
    """The concept with those of its pairs that are two single tokens; there may be none."""

    def single(word: str) -> bool:
        return len(tokenizer(before + word, add_special_tokens=False)["input_ids"]) == 1

    return replace(concept, pairs=tuple(pair for pair in concept.pairs if all(map(single, pair))))


def disjoint(
    one: Int[Tensor, "pair 2"], other: Int[Tensor, "pair 2"]
) -> tuple[Int[Tensor, "pair 2"], Int[Tensor, "pair 2"]]:
    """The pairs of two concepts without a common word.

    ``walk → walked`` and ``walk → walking`` share ``-walk``, which alone makes their differences
    alike. So a pair of the one that shares a word with a kept pair of the other is dropped; the
    two concepts are asked in turn, so that both keep about as many.

    Raises:
        ValueError: fewer than two pairs are left of a concept.
    """
    kept: tuple[list[int], list[int]] = ([], [])
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = (one.tolist(), other.tolist())
    order = [(side, i) for i in range(max(map(len, pairs))) for side in _turns(i)]
    for side, i in order:
        if i < len(pairs[side]) and not taken[1 - side] & set(pairs[side][i]):
            kept[side].append(i)
            taken[side].update(pairs[side][i])
    if min(map(len, kept)) < 2:
        raise ValueError("fewer than two pairs are left without a common word; give more pairs")
    return one[kept[0]], other[kept[1]]


def _turns(index: int) -> tuple[int, int]:
    return (0, 1) if index % 2 == 0 else (1, 0)


def shuffled(ids: Int[Tensor, "pair 2"], generator: torch.Generator) -> Int[Tensor, "pair 2"]:
    """The same words, wrongly paired: every base gets another pair's target.

    The mean difference is unchanged by this; what a shuffle destroys is that each pair points
    along it.
    """
    shift = 1 + int(torch.randint(max(len(ids) - 1, 1), (), generator=generator))
    order = torch.randperm(len(ids), generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(shift)
    return torch.stack([ids[:, 0], ids[other, 1]], 1)


def half(ids: Int[Tensor, "pair 2"], generator: torch.Generator) -> Int[Tensor, "some 2"]:
    """A random half of a concept's pairs, to see how much hangs on which words were chosen."""
    return ids[torch.randperm(len(ids), generator=generator)[: (len(ids) + 1) // 2]]


def random_pairs(n_words: int, pairs: int, generator: torch.Generator) -> Int[Tensor, "pair 2"]:
    """Pairs of words drawn from a vocabulary, none twice.

    Raises:
        ValueError: the vocabulary has too few words.
    """
    if 2 * pairs > n_words:
        raise ValueError(f"{n_words} words do not make {pairs} pairs; give fewer pairs")
    return torch.randperm(n_words, generator=generator)[: 2 * pairs].reshape(pairs, 2)


def pairings(concepts: Sequence[Concept]) -> dict[str, list[tuple[int, int]]]:
    """Each two concepts by their places: ``separable`` of two families, ``not separable`` of one."""
    found: dict[str, list[tuple[int, int]]] = {"separable": [], "not separable": []}
    for one, other in itertools.combinations(range(len(concepts)), 2):
        alike = concepts[one].family == concepts[other].family
        found["not separable" if alike else "separable"].append((one, other))
    return found


# --- the subspace view ------------------------------------------------------------------------


def differences(
    gamma: Float[Tensor, "word d"], ids: Int[Tensor, "pair 2"]
) -> Float[Tensor, "pair d"]:
    """Target minus base, for each pair."""
    return gamma[ids[:, 1]] - gamma[ids[:, 0]]


def direction(found: Float[Tensor, "pair d"]) -> Float[Tensor, " d"]:
    """The concept's direction: the mean difference, of length 1.

    Raises:
        ValueError: no pairs, or differences that cancel.
    """
    if not len(found):
        raise ValueError("a direction needs one pair or more")
    mean = found.mean(0)
    size = mean.norm()
    if not bool(size > 0):
        raise ValueError("the differences cancel; there is no common direction")
    return mean / size


def side_by_side(
    gamma: Float[Tensor, "word d"],
    ids: Sequence[Int[Tensor, "pair 2"]],
    which: Sequence[tuple[int, int]],
) -> Float[Tensor, "pairing 2 d"]:
    """For each two concepts their mean differences, from pairs without a common word.

    Raises:
        ValueError: as in `disjoint`.
    """
    rows = [disjoint(ids[one], ids[other]) for one, other in which]
    return torch.stack(
        [torch.stack([differences(gamma, pairs).mean(0) for pairs in both]) for both in rows]
    )


def random_directions(
    gamma: Float[Tensor, "word d"],
    draws: int,
    pairs: int,
    generator: torch.Generator,
    order: Float[Tensor, " word"] | None = None,
) -> Float[Tensor, "draw 2 d"]:
    """Two mean differences of random word pairs each: directions that are no concept's.

    Args:
        gamma: vectors of the words.
        draws: how often.
        pairs: in each mean.
        generator: draws the words.
        order: a number for each word, such as its frequency: then the first word of each pair is
            the one that has more of it.

    Raises:
        ValueError: the vocabulary has too few words.
    """
    drawn = [random_pairs(len(gamma), 2 * pairs, generator) for _ in range(draws)]
    if order is not None:
        drawn = [ids.gather(1, order[ids].argsort(1, descending=True)) for ids in drawn]
    means = [[differences(gamma, part).mean(0) for part in ids.chunk(2)] for ids in drawn]
    return torch.stack([torch.stack(both) for both in means])


def held_out_directions(found: Float[Tensor, "pair d"]) -> Float[Tensor, "pair d"]:
    """For each pair the mean difference of all others.

    Raises:
        ValueError: fewer than two pairs.
    """
    if len(found) < 2:
        raise ValueError(f"{len(found)} pairs leave none to hold out; give two or more")
    return (found.sum(0) - found) / (len(found) - 1)


def held_out_cosines(
    found: Float[Tensor, "pair d"], M: Float[Tensor, "d d"]
) -> Float[Tensor, " pair"]:
    """The cosine, under M, of each pair's difference with the mean difference of the others.

    Raises:
        ValueError: fewer than two pairs, or a difference of length 0.
    """
    return inner_products.angle(found, held_out_directions(found), M).cos()


def scalars(
    gamma: Float[Tensor, "word d"], ids: Int[Tensor, "pair 2"]
) -> Float[Tensor, "pair two"]:
    """How far along the other pairs' mean difference each word of a pair lies, from all words' mean.

    Raises:
        ValueError: fewer than two pairs.
    """
    steps = held_out_directions(differences(gamma, ids))
    unit = steps / steps.norm(dim=-1, keepdim=True)
    return ((gamma - gamma.mean(0))[ids] * unit[:, None]).sum(-1)


def one_dimension_share(found: Float[Tensor, "pair d"]) -> float:
    """The share of the differences' squared length that lies on one line through the origin."""
    squares = torch.linalg.svdvals(found).pow(2)
    return float(squares[0] / squares.sum())


def analogy_ranks(
    gamma: Float[Tensor, "word d"], ids: Int[Tensor, "pair 2"], step: float = 1.0
) -> dict[str, Int[Tensor, " pair"]]:
    """The rank of each target among all words, by cosine to base + mean difference of the others.

    Args:
        gamma: vectors of the words, centred or not, as they shall be compared.
        ids: pairs of one concept.
        step: how much of the mean difference is added; 0 asks for the base's own neighbors.

    Returns:
        ``all words`` and ``without the base``, as such tests are usually scored; 1 is the best.

    Raises:
        ValueError: fewer than two pairs.
    """
    guess = gamma[ids[:, 0]] + step * held_out_directions(differences(gamma, ids))
    unit = gamma / gamma.norm(dim=-1, keepdim=True)
    likeness = guess @ unit.mT
    rows = torch.arange(len(ids))
    better = likeness > likeness[rows, ids[:, 1]][:, None]
    ranks = 1 + better.sum(1)
    return {"all words": ranks, "without the base": ranks - better[rows, ids[:, 0]].long()}
