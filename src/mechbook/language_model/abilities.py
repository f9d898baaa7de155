"""What the model can and cannot do: small tests of grammar, knowledge and arithmetic.

Each test is a list of prompts with a right and a wrong continuation. The model passes a prompt if
it gives the right one the greater probability; a coin passes half of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from scipy.stats import binomtest

from mechbook.language_model import score, tokenizer

NUMBERS = tokenizer.NUMBERS[1:13]  # one to twelve
SINGULAR = ("king", "man", "boy", "house", "door", "friend", "child", "horse")
PLURAL = ("kings", "men", "boys", "houses", "doors", "friends", "children", "horses")
CAPITALS = (
    ("France", "Paris"),
    ("England", "London"),
    ("Italy", "Rome"),
    ("Germany", "Berlin"),
    ("Spain", "Madrid"),
    ("Russia", "Moscow"),
)
GENDER = (
    ("king", "queen"),
    ("man", "woman"),
    ("boy", "girl"),
    ("father", "mother"),
    ("brother", "sister"),
    ("husband", "wife"),
    ("uncle", "aunt"),
    ("prince", "princess"),
)


@dataclass(frozen=True)
class Item:
    """A prompt with two continuations.

    Attributes:
        prompt: the text so far.
        right: the token that should follow.
        wrong: the token that should not.
        kind: a group within the test.
    """

    prompt: str
    right: str
    wrong: str
    kind: str = ""


def agreement() -> list[Item]:
    """Subject and verb agree in number over a noun in between that may have another number."""
    items = []
    for i, between in itertools.product(range(len(SINGULAR)), ("of", "near", "behind")):
        other = (i + 3) % len(SINGULAR)
        for one, many in itertools.product((SINGULAR, PLURAL), (SINGULAR, PLURAL)):
            right, wrong = ("was", "were") if one is SINGULAR else ("were", "was")
            kind = "same number between" if one is many else "other number between"
            items.append(Item(f"The {one[i]} {between} the {many[other]}", right, wrong, kind))
    return items


def reflexives() -> list[Item]:
    """A reflexive pronoun has the gender of its subject, also with the other gender in between."""
    verbs = ("hid", "saw", "asked", "dressed", "found")
    items = []
    for (man, woman), verb in itertools.product(GENDER, verbs):
        for between in ("", " near the "):
            kind = "other gender between" if between else "nothing between"
            other = (f"{between}{woman}", f"{between}{man}") if between else ("", "")
            items.append(Item(f"The {man}{other[0]} {verb}", "himself", "herself", kind))
            items.append(Item(f"The {woman}{other[1]} {verb}", "herself", "himself", kind))
    return items


def closing() -> list[Item]:
    """What was opened is closed in its own way: a quotation by its mark, a bracket by its bracket."""
    inside = ("I do not know", "the old man is dead", "it is late", "you are right")
    items = [Item(f"He said, “{words}.", "”", ")", "quotation") for words in inside]
    items += [Item(f"He came (and {words}", ")", "”", "bracket") for words in inside]
    return items


def sums() -> list[Item]:
    """Sums of small numbers in words, in three forms, each against a sum that is one off."""
    items = []
    for a, b in itertools.product(range(1, 7), range(1, 6)):
        wrong = a + b + (1 if (a + b) % 2 else -1)
        one, other = NUMBERS[a - 1], NUMBERS[b - 1]
        forms = {
            "make": f"{one.capitalize()} and {other} make",
            "are": f"You must know that {one} and {other} are",
            "more": f"He had {one}, and I gave him {other} more, so now he has",
        }
        items += [
            Item(prompt, NUMBERS[a + b - 1], NUMBERS[wrong - 1], kind)
            for kind, prompt in forms.items()
        ]
    return items


def capitals() -> list[Item]:
    """Capitals of countries, each against the other capitals."""
    return [
        Item(f"The capital of {country} is", city, other)
        for (country, city), (_, other) in itertools.permutations(CAPITALS, 2)
    ]


TESTS = {
    "subject and verb": agreement,
    "himself or herself": reflexives,
    "closing marks": closing,
    "capitals": capitals,
    "sums": sums,
}


@torch.no_grad()
def margins(model: Any, items: Sequence[Item]) -> Float[torch.Tensor, " item"]:
    """By how many nats the right continuation beats the wrong one.

    Raises:
        ValueError: a continuation is not a single token, or a prompt is too long.
    """
    prompts = [model.to_tokens(item.prompt, truncate=False)[0] for item in items]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    score.check_length(model, int(lengths.max()))
    pairs = [[_single(model, word) for word in (item.right, item.wrong)] for item in items]
    found = torch.empty(len(items))
    for length in lengths.unique():  # prompts of one length are read together
        own = (lengths == length).nonzero()[:, 0]
        guess = model(torch.stack([prompts[i] for i in own]))[:, -1].float().log_softmax(-1)
        both = guess.gather(1, torch.tensor([pairs[i] for i in own]))
        found[own] = both[:, 0] - both[:, 1]
    return found


def passed(model: Any, items: Sequence[Item]) -> Bool[torch.Tensor, " item"]:
    """Whether the right continuation is the more probable."""
    return margins(model, items) > 0


def interval(right: Bool[torch.Tensor, " item"]) -> tuple[float, float]:
    """A 95 % interval (Wilson's) for the share of prompts passed, as if each were drawn by itself.

    Prompts of one test share their form and many words, so the truth is less certain than this.
    """
    found = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _single(model: Any, word: str) -> int:
    ids = model.tokenizer.backend_tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1:
        raise ValueError(f"{word!r} is {len(ids)} tokens; give a word that is a single one")
    return ids[0]
