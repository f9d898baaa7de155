"""The exercises of the chapter on in-context learning against weight decay.

Eight pairs of picture and label and a query: tokens 0, 2, … are pictures, 1, 3, … labels, the last is
the query. Specifications work in float64 and call no solution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook.exercises import Exercise, Hint, Wrong, distinct_sizes, draw, equal, require_shape

# --- 1. one step of AdamW's decay -------------------------------------------------------------


def decayed_step(
    w: Float[Tensor, " weight"], update: Float[Tensor, " weight"], lr: float, decay: float
) -> Float[Tensor, " weight"]:
    """The weights after one step with decoupled decay; ``update`` is Adam's direction."""
    raise NotImplementedError


def decayed_step_solution(
    w: Float[Tensor, " weight"], update: Float[Tensor, " weight"], lr: float, decay: float
) -> Float[Tensor, " weight"]:
    """The weights shrink by a factor of their own; the update comes beside it."""
    return (1 - lr * decay) * w - lr * update


def _decayed_step_specification(
    candidate: Callable[..., Tensor], generator: torch.Generator
) -> None:
    (count,) = distinct_sizes(1, generator)
    w, update = draw(count, generator=generator), draw(count, generator=generator)
    lr, decay = 0.1, 0.5
    require_shape(candidate(w, update, lr, decay), count)
    zero = torch.zeros_like(w)
    if not equal(candidate(w, update, lr, 0.0), w - lr * update):
        raise Hint("Without decay a plain step of Adam should be left. Which sign has it?")
    if equal(candidate(w, zero, 2 * lr, decay), candidate(w, zero, lr, decay)):
        raise Hint("Twice the learning rate shrinks the weights as before. What scales the decay?")
    if not equal(candidate(zero, update, lr, decay), -lr * update):
        raise Hint("Weights at zero have nothing to decay. Is the update itself shrunk?")
    if not equal(candidate(w, zero, lr, decay), (1 - lr * decay) * w):
        raise Hint("Without any gradient the weights should shrink by the factor 1 - lr · decay.")


def _without_learning_rate(w: Tensor, update: Tensor, lr: float, decay: float) -> Tensor:
    return (1 - decay) * w - lr * update


def _shrinks_the_update_too(w: Tensor, update: Tensor, lr: float, decay: float) -> Tensor:
    return (1 - lr * decay) * (w - lr * update)


def _grows(w: Tensor, update: Tensor, lr: float, decay: float) -> Tensor:
    return (1 + lr * decay) * w - lr * update


# --- 2. e-folds -------------------------------------------------------------------------------


def efolds(rates: Float[Tensor, " step"], decay: float) -> float:
    """By how many factors of e the decay alone would have shrunk a weight; ``rates`` are learning rates."""
    raise NotImplementedError


def efolds_solution(rates: Float[Tensor, " step"], decay: float) -> float:
    """Minus the logarithm of a product of factors 1 - rate · decay, to first order."""
    return float(decay * rates.sum())


def _efolds_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    count, decay = 400, 0.3
    rates = 1e-3 * torch.rand(count, generator=generator, dtype=torch.float64)
    found = float(candidate(rates, decay))
    close = 1e-2 * abs(found)
    if abs(float(candidate(torch.cat([rates, rates]), decay)) - 2 * found) > close:
        raise Hint("Training twice as long should give twice the e-folds. Do you add up?")
    if abs(float(candidate(2 * rates, decay)) - 2 * found) > close:
        raise Hint("Twice the learning rate should give twice the e-folds. Where does it enter?")
    left = float((1 - rates * decay).prod())
    if abs(found + float(torch.log(torch.tensor(left)))) > 1e-3:
        raise Hint(
            "A weight of 1 ends at the product of 1 - rate · decay. What is e to minus yours?"
        )


def _counts_steps(rates: Tensor, decay: float) -> float:
    return decay * len(rates)


def _mean_rate(rates: Tensor, decay: float) -> float:
    return float(decay * rates.mean())


def _halvings(rates: Tensor, decay: float) -> float:
    return -float((1 - rates * decay).prod().log2())


# --- 3. accuracy among the labels that are offered --------------------------------------------


def among_offered(
    logits: Float[Tensor, "episode label"],
    labels: Int[Tensor, "episode pair"],
    target: Int[Tensor, " episode"],
) -> float:
    """Share of episodes whose best label among those in the context is the target."""
    raise NotImplementedError


def among_offered_solution(
    logits: Float[Tensor, "episode label"],
    labels: Int[Tensor, "episode pair"],
    target: Int[Tensor, " episode"],
) -> float:
    """The logits of the context's labels, the best of them, and which label it is."""
    offered = logits.gather(1, labels)
    guess = labels.gather(1, offered.argmax(1, keepdim=True))[:, 0]
    return float((guess == target).double().mean())


def _among_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    count = distinct_sizes(1, generator, low=4)[0] * 2
    labels = torch.tensor([[5, 3, 5, 3]]).repeat(count, 1)
    target = torch.where(torch.arange(count) % 2 == 0, 5, 3)
    logits = -draw(count, 8, generator=generator).abs()
    logits[torch.arange(count), target] = 4.0
    logits[:, 0] = 9.0
    if abs(float(candidate(logits, labels, target)) - 1) > 1e-6:
        raise Hint("A label that is not in the context beat the right one. May it be said here?")
    if abs(float(candidate(logits - 20, labels, target)) - 1) > 1e-6:
        raise Hint("All logits are below zero here, and another label won. What value never wins?")
    order = torch.randperm(count, generator=generator)
    half = target.clone()
    half[order[: count // 2]] = 8 - half[order[: count // 2]]
    if abs(float(candidate(logits, labels, half)) - 0.5) > 1e-6:
        raise Hint("Half of the answers are wrong here. Do you compare *labels*, one an episode?")


def _over_all_labels(logits: Tensor, labels: Tensor, target: Tensor) -> float:
    return float((logits.argmax(1) == target).double().mean())


def _zero_for_the_others(logits: Tensor, labels: Tensor, target: Tensor) -> float:
    offered = torch.zeros_like(logits).scatter(1, labels, 1.0)
    return float(((logits * offered).argmax(1) == target).double().mean())


def _any_offered_label(logits: Tensor, labels: Tensor, target: Tensor) -> float:
    return float((labels == target[:, None]).any(1).double().mean())


# --- 4. where the query looks -----------------------------------------------------------------


def label_gap(
    pattern: Float[Tensor, "episode query key"], match: Bool[Tensor, "episode pair"]
) -> float:
    """Attention of the query on its class's labels less that on the other labels, mean over episodes."""
    raise NotImplementedError


def label_gap_solution(
    pattern: Float[Tensor, "episode query key"], match: Bool[Tensor, "episode pair"]
) -> float:
    """The last row, every second key from the first label on, with a sign for each pair."""
    labels = pattern[:, -1, 1::2]
    return float((labels * (2 * match.to(pattern) - 1)).sum(1).mean())


def _gap_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    (count,) = distinct_sizes(1, generator, low=3)
    match = torch.tensor([True, False, True, False]).repeat(count, 1)

    def gap(keys: list[int], of: int = -1) -> float:
        pattern = torch.zeros(count, 9, 9, dtype=torch.float64)
        pattern[:, of, keys] = 1 / len(keys)
        return float(candidate(pattern, match))

    if abs(gap([1], of=3)) > 1e-9:
        raise Hint("A label looked at a label, and the gap moved. Whose attention is it about?")
    if abs(gap([0, 4])) > 1e-9:
        raise Hint("The query looks at pictures only. Which of the keys are labels?")
    if abs(gap([1, 5]) - 1) > 1e-9:
        raise Hint("All attention is on the right labels, which should give 1. Sum or mean?")
    if abs(gap([1, 5, 3, 7])) > 1e-9:
        raise Hint("Whoever looks at all labels alike knows nothing, which should give 0.")
    if abs(gap([3, 7]) + 1) > 1e-9:
        raise Hint("All attention is on the wrong labels, which should give -1.")


def _on_the_pictures(pattern: Tensor, match: Tensor) -> float:
    return float((pattern[:, -1, 0:-1:2] * (2 * match.to(pattern) - 1)).sum(1).mean())


def _mass_alone(pattern: Tensor, match: Tensor) -> float:
    return float((pattern[:, -1, 1::2] * match.to(pattern)).sum(1).mean())


def _mean_over_labels(pattern: Tensor, match: Tensor) -> float:
    return float((pattern[:, -1, 1::2] * (2 * match.to(pattern) - 1)).mean())


# --- 5. the best of eight ---------------------------------------------------------------------


def honest_best(peaks: Float[Tensor, "seed decay"]) -> float:
    """Mean score of the best decay, each seed scored at the decay that is best for the *others*."""
    raise NotImplementedError


def honest_best_solution(peaks: Float[Tensor, "seed decay"]) -> float:
    """Leave a seed out, choose on the rest, score on it."""
    others = peaks.sum(0, keepdim=True) - peaks
    chosen = others.argmax(1, keepdim=True)
    return float(peaks.gather(1, chosen).mean())


def _best_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    seeds, decays = distinct_sizes(2, generator, low=4, high=8)
    level = draw(decays, generator=generator)
    if abs(float(candidate(level.repeat(seeds, 1))) - float(level.max())) > 1e-9:
        raise Hint("With equal seeds the best column should be found. Which axis are the decays?")
    lucky = torch.zeros(seeds, seeds + 1, dtype=torch.float64)
    lucky[:, :seeds] = torch.eye(seeds).double()
    lucky[:, -1] = 0.5 / seeds
    found = float(candidate(lucky))
    if abs(found - 1) < 1e-9:
        raise Hint("Each seed took its own lucky decay. May it choose where it is scored?")
    if abs(found - 1 / seeds) < 1e-9:
        raise Hint("One lucky run decided for all, itself included. Who may not vote?")
    if abs(found) > 1e-9:
        raise Hint(
            "Every column but the last is one run's luck. What is left for the seed left out?"
        )


def _best_of_each_seed(peaks: Tensor) -> float:
    return float(peaks.max(1).values.mean())


def _best_on_all(peaks: Tensor) -> float:
    return float(peaks.mean(0).max())


def _best_seed(peaks: Tensor) -> float:
    return float(peaks.mean(1).max())


# --- 6. sure, and right? ----------------------------------------------------------------------


def calibration(
    sure: Float[Tensor, " episode"], right: Bool[Tensor, " episode"], bins: int
) -> float:
    """Expected calibration error: mean over episodes of the gap between being sure and being right."""
    raise NotImplementedError


def calibration_solution(
    sure: Float[Tensor, " episode"], right: Bool[Tensor, " episode"], bins: int
) -> float:
    """In each bin the mean gap, its size, weighted with the share of episodes."""
    place = (sure * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=sure.dtype).index_add(0, place, right.to(sure) - sure)
    return float(gaps.abs().sum() / len(sure))


def _calibration_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    count = distinct_sizes(1, generator, low=4)[0] * 4
    yes = torch.ones(count, dtype=torch.bool)
    quarter = torch.arange(count) % 4 != 0

    def error(sure: Tensor, right: Tensor) -> float:
        return float(candidate(sure.double(), right, 10))

    if error(torch.full((count,), 0.75), quarter) > 1e-6:
        raise Hint("Three answers in four are right, said with 0.75. Who is compared with whom?")
    both = torch.cat([torch.full((count,), 0.95), torch.full((count,), 0.55)])
    fine = torch.cat([~yes, yes])
    if abs(error(both, fine) - (0.95 + 0.45) / 2) > 1e-6:
        raise Hint("Too sure in one bin and too shy in another do not make good. What of the sign?")
    uneven = torch.cat([torch.full((3 * count,), 0.95), torch.full((count,), 0.55)])
    most = torch.cat([yes.repeat(3), ~yes])
    if abs(error(uneven, most) - (3 * 0.05 + 0.55) / 4) > 1e-6:
        raise Hint("One bin holds three times as many episodes. Does it count three times?")


def _answer_by_answer(sure: Tensor, right: Tensor, bins: int) -> float:
    return float((right.to(sure) - sure).abs().mean())


def _with_its_sign(sure: Tensor, right: Tensor, bins: int) -> float:
    return float((sure - right.to(sure)).mean().abs())


def _all_bins_alike(sure: Tensor, right: Tensor, bins: int) -> float:
    place = (sure * bins).long().clamp(max=bins - 1)
    gaps = [(right.to(sure) - sure)[place == b].mean().abs() for b in place.unique()]
    return float(torch.stack(gaps).mean())


# --- the list ---------------------------------------------------------------------------------

_TWO_MATRICES = """Each factor shrinks to $e^{-E}$ of its size, so a product of $m$ of them to $e^{-mE}$:
doubling every matrix multiplies the product by $2^m$, and decay is such a factor below one. The path of this
chapter needs the scores of two heads ($W_Q W_K^\\top$ each) and what the first one writes ($W_V W_O$) to reach
the keys of the second. With one caveat: the norm before each block divides the stream by its size, so where
*everything* that is added shrinks alike, the norms undo some of it. What is exempt from decay (label vectors,
positions) does not shrink, and then counts for more. An answer by heart can be as short as embedder and
readout; the context's path has those and two layers of attention between, so it pays more. Decay is no neutral
tax on weights: it taxes depth."""

_EQUAL_WHAT = """At equal tokens each of 100 classes is seen 16 times as often as each of 1,600: if few classes
are memorized sooner, that alone could be why. At equal sequences a class, many classes have had 16 times the
updates: if they learn in context later on, *that* alone could be why. No third design is neutral; to see 100
classes as rarely as 1,600, they must be padded with others, which is many classes. So show both. If the
contrast has one sign in both readings, neither confound alone made both; each might still have made its own."""

_ARM = """What to say before the run: which of the measures decides, at which value, against which cell, on how
many seeds; what you expect. Then `experiments.laptop` shows how a stage is written: a grid of `IclConfig`s and
the fields in which the members of a pack may differ. Candidates: more versions of each drawing, with and
without decay; drop burstiness to one half; let the labels of a class change from sequence to sequence, which
makes memorizing useless; decay the embedder alone; decay only after the context's circuit has formed. And the
trap: after twenty arms the best one is best by luck; see *The best of eight*."""

EXERCISES = (
    Exercise(
        "one-step-of-decay",
        "Write one step of AdamW: `update` is the direction that Adam has computed from the gradient, and "
        "the decay does not pass through it.",
        decayed_step,
        decayed_step_solution,
        _decayed_step_specification,
        (
            Wrong(_without_learning_rate, "What scales the decay?"),
            Wrong(_shrinks_the_update_too, "Is the update itself shrunk?"),
            Wrong(_grows, "shrink by the factor"),
        ),
        level="warm-up",
    ),
    Exercise(
        "count-the-e-folds",
        "Given the learning rate of each update and the decay: by how many factors of $e$ would a weight "
        "shrink that nothing else holds up? For small rates a sum will do.",
        efolds,
        efolds_solution,
        _efolds_specification,
        (
            Wrong(_counts_steps, "Where does it enter?"),
            Wrong(_mean_rate, "Do you add up?"),
            Wrong(_halvings, "What is e to minus yours?"),
        ),
        level="warm-up",
    ),
    Exercise(
        "among-the-labels-offered",
        "The log of the original code prints how often the right label wins over *all* labels; the paper's "
        "measure lets only those of the context compete. Write the second: the share of episodes whose best "
        "label *among those in the context* is the target.",
        among_offered,
        among_offered_solution,
        _among_specification,
        (
            Wrong(_over_all_labels, "May it be said here?"),
            Wrong(_zero_for_the_others, "What value never wins?"),
            Wrong(
                _any_offered_label,
                "Do you compare *labels*",
            ),
        ),
    ),
    Exercise(
        "where-the-query-looks",
        "From attention patterns and from where the context shows the query's class, compute the *label gap*: "
        "the query's attention on the labels of its own class less that on the other labels.",
        label_gap,
        label_gap_solution,
        _gap_specification,
        (
            Wrong(_on_the_pictures, "Which of the keys are labels?"),
            Wrong(_mass_alone, "knows nothing"),
            Wrong(_mean_over_labels, "Sum or mean?"),
        ),
    ),
    Exercise(
        "the-best-of-eight",
        "Eight decays, some seeds. Whoever reports the best mean has let luck choose. Choose for each seed on "
        "the *other* seeds, score it at their choice, and return the mean of the scores.",
        honest_best,
        honest_best_solution,
        _best_specification,
        (
            Wrong(_best_of_each_seed, "May it choose where it is scored?"),
            Wrong(_best_on_all, "Who may not vote?"),
            Wrong(_best_seed, "Which axis are the decays?"),
        ),
        level="core",
    ),
    Exercise(
        "sure-and-right",
        "Write the expected calibration error: sort answers into equal bins of how sure they were; in each bin "
        "take the gap between mean certainty and share right; average with the number of answers in the bin.",
        calibration,
        calibration_solution,
        _calibration_specification,
        (
            Wrong(_answer_by_answer, "Who is compared with whom?"),
            Wrong(_with_its_sign, "What of the sign?"),
            Wrong(_all_bins_alike, "Does it count three times?"),
        ),
        level="core",
    ),
    Exercise(
        "decay-taxes-depth",
        "A path runs through $m$ weight matrices, one after the other. All decay, nothing holds them up, and "
        "$E$ e-folds have passed. What is left of the path? Which of our two answers, by heart or from the context, "
        "pays more? What do the norms change?",
        answer=_TWO_MATRICES,
        level="core",
        needs_kernel=False,
    ),
    Exercise(
        "equal-what",
        "The notes want equal tokens *and* equal exposure of each class. Show that 100 and 1,600 classes cannot "
        "have both. For each of the two readings name what could make a difference that is not the number of "
        "classes.",
        answer=_EQUAL_WHAT,
        level="core",
        needs_kernel=False,
    ),
    Exercise(
        "an-arm-of-your-own",
        "Think of a change that should make few classes learn in context, and write down what would count as "
        "success *before* you run it. Then run it: one stage of `mechbook.icl.experiments`, three seeds.",
        answer=_ARM,
        level="open-ended",
    ),
)  # fmt: skip
