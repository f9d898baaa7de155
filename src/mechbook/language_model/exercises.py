"""The exercises of the chapter on the language model.

Probabilities stand in rows, one row a position. Specifications work in float64 and state
properties; they never call a solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
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


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _sums_to_one(rows: Tensor) -> bool:
    return equal(rows.sum(-1), torch.ones(rows.shape[:-1]))


# --- 1. bits a character ----------------------------------------------------------------------


def per_character(nats_per_token: float, n_tokens: int, n_characters: int) -> float:
    """The loss on a text in bits a character, from its mean in nats a token."""
    raise NotImplementedError


def per_character_solution(nats_per_token: float, n_tokens: int, n_characters: int) -> float:
    """All nats of the text, in bits, shared out among its characters."""
    return nats_per_token * n_tokens / math.log(2) / n_characters


def _character_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    n_tokens, n_characters = distinct_sizes(2, generator, low=20, high=90)
    nats = _between(2.0, 6.0, generator)
    found = candidate(nats, n_tokens, n_characters)
    if not math.isclose(candidate(nats, n_tokens, 2 * n_characters), found / 2, rel_tol=1e-5):
        raise Hint("With twice as many characters each should bear half. What is shared by what?")
    if not math.isclose(candidate(nats, 2 * n_tokens, n_characters), 2 * found, rel_tol=1e-5):
        raise Hint("Twice as many tokens, each as surprising, should make twice the bits in all.")
    if found < nats * n_tokens / n_characters * 0.99:
        raise Hint("A bit is less than a nat, so there should be more bits than nats, not fewer.")
    if not math.isclose(candidate(math.log(2), 1, 1), 1, rel_tol=1e-5):
        raise Hint("One fair coin a character is log 2 nats and 1 bit. In which unit is yours?")


def _characters_a_token(nats_per_token: float, n_tokens: int, n_characters: int) -> float:
    return nats_per_token / math.log(2) * n_characters / n_tokens


def _tokens_forgotten(nats_per_token: float, n_tokens: int, n_characters: int) -> float:
    return nats_per_token / math.log(2) / n_characters


def _times_log_two(nats_per_token: float, n_tokens: int, n_characters: int) -> float:
    return nats_per_token * n_tokens * math.log(2) / n_characters


def _still_in_nats(nats_per_token: float, n_tokens: int, n_characters: int) -> float:
    return nats_per_token * n_tokens / n_characters


# --- 2. temperature ---------------------------------------------------------------------------


def temperature(logits: Float[Tensor, "posn word"], T: float) -> Float[Tensor, "posn word"]:
    """The probabilities from which the next token is drawn at temperature `T` > 0."""
    raise NotImplementedError


def temperature_solution(
    logits: Float[Tensor, "posn word"], T: float
) -> Float[Tensor, "posn word"]:
    """softmax(logits / T); torch's softmax takes the largest away first, so nothing overflows."""
    return (logits / T).softmax(-1)


def _temperature_specification(
    candidate: Callable[..., Tensor], generator: torch.Generator
) -> None:
    posn, n_words = distinct_sizes(2, generator, low=3)
    logits, T = draw(posn, n_words, generator=generator), _between(1.5, 3.0, generator)
    found, plain = candidate(logits, T), candidate(logits, 1.0)
    require_shape(found, posn, n_words)
    if not _sums_to_one(found):
        raise Hint("Each row should sum to one at every temperature. At T = 2, what is your sum?")
    if equal(found, plain):
        raise Hint("T changes nothing: it cancels. What should it divide, before the softmax?")
    if bool((found.amax(-1) > plain.amax(-1)).any()):
        raise Hint("Hotter should be more even: yours is surer at a high T than at T = 1.")
    odds, wanted = found.log().diff(dim=-1), logits.diff(dim=-1) / T
    if not equal(odds, wanted):
        raise Hint("The log of the odds of two words should be their logits' difference over T.")
    if not bool(candidate(1000 * logits, 0.1).isfinite().all()):
        raise Hint("Large logits overflow. A row may lose any constant before exp: which helps?")


def _times_temperature(logits: Tensor, T: float) -> Tensor:
    return (logits * T).softmax(-1)


def _probabilities_divided(logits: Tensor, T: float) -> Tensor:
    return logits.softmax(-1) / T


def _divided_and_normalized(logits: Tensor, T: float) -> Tensor:
    shares = logits.softmax(-1) / T
    return shares / shares.sum(-1, keepdim=True)


def _overflowing(logits: Tensor, T: float) -> Tensor:
    weights = (logits / T).exp()
    return weights / weights.sum(-1, keepdim=True)


# --- 3. the nucleus ---------------------------------------------------------------------------


def nucleus(probabilities: Float[Tensor, " word"], p: float) -> Float[Tensor, " word"]:
    """Keep the fewest tokens that have mass `p` or more together, the others get 0."""
    raise NotImplementedError


def nucleus_solution(probabilities: Float[Tensor, " word"], p: float) -> Float[Tensor, " word"]:
    """A token stays when those before it, the more probable ones, have less than `p`."""
    ordered, places = probabilities.sort(descending=True)
    before = ordered.cumsum(0) - ordered
    kept = torch.zeros_like(probabilities)
    kept[places] = torch.where(before < p, ordered, 0)
    return kept / kept.sum()


def _nucleus_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    size, others = distinct_sizes(2, generator, high=7)
    probabilities = draw(size + others, generator=generator).softmax(0)
    ordered = probabilities.sort(descending=True).values
    p = float(ordered[:size].sum() - ordered[size - 1] / 2)
    found = candidate(probabilities, p)
    require_shape(found, size + others)
    kept = found > 0
    if not torch.equal(candidate(probabilities.roll(1), p) > 0, kept.roll(1)):
        raise Hint("Each token should stay at its place. Did you leave the row sorted?")
    if (mass := probabilities[kept].sum()) < p:
        raise Hint("The kept set should have mass p or more. Is the token that gets there in it?")
    if not torch.equal(kept, probabilities >= ordered[size - 1]):
        raise Hint("Fewer tokens have mass p: the most probable first, and then stop.")
    if not _sums_to_one(found):
        raise Hint("What is kept should sum to one, or no token could be drawn from it.")
    if not equal(found[kept], probabilities[kept] / mass):
        raise Hint("Among the kept tokens the proportions should stay as they were.")
    if int((candidate(probabilities, 1e-6) > 0).sum()) != 1:
        raise Hint("However small p is, one token should be left: the most probable.")


def _crossing_token_dropped(probabilities: Tensor, p: float) -> Tensor:
    ordered, places = probabilities.sort(descending=True)
    kept = torch.zeros_like(probabilities)
    kept[places] = torch.where(ordered.cumsum(0) <= p, ordered, 0)
    return kept / kept.sum()


def _not_normalized(probabilities: Tensor, p: float) -> Tensor:
    ordered, places = probabilities.sort(descending=True)
    kept = torch.zeros_like(probabilities)
    kept[places] = torch.where(ordered.cumsum(0) - ordered < p, ordered, 0)
    return kept


def _left_sorted(probabilities: Tensor, p: float) -> Tensor:
    ordered = probabilities.sort(descending=True).values
    kept = torch.where(ordered.cumsum(0) - ordered < p, ordered, 0)
    return kept / kept.sum()


def _least_first(probabilities: Tensor, p: float) -> Tensor:
    ordered, places = probabilities.sort()
    kept = torch.zeros_like(probabilities)
    kept[places] = torch.where(ordered.cumsum(0) - ordered < p, ordered, 0)
    return kept / kept.sum()


# --- 4. two models in one ---------------------------------------------------------------------


def mix(
    first: Float[Tensor, " token"], second: Float[Tensor, " token"], weight: float
) -> Float[Tensor, " token"]:
    """The loss on each token of a mixture: `weight` of the first model, the rest of the second.

    `first` and `second` are the two models' losses in nats on the same tokens.
    """
    raise NotImplementedError


def mix_solution(
    first: Float[Tensor, " token"], second: Float[Tensor, " token"], weight: float
) -> Float[Tensor, " token"]:
    """Back to the probabilities, which are what is mixed, and to nats again."""
    probability = weight * (-first).exp() + (1 - weight) * (-second).exp()
    return -probability.log()


def _mix_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (count,) = distinct_sizes(1, generator, low=4)
    first, second = (6 * torch.rand(2, count, generator=generator, dtype=torch.float64)).unbind()
    weight, room = _between(0.2, 0.8, generator), 1e-6
    found = candidate(first, second, weight)
    require_shape(found, count)
    if bool((found > weight * first + (1 - weight) * second + room).any()):
        raise Hint("A mixture should never lose more than the average of the two losses.")
    hopeless = candidate(torch.zeros_like(first), torch.full_like(first, 20.0), weight)
    if bool((hopeless > -math.log(weight) + room).any()):
        raise Hint("If the first is certain and right, what probability is left in the mixture?")
    for one, other in ((first, second), (second, first)):
        if not equal(candidate(one, other, 1.0), one):
            raise Hint("With all weight on the first its loss should come out. Does yours choose?")
    if not equal((-found).exp(), weight * (-first).exp() + (1 - weight) * (-second).exp()):
        raise Hint("Each token's probability should be the weighted mean of the two models'.")


def _mean_of_losses(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return weight * first + (1 - weight) * second


def _mean_of_perplexities(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return (weight * first.exp() + (1 - weight) * second.exp()).log()


def _better_of_both(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return torch.minimum(first, second)


# --- 5. the logit lens ------------------------------------------------------------------------


def logit_lens(
    stream: Float[Tensor, "depth posn d_model"],
    gain: Float[Tensor, " d_model"],
    W_U: Float[Tensor, "d_model word"],
    eps: float,
) -> Float[Tensor, "depth posn word"]:
    """What the model would predict if it ended at each depth: final RMSNorm, then `W_U`."""
    raise NotImplementedError


def logit_lens_solution(
    stream: Float[Tensor, "depth posn d_model"],
    gain: Float[Tensor, " d_model"],
    W_U: Float[Tensor, "d_model word"],
    eps: float,
) -> Float[Tensor, "depth posn word"]:
    """Each vector by its own root mean square; RMSNorm takes no mean away."""
    scale = (stream.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (stream / scale * gain) @ W_U


def _lens_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    depths, posn, width, n_words = distinct_sizes(4, generator)
    stream = draw(depths, posn, width, generator=generator)
    W_U = draw(width, n_words, generator=generator)
    gain, eps = 0.5 + draw(width, generator=generator).abs(), 1e-9
    logits = candidate(stream, gain, W_U, eps)
    require_shape(logits, depths, posn, n_words)
    if not equal(candidate(10 * stream, gain, W_U, eps), logits):
        raise Hint("Streams ten times longer should give the same logits: what does a norm do?")
    louder = stream.clone()
    louder[0] *= 10
    if not equal(candidate(louder, gain, W_U, eps), logits):
        raise Hint("One depth made longer should change nothing. Whose length do you divide by?")
    if equal(candidate(stream + 1, gain, W_U, eps), logits):
        raise Hint("One added to all coordinates should matter: which norm takes the mean away?")
    norm = torch.nn.functional.rms_norm(stream, (width,), gain, 0.5)
    if not equal(candidate(stream, gain, W_U, 0.5), norm @ W_U):
        raise Hint("Compare with torch's rms_norm(stream) @ W_U, with gain and with a large eps.")


def _lens_without_norm(stream: Tensor, gain: Tensor, W_U: Tensor, eps: float) -> Tensor:
    return (stream * gain) @ W_U


def _lens_centered(stream: Tensor, gain: Tensor, W_U: Tensor, eps: float) -> Tensor:
    return torch.nn.functional.layer_norm(stream, gain.shape, gain, None, eps) @ W_U


def _lens_with_the_last_scale(stream: Tensor, gain: Tensor, W_U: Tensor, eps: float) -> Tensor:
    scale = (stream[-1].pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (stream / scale * gain) @ W_U


# --- 6. the induction score -------------------------------------------------------------------


def induction_score(pattern: Float[Tensor, "head query key"], half: int) -> Float[Tensor, " head"]:
    """How much each head looks, in the second copy, at the token after the earlier occurrence.

    The model read the end-of-text mark at position 0, `half` random tokens, and the same again.
    """
    raise NotImplementedError


def induction_score_solution(
    pattern: Float[Tensor, "head query key"], half: int
) -> Float[Tensor, " head"]:
    """A token stood `half` positions earlier; the one after it is at `query - half + 1`."""
    query = torch.arange(half + 1, 2 * half + 1)
    return pattern[:, query, query - half + 1].mean(-1)


def _induction_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    half, heads = distinct_sizes(2, generator, low=3)
    length = 2 * half + 1
    scores = draw(heads, length, length, generator=generator)
    pattern = scores.masked_fill(torch.ones(length, length).triu(1) > 0, -torch.inf).softmax(-1)
    found = candidate(pattern, half)
    require_shape(found, heads)
    if not equal(candidate(_looking_back(half, length), half), torch.zeros(1)):
        raise Hint("The earlier occurrence itself should score 0: which token comes after it?")
    head = _looking_back(half - 1, length)
    if not equal(candidate(head, half), torch.ones(1)):
        raise Hint("A head that looks only there should score 1, a mean. Which axis is the query?")
    head[:, : half + 1] = torch.eye(length, dtype=head.dtype)[: half + 1]
    if not equal(candidate(head, half), torch.ones(1)):
        raise Hint("The first copy should not count. At which positions did a token come before?")
    looks = [pattern[:, q, q - half + 1] for q in range(half + 1, length)]
    if not equal(found, torch.stack(looks).mean(0)):
        raise Hint("The score should be the mean of the attention over all of the second copy.")


def _looking_back(distance: int, length: int) -> Tensor:
    """One head whose whole attention is `distance` positions back, or, too early, where it is."""
    query = torch.arange(length)
    pattern = torch.zeros(1, length, length, dtype=torch.float64)
    pattern[0, query, torch.where(query < distance, query, query - distance)] = 1
    return pattern


def _same_token(pattern: Tensor, half: int) -> Tensor:
    query = torch.arange(half + 1, 2 * half + 1)
    return pattern[:, query, query - half].mean(-1)


def _turned_around(pattern: Tensor, half: int) -> Tensor:
    query = torch.arange(half + 1, 2 * half + 1)
    return pattern[:, query - half + 1, query].mean(-1)


def _whole_diagonal(pattern: Tensor, half: int) -> Tensor:
    return pattern.diagonal(1 - half, dim1=1, dim2=2).mean(-1)


# --- 7. a bigram model that has seen little ---------------------------------------------------


def bigram(counts: Float[Tensor, "before word"], discount: float) -> Float[Tensor, "before word"]:
    """Kneser–Ney: the probability of each word after each word, from how often they met.

    Row i, column j: how often word j followed word i. `discount`, between 0 and 1, is taken from
    each count above 0 and given to the back-off.
    """
    raise NotImplementedError


def bigram_solution(
    counts: Float[Tensor, "before word"], discount: float
) -> Float[Tensor, "before word"]:
    """Discounted counts, and as back-off after how many different words a word was met."""
    met, total = counts > 0, counts.sum(1, keepdim=True)
    back = met.sum(0) / met.sum()
    kept = (counts - discount).clamp(min=0)
    given = discount * met.sum(1, keepdim=True) * back
    return torch.where(total > 0, (kept + given) / total, back)


def _bigram_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    counts, discount = _little_text(generator), _between(0.3, 0.9, generator)
    found = candidate(counts, discount)
    require_shape(found, *counts.shape)
    if not bool(found.isfinite().all()):
        raise Hint("The last word was never followed by any. Which probabilities are left to it?")
    if not _sums_to_one(found):
        raise Hint("Each row should sum to one. The discount took mass away: who gets it?")
    often = counts.clone()
    often[1, 0] *= 10
    if not equal(candidate(often, discount)[2], found[2]):
        raise Hint(
            "Francisco follows only San. Met ten times as often there, it should be no likelier "
            "elsewhere: what does your back-off count?"
        )
    rest = (found - (counts - discount).clamp(min=0) / counts.sum(1, keepdim=True))[:-1]
    spread = (counts > 0).sum(0) / (counts > 0).sum()
    if not equal(rest, rest.sum(1, keepdim=True) * spread):
        raise Hint(
            "The back-off goes to all words, those met in this row too. In which proportion?"
        )
    if not equal(found[-1], spread):
        raise Hint("After a word that nothing followed, only the back-off should be left.")


def _little_text(generator: torch.Generator) -> Tensor:
    """Counts in which word 0 follows only word 1, and nothing follows the last word."""
    (n_words,) = distinct_sizes(1, generator, low=5)
    counts = torch.randint(4, (n_words, n_words), generator=generator).double()
    counts[:, 2] += 1
    counts[:, [0, 3]] = 0
    counts[1, 0], counts[2, 3], counts[-1] = 5, 1, 0
    return counts


def _bigram_over(counts: Tensor, discount: float, back: Tensor) -> Tensor:
    """An interpolated bigram with any back-off."""
    total = counts.sum(1, keepdim=True)
    given = discount * (counts > 0).sum(1, keepdim=True) * back
    rows = ((counts - discount).clamp(min=0) + given) / total
    return torch.where(total > 0, rows, back)


def _frequency_behind(counts: Tensor, discount: float) -> Tensor:
    return _bigram_over(counts, discount, counts.sum(0) / counts.sum())


def _mass_not_given_back(counts: Tensor, discount: float) -> Tensor:
    return (counts - discount).clamp(min=0) / counts.sum(1, keepdim=True).clamp(min=1)


def _only_to_the_unmet(counts: Tensor, discount: float) -> Tensor:
    met, total = counts > 0, counts.sum(1, keepdim=True)
    unmet = ~met * met.sum(0)
    given = discount * met.sum(1, keepdim=True) * unmet / unmet.sum(1, keepdim=True)
    rows = ((counts - discount).clamp(min=0) + given) / total
    return torch.where(total > 0, rows, met.sum(0) / met.sum())


def _divided_by_nothing(counts: Tensor, discount: float) -> Tensor:
    met, total = counts > 0, counts.sum(1, keepdim=True)
    given = discount * met.sum(1, keepdim=True) * met.sum(0) / met.sum()
    return ((counts - discount).clamp(min=0) + given) / total


# --- all of them ------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        name="bits-a-character",
        prompt="Losses in nats a token cannot be compared between tokenizers: one with longer "
        "tokens has fewer of them. Convert the mean loss of a text to *bits a character*. A bit "
        "is $\\log 2$ nats.",
        stub=per_character,
        solution=per_character_solution,
        specification=_character_specification,
        wrong=(
            Wrong(_characters_a_token, "What is shared by what?"),
            Wrong(_tokens_forgotten, "Twice as many tokens"),
            Wrong(_times_log_two, "A bit is less than a nat"),
            Wrong(_still_in_nats, "In which unit is yours?"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="temperature",
        prompt="Sampling at a temperature $T$ makes the model bolder or more timid without "
        "training. Write the probabilities from which the next token is drawn: at $T = 1$ the "
        "model's own, the most probable word alone as $T \\to 0$, all words alike as "
        "$T \\to \\infty$.",
        stub=temperature,
        solution=temperature_solution,
        specification=_temperature_specification,
        wrong=(
            Wrong(_times_temperature, "Hotter should be more even"),
            Wrong(_probabilities_divided, "Each row should sum to one"),
            Wrong(_divided_and_normalized, "T changes nothing"),
            Wrong(_overflowing, "Large logits overflow"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="the-nucleus",
        prompt="Nucleus (top-p) sampling forgets the long tail of improbable tokens. Keep the "
        "smallest set of tokens whose mass is at least $p$, with $0 < p \\le 1$, each at its "
        "place, and share out the mass among them in the old proportions.",
        stub=nucleus,
        solution=nucleus_solution,
        specification=_nucleus_specification,
        wrong=(
            Wrong(_crossing_token_dropped, "Is the token that gets there in it?"),
            Wrong(_not_normalized, "should sum to one"),
            Wrong(_left_sorted, "Did you leave the row sorted?"),
            Wrong(_least_first, "the most probable first"),
        ),
    ),
    Exercise(
        name="two-models-in-one",
        prompt="Two models, here the transformer and a table of counts, have read the same text. "
        "Their mixture gives each token the weighted mean of the two probabilities. From the two "
        "losses, write the loss of the mixture on each token. (Mixed with a model that is worse "
        "on average, can a model become better?)",
        stub=mix,
        solution=mix_solution,
        specification=_mix_specification,
        wrong=(
            Wrong(_mean_of_losses, "what probability is left in the mixture?"),
            Wrong(_mean_of_perplexities, "the average of the two losses"),
            Wrong(_better_of_both, "Does yours choose?"),
        ),
        answer="It can: the logarithm is concave, so the mixture's loss is at most the weighted "
        "average of the losses, and less wherever the two disagree. It never loses more than "
        "$-\\log(\\text{weight})$ nats against the model that has that weight.",
    ),
    Exercise(
        name="the-logit-lens-at-each-depth",
        prompt="Let the model end early, at each depth at once: the final RMSNorm with its gain "
        "and `eps`, then $W_U$, on the streams before the first layer, after the first, and so on.",
        stub=logit_lens,
        solution=logit_lens_solution,
        specification=_lens_specification,
        wrong=(
            Wrong(_lens_without_norm, "Streams ten times longer"),
            Wrong(_lens_centered, "which norm takes the mean away?"),
            Wrong(_lens_with_the_last_scale, "Whose length do you divide by?"),
        ),
    ),
    Exercise(
        name="the-induction-score",
        prompt="The model read the end-of-text mark, `half` random tokens, and the same `half` "
        "tokens again: `2 * half + 1` positions. Score each head by its mean attention, from the "
        "positions of the second copy, to the token that came *after* the earlier occurrence of "
        "the present token.",
        stub=induction_score,
        solution=induction_score_solution,
        specification=_induction_specification,
        wrong=(
            Wrong(_same_token, "which token comes after it?"),
            Wrong(_turned_around, "Which axis is the query?"),
            Wrong(_whole_diagonal, "The first copy should not count"),
        ),
    ),
    Exercise(
        name="a-bigram-that-has-seen-little",
        prompt="Interpolated Kneser–Ney with one discount $d$: after the word $v$, the word $w$ "
        "has\n\n$$\np(w \\mid v) = \\frac{\\max(c_{vw} - d, 0) + d\\, N_v\\, k(w)}{\\sum_u c_{vu}},"
        "\n$$\n\n"
        "where $N_v$ is how many different words followed $v$. Choose the back-off $k$ so that "
        "*Francisco*, which is frequent but follows only *San*, is improbable elsewhere; and say "
        "what stands in a row without counts.",
        stub=bigram,
        solution=bigram_solution,
        specification=_bigram_specification,
        wrong=(
            Wrong(_frequency_behind, "what does your back-off count?"),
            Wrong(_mass_not_given_back, "who gets it?"),
            Wrong(_only_to_the_unmet, "those met in this row too"),
            Wrong(_divided_by_nothing, "was never followed by any"),
        ),
        level="challenge",
    ),
    Exercise(
        name="which-words-need-depth",
        prompt="Write down, before you look, five kinds of tokens (for example: *the* and *of*, "
        "names that stood earlier in the window, closing quotation marks, second pieces of a word, "
        "numbers) in the order in which you expect the last two layers to help them. Then compare "
        "the loss of the lens by kind and depth. Where were you wrong, and does an untrained model "
        "or shuffled text give the same order?",
        level="open-ended",
        answer="No single answer. A good one fixes the kinds before looking, gives the number of "
        "tokens and an interval for each, and uses held-out windows. It does not take a bad early "
        "lens for ignorance: the unembedding was never trained to read an early stream, and here "
        "it is also the embedding, so the first depth mostly reads back the token that stands "
        "there. A matrix fitted for each depth is the fairer comparison.",
    ),
    Exercise(
        name="beat-the-model-by-counting",
        prompt="Find a text of a hundred tokens or more on which the Kneser–Ney trigram has a lower "
        "loss than the transformer. What is it about the text? Then mix the two (exercise *Two "
        "models in one*) on other text: what does counting still add?",
        level="open-ended",
        answer="No single answer. Places to look: phrases that stand word for word in the training "
        "books, headings and lists, rare names, and text whose context beyond two words was "
        "destroyed. A good answer chooses the text without looking at the losses, or chooses on one "
        "half and measures on the other, since the best of many texts always looks good; gives "
        "both losses token by token; and fits the weight of the mixture on text that it does "
        "not report.",
    ),
)
