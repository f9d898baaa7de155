"""The exercises of the chapter on Weber's law.

Specifications state properties on random numbers in float64; they never call a solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook.exercises import Exercise, Hint, Wrong, draw, equal, require_shape

# --- 1. pairs ---------------------------------------------------------------------------------


def pairs_with(mean: int, size: int) -> list[tuple[int, int]]:
    """All (m, n) whose difference has this size and whose sum is as close to 2 · mean as can be."""
    raise NotImplementedError


def pairs_with_solution(mean: int, size: int) -> list[tuple[int, int]]:
    """An odd size asks for the two odd sums beside twice the mean."""
    sums = [2 * mean] if size % 2 == 0 else [2 * mean - 1, 2 * mean + 1]
    halves = [((total - size) // 2, (total + size) // 2) for total in sums]
    return halves + [(n, m) for m, n in halves]


def _pairs_specification(candidate: Callable, generator: torch.Generator) -> None:
    mean = int(torch.randint(10, 40, (), generator=generator))
    for size in (2, 3):
        found = [tuple(pair) for pair in candidate(mean, size)]
        if any(isinstance(k, float) and k != int(k) for pair in found for k in pair):
            raise Hint("A text has no half words. Which sums go with an odd difference?")
        if any(abs(n - m) != size for m, n in found):
            raise Hint(
                f"For size {size} each pair should differ by {size}. What do yours differ by?"
            )
        if {n > m for m, n in found} != {True, False}:
            raise Hint(
                "Each side should be the longer one equally often. Which side is it in yours?"
            )
        sums = {m + n for m, n in found}
        if size % 2 and len(sums) == 1:
            raise Hint("One odd sum alone moves the mean by a half. Which other sum is as close?")
        if sums != ({2 * mean} if size % 2 == 0 else {2 * mean - 1, 2 * mean + 1}):
            raise Hint(
                f"For mean {mean} and size {size} the sums should be as close to {2 * mean}."
            )
        if len(found) != 2 * len(sums) or len(set(found)) != len(found):
            raise Hint(
                "Each sum should come once with either side longer. Is a pair missing or double?"
            )


def _halves(mean: int, size: int) -> list[tuple[float, float]]:
    return [(mean - size / 2, mean + size / 2), (mean + size / 2, mean - size / 2)]


def _one_sum(mean: int, size: int) -> list[tuple[int, int]]:
    m = mean - size // 2
    return [(m, m + size), (m + size, m)]


def _one_side(mean: int, size: int) -> list[tuple[int, int]]:
    sums = [2 * mean] if size % 2 == 0 else [2 * mean - 1, 2 * mean + 1]
    return [((total - size) // 2, (total + size) // 2) for total in sums]


# --- 2. a psychometric function ---------------------------------------------------------------


def p_right(
    difference: Float[Tensor, " trial"], pse: float, jnd: float, lapse: float
) -> Float[Tensor, " trial"]:
    """P(right): logistic, one half at `pse`, three quarters one `jnd` further, with lapses."""
    raise NotImplementedError


def p_right_solution(
    difference: Float[Tensor, " trial"], pse: float, jnd: float, lapse: float
) -> Float[Tensor, " trial"]:
    """The logistic function of ln 3 is three quarters; a lapse is a coin toss."""
    sure = torch.sigmoid(math.log(3) * (difference - pse) / jnd)
    return lapse / 2 + (1 - lapse) * sure


def _p_specification(candidate: Callable, generator: torch.Generator) -> None:
    pse, jnd, lapse = (torch.rand(3, generator=generator, dtype=torch.float64) + 0.2).tolist()
    lapse = lapse / 6
    at = torch.tensor([pse, pse + jnd, pse - jnd], dtype=torch.float64)
    found = candidate(at, pse, jnd, 0.0)
    require_shape(found, 3)
    if not equal(found[:1], at.new_tensor([0.5])):
        raise Hint("At the PSE both answers should be equally likely. Where is yours one half?")
    if not equal(found[1:], at.new_tensor([0.75, 0.25])):
        raise Hint(
            "One JND from the PSE it should be 0.75. At which η is the logistic function that?"
        )
    far = at.new_tensor([-1e4, 1e4])
    if not equal(candidate(far, pse, jnd, lapse), at.new_tensor([lapse / 2, 1 - lapse / 2])):
        raise Hint("Far out a judge who lapses tosses a coin. How often is he right then, by luck?")
    if not equal(candidate(at, pse, jnd, lapse), lapse / 2 + (1 - lapse) * found):
        raise Hint("With lapses it should be a mixture of the curve and of one half.")


def _slope_is_one_over_jnd(difference: Tensor, pse: float, jnd: float, lapse: float) -> Tensor:
    return lapse / 2 + (1 - lapse) * torch.sigmoid((difference - pse) / jnd)


def _lapses_are_always_wrong(difference: Tensor, pse: float, jnd: float, lapse: float) -> Tensor:
    return lapse + (1 - 2 * lapse) * torch.sigmoid(math.log(3) * (difference - pse) / jnd)


def _pse_on_the_wrong_side(difference: Tensor, pse: float, jnd: float, lapse: float) -> Tensor:
    return lapse / 2 + (1 - lapse) * torch.sigmoid(math.log(3) * (difference + pse) / jnd)


# --- 3. the four exponents --------------------------------------------------------------------


def deviation(pool: str, noise: str, words: int, sigma: float) -> float:
    """Standard deviation, in words of n - m, of the error of a pool over `words` values of ±1.

    `pool` is "sum" or "average"; `noise`, of standard deviation `sigma`, is in "each word" or
    "after pooling". An error counts as many words as would change the pool by as much.
    """
    raise NotImplementedError


def deviation_solution(pool: str, noise: str, words: int, sigma: float) -> float:
    """The error of the pool, divided by what one word of difference changes."""
    error = sigma * (words**0.5 if noise == "each word" else 1.0)
    if pool == "average" and noise == "each word":
        error /= words
    return error / (1.0 if pool == "sum" else 1 / words)


def _deviation_specification(candidate: Callable, generator: torch.Generator) -> None:
    words = 2 * int(torch.randint(5, 20, (), generator=generator))
    sigma = 0.5 + float(torch.rand((), generator=generator))
    signs = torch.ones(words, dtype=torch.float64)
    signs[: words // 2] = -1
    for pool in ("sum", "average"):
        share = 1.0 if pool == "sum" else 1 / words
        for noise in ("each word", "after pooling"):
            inside = sigma * draw(8000, words, generator=generator) * (noise == "each word")
            after = sigma * draw(8000, generator=generator) * (noise == "after pooling")
            pooled = share * (signs + inside).sum(1) + after
            wanted = float((pooled / share).std())
            found = float(candidate(pool, noise, words, sigma))
            if abs(found / wanted - 1) > 0.06:
                raise Hint(_deviation_hint(pool, noise, found / wanted, words))


def _deviation_hint(pool: str, noise: str, ratio: float, words: int) -> str:
    where = f"{pool}, noise {'in ' if noise == 'each word' else ''}{noise}"
    if pool == "average" and abs(ratio * words - 1) < 0.2:
        return f"{where}: that is the pool's error. How many words of difference change it as much?"
    if noise == "each word" and (abs(ratio / words**0.5 - 1) < 0.2):
        return f"{where}: the errors of single words partly cancel. Do variances or deviations add?"
    return f"{where}: yours is {ratio:.2g} times what a simulation gives. Which step differs?"


def _pool_error(pool: str, noise: str, words: int, sigma: float) -> float:
    inside = words**0.5 if pool == "sum" else words**-0.5
    return sigma * (inside if noise == "each word" else 1.0)


def _deviations_add(pool: str, noise: str, words: int, sigma: float) -> float:
    if noise == "each word":
        return sigma * words
    return sigma * (1.0 if pool == "sum" else words)


def _always_constant(pool: str, noise: str, words: int, sigma: float) -> float:
    return sigma


# --- 4. what attention makes of counts --------------------------------------------------------


def averaged(scores: Float[Tensor, "head 3"], m: int, n: int) -> Float[Tensor, " head"]:
    """What a head mixes from m words (value -1), n words (+1) and one BOS (0), one score a kind.

    `scores` holds, for each head, the score of every left word, of every right word, and of BOS.
    """
    raise NotImplementedError


def averaged_solution(scores: Float[Tensor, "head 3"], m: int, n: int) -> Float[Tensor, " head"]:
    """Each kind's weight is its number times exp(score); softmax divides by their sum."""
    weights = scores.exp() * torch.tensor([m, n, 1], dtype=scores.dtype)
    return (weights[:, 1] - weights[:, 0]) / weights.sum(1)


def _averaged_specification(candidate: Callable, generator: torch.Generator) -> None:
    m, n = (int(k) for k in torch.randint(2, 12, (2,), generator=generator))
    n += n == m
    scores = draw(5, 3, generator=generator)
    found = candidate(scores, m, n)
    require_shape(found, 5)
    without = scores.clone()
    without[:, :2], without[:, 2] = 0.0, -1e4
    if not equal(candidate(without, m, n), torch.full((5,), (n - m) / (n + m)).double()):
        raise Hint(
            "Without BOS, equal scores should give (n - m) / (n + m). What does softmax divide by?"
        )
    every = torch.cat([scores[:, :1].expand(5, m), scores[:, 1:2].expand(5, n), scores[:, 2:]], 1)
    values = torch.cat([-torch.ones(m), torch.ones(n), torch.zeros(1)]).double()
    if not equal(found, every.softmax(1) @ values):
        raise Hint(
            "It should be what softmax over all m + n + 1 positions gives. Does BOS take a share?"
        )


def _kinds_not_words(scores: Tensor, m: int, n: int) -> Tensor:
    pattern = scores.softmax(1)
    return n * pattern[:, 1] - m * pattern[:, 0]


def _bos_forgotten(scores: Tensor, m: int, n: int) -> Tensor:
    left, right = m * scores[:, 0].exp(), n * scores[:, 1].exp()
    return (right - left) / (left + right)


# --- 5. the notes' test -----------------------------------------------------------------------


def statistic(
    right: Float[Tensor, " cell"],
    trials: Float[Tensor, " cell"],
    p_small: Float[Tensor, " cell"],
    p_large: Float[Tensor, " cell"],
) -> Float[Tensor, ""]:
    """The likelihood-ratio statistic of two fitted models, from their probabilities of right."""
    raise NotImplementedError


def statistic_solution(
    right: Float[Tensor, " cell"],
    trials: Float[Tensor, " cell"],
    p_small: Float[Tensor, " cell"],
    p_large: Float[Tensor, " cell"],
) -> Float[Tensor, ""]:
    """Twice the difference of the log-likelihoods; the binomial coefficients cancel."""
    left = trials - right
    gain = right * (p_large / p_small).log() + left * ((1 - p_large) / (1 - p_small)).log()
    return 2 * gain.sum()


def _statistic_specification(candidate: Callable, generator: torch.Generator) -> None:
    trials = torch.randint(5, 30, (6,), generator=generator).double()
    right = (trials * torch.rand(6, generator=generator, dtype=torch.float64)).floor()
    small, large = 0.1 + 0.8 * torch.rand(2, 6, generator=generator, dtype=torch.float64)
    found = torch.as_tensor(candidate(right, trials, small, large))
    require_shape(found)
    if not equal(torch.as_tensor(candidate(right, trials, small, small)), torch.zeros(()).double()):
        raise Hint("Two models that say the same should differ by 0.")

    def value(p: Tensor) -> Tensor:
        return torch.distributions.Binomial(trials, probs=p).log_prob(right).sum()

    wanted = 2 * (value(large) - value(small))
    if equal(found, -wanted):
        raise Hint(
            "The larger model is at least as likely, so it should be above 0. Which minus which?"
        )
    if equal(2 * found, wanted):
        raise Hint("χ² is the law of *twice* the difference. Where is the factor?")
    if not equal(found, wanted):
        raise Hint("Both answers should count: what does a cell with only left answers give?")


def _without_the_two(right: Tensor, trials: Tensor, p_small: Tensor, p_large: Tensor) -> Tensor:
    left = trials - right
    gain = right * (p_large / p_small).log() + left * ((1 - p_large) / (1 - p_small)).log()
    return gain.sum()


def _right_answers_only(right: Tensor, trials: Tensor, p_small: Tensor, p_large: Tensor) -> Tensor:
    return 2 * (right * (p_large / p_small).log()).sum()


def _wrong_way_round(right: Tensor, trials: Tensor, p_small: Tensor, p_large: Tensor) -> Tensor:
    return 2 * _without_the_two(right, trials, p_large, p_small)


EXERCISES = (
    Exercise(
        name="pairs-that-exist",
        prompt="The notes ask for a mean of exactly 20 and a difference of 1. Which whole numbers have "
        "both? Write the function that gives, for a mean and a size, all pairs whose difference has "
        "that size and whose sum is as close to twice the mean as can be.",
        stub=pairs_with,
        solution=pairs_with_solution,
        specification=_pairs_specification,
        wrong=(
            Wrong(_halves, "no half words"),
            Wrong(_one_sum, "One odd sum alone"),
            Wrong(_one_side, "Each side should be"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="a-curve-with-lapses",
        prompt="Write P(right) as a logistic function of $n - m$: one half at the PSE, three quarters "
        "one JND further, and with a share of trials (lapses) answered by a coin.",
        stub=p_right,
        solution=p_right_solution,
        specification=_p_specification,
        wrong=(
            Wrong(_slope_is_one_over_jnd, "At which η"),
            Wrong(_lapses_are_always_wrong, "tosses a coin"),
            Wrong(_pse_on_the_wrong_side, "At the PSE"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="derive-the-four-exponents",
        prompt="A head pools $N = n + m$ values, $-1$ for each word on the left and $+1$ for each on "
        "the right: their sum or their average. Noise of deviation $\\sigma$ is added to each value, "
        "or once to the pool. For each of the four: what is the evidence, what is the deviation of "
        "the error, and how many words of $n - m$ is that worth? Derive it on paper, read off how it "
        "grows with $N$, then write it down as code.",
        stub=deviation,
        solution=deviation_solution,
        specification=_deviation_specification,
        wrong=(
            Wrong(_pool_error, "How many words of difference"),
            Wrong(_deviations_add, "Do variances or deviations add?"),
            Wrong(_always_constant, "Which step differs?"),
        ),
        answer="Sum: one word of difference changes the pool by 1. Independent errors add by their "
        "variances, so noise in each word gives $\\sigma\\sqrt{N}$ (exponent ½), noise after pooling "
        "$\\sigma$ (exponent 0). Average: one word of difference changes the pool by $1/N$. Noise in "
        "each word gives an error of $\\sigma/\\sqrt{N}$, worth $\\sigma\\sqrt{N}$ words (½ again: "
        "dividing signal and noise alike changes nothing), noise after pooling an error of $\\sigma$, "
        "worth $\\sigma N$ words (exponent 1: Weber's law).",
    ),
    Exercise(
        name="what-attention-averages",
        prompt="A head reads $m$ words of value $-1$, $n$ words of value $+1$ and one BOS of value 0; "
        "all words of a side get one score. What does it mix? Write it without making the $m + n + 1$ "
        "positions. For which scores is the result close to $n - m$ up to a factor, over the range "
        "that you care about?",
        stub=averaged,
        solution=averaged_solution,
        specification=_averaged_specification,
        wrong=(
            Wrong(_kinds_not_words, "What does softmax divide by?"),
            Wrong(_bos_forgotten, "Does BOS take a share?"),
        ),
        answer="$(n e^{s_R} - m e^{s_L}) / (n e^{s_R} + m e^{s_L} + e^{s_B})$. Where BOS gets nearly "
        "all attention ($e^{s_B}$ much larger than the rest) the denominator is nearly constant, and "
        "the head gives a small multiple of $n - m$: a head with a sink can count.",
    ),
    Exercise(
        name="the-test-of-the-prediction",
        prompt="Two models were fitted to the same answers: one slope for all means (the notes), and "
        "a slope for each mean. Write the likelihood-ratio statistic. How many degrees of freedom has "
        "its χ² for three means?",
        stub=statistic,
        solution=statistic_solution,
        specification=_statistic_specification,
        wrong=(
            Wrong(_without_the_two, "Where is the factor?"),
            Wrong(_right_answers_only, "Both answers should count"),
            Wrong(_wrong_way_round, "Which minus which?"),
        ),
        answer="Three slopes instead of one: 2.",
    ),
    Exercise(
        name="why-not-add-the-sum",
        prompt="Somebody tests the notes' prediction by adding the term $c\\,(n + m)$ to the logit and "
        "asking whether $c$ is 0. Show on paper that a judge who obeys Weber's law exactly and has no "
        "bias of sides has $c = 0$. What does the term test instead? Which term would you add?",
        needs_kernel=False,
        answer="Exchange the sides: $n - m$ changes its sign, $n + m$ does not, and a judge without a "
        "bias must turn from $p$ into $1 - p$, so its logit is odd in $n - m$ at every $n + m$. A term in "
        "$n + m$ alone is even, so it must vanish. It tests whether longer texts draw answers to one "
        "side. Weber's law shows in the slope: add $(n - m)\\,(n + m)$, or a slope for each mean.",
    ),
    Exercise(
        name="how-many-trials",
        prompt="With ten trials a size and three means the notes' experiment has 90 answers. Use "
        "`coverage.power` to find how many trials a judge with a Weber fraction of your choice needs "
        "before the test of the prediction rejects it nine times in ten. First guess. Why does a judge "
        "that is *too good* need more trials again?",
        level="open-ended",
        answer="No single number: it depends on the threshold. It is lowest where the threshold at the "
        "middle mean lies among the differences shown. A judge who is nearly always right at "
        "differences of 1 to 3 says little about its slope, and so does one who guesses. With other "
        "differences (`Design(differences=...)`) the same judge needs fewer trials.",
    ),
    Exercise(
        name="words-or-tokens",
        prompt="Does a language model compare words, tokens or letters? Design the experiment with "
        "`stimuli.write(..., totals='equal')` and `totals='reversed'`, and say before you run it what "
        "a judge of words, one of tokens and one of letters would answer in each. Which control shows "
        "that the words themselves (short ones, rare ones) are not what is judged?",
        level="open-ended",
        answer="A judge of words is untouched by the totals; a judge of tokens is at chance with equal "
        "totals of tokens and below chance with reversed ones; and letters likewise. Compare the "
        "thresholds, not only the shares, and show the trials with `totals='free'` of the same words "
        "too: short words alone might change a threshold. Equal counts of words with unequal totals "
        "should be answered half and half by a judge of words.",
    ),
)
