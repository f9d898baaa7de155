"""The exercises of the chapter on linear representations and inner products.

Vectors are rows. Specifications work in float64 and state properties; they never call a solution.
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


def _metric(size: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """A random symmetric positive definite matrix."""
    root = draw(size, size, generator=generator)
    return root @ root.mT + 0.1 * torch.eye(size, dtype=torch.float64)


# --- 1. the matrix of an inner product --------------------------------------------------------


def metric_of(form: Callable[[Tensor, Tensor], Tensor], size: int) -> Float[Tensor, "d d"]:
    """The matrix M with ``form(u, v) = u @ M @ v`` for vectors u, v of the given size."""
    raise NotImplementedError


def metric_of_solution(form: Callable[[Tensor, Tensor], Tensor], size: int) -> Float[Tensor, "d d"]:
    """Ask the form about each pair of basis vectors."""
    basis = torch.eye(size, dtype=torch.float64)
    return torch.stack([torch.stack([form(e, f) for f in basis]) for e in basis])


def _metric_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (size,) = distinct_sizes(1, generator)
    M = _metric(size, generator)
    skew = draw(size, size, generator=generator)
    for form, what in ((M, "symmetric"), (M + skew - skew.mT, "bilinear")):
        found = candidate(lambda u, v, A=form: u @ A @ v, size)
        require_shape(found, size, size)
        if what == "symmetric" and not equal(found.diagonal(), form.diagonal()):
            raise Hint("The diagonal should hold form(e, e). What is yours for the basis vectors?")
        if what == "symmetric" and not equal(found, form):
            raise Hint(
                "Off the diagonal two *different* basis vectors meet. Which pair is entry (i, j)?"
            )
        if what == "bilinear" and not equal(found, form):
            raise Hint("For a form that is not symmetric, row i belongs to the *first* argument.")


def _diagonal_only(form: Callable[..., Tensor], size: int) -> Tensor:
    basis = torch.eye(size, dtype=torch.float64)
    return torch.diag(torch.stack([form(e, e) for e in basis]))


def _transposed(form: Callable[..., Tensor], size: int) -> Tensor:
    return metric_of_solution(form, size).mT


def _of_ones(form: Callable[..., Tensor], size: int) -> Tensor:
    ones = torch.ones(size, dtype=torch.float64)
    return form(ones, ones) * torch.eye(size, dtype=torch.float64)


# --- 2. angles --------------------------------------------------------------------------------


def cosine(
    u: Float[Tensor, " d"], v: Float[Tensor, " d"], M: Float[Tensor, "d d"]
) -> Float[Tensor, ""]:
    """The cosine of the angle between u and v under the inner product u @ M @ v."""
    raise NotImplementedError


def cosine_solution(
    u: Float[Tensor, " d"], v: Float[Tensor, " d"], M: Float[Tensor, "d d"]
) -> Float[Tensor, ""]:
    """Inner product over the two lengths, all three under M."""
    return u @ M @ v / ((u @ M @ u) * (v @ M @ v)).sqrt()


def _cosine_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (size,) = distinct_sizes(1, generator)
    M = _metric(size, generator)
    u, v = draw(2, size, generator=generator)
    found = torch.as_tensor(candidate(u, v, M))
    require_shape(found)
    if not equal(torch.as_tensor(candidate(u, 3 * u, M)), torch.ones((), dtype=torch.float64)):
        raise Hint(
            "A vector with a multiple of itself should give 1. Whose lengths do you divide by?"
        )
    if not equal(torch.as_tensor(candidate(u, v, 5 * M)), found):
        raise Hint("An angle should not change when M is multiplied by 5. What does yours do?")
    orthogonal = v - (u @ M @ v) / (u @ M @ u) * u
    if abs(float(candidate(u, orthogonal, M))) > 1e-6:
        raise Hint(
            "These two are orthogonal under M, so 0 is wanted. Which product makes the numerator?"
        )


def _euclidean(u: Tensor, v: Tensor, M: Tensor) -> Tensor:
    return u @ v / (u.norm() * v.norm())


def _without_lengths(u: Tensor, v: Tensor, M: Tensor) -> Tensor:
    return u @ M @ v


def _euclidean_lengths(u: Tensor, v: Tensor, M: Tensor) -> Tensor:
    return u @ M @ v / (u.norm() * v.norm())


def _no_root(u: Tensor, v: Tensor, M: Tensor) -> Tensor:
    return u @ M @ v / ((u @ M @ u) * (v @ M @ v))


# --- 3. held-out directions -------------------------------------------------------------------


def held_out(differences: Float[Tensor, "pair d"]) -> Float[Tensor, "pair d"]:
    """For each pair, the mean difference of all *other* pairs."""
    raise NotImplementedError


def held_out_solution(differences: Float[Tensor, "pair d"]) -> Float[Tensor, "pair d"]:
    """Subtract each from the sum, then divide by the number that is left."""
    return (differences.sum(0) - differences) / (len(differences) - 1)


def _held_out_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    pairs, size = distinct_sizes(2, generator, low=3)
    found = draw(pairs, size, generator=generator)
    got = candidate(found)
    require_shape(got, pairs, size)
    changed = found.clone()
    changed[1] += 100
    if not equal(candidate(changed)[1], got[1]):
        raise Hint(
            "Row 1 should not change when pair 1 does: it is the one held out. Is it in your mean?"
        )
    same = draw(1, size, generator=generator).expand(pairs, size)
    if not equal(candidate(same), same):
        raise Hint(
            "If all differences are equal, so is every mean. How many are left to divide by?"
        )
    if not equal(got[0], found[1:].mean(0)):
        raise Hint("Row 0 should be the mean of *all* the other rows. Which do you use?")


def _with_itself(differences: Tensor) -> Tensor:
    return differences.mean(0).expand_as(differences)


def _wrong_count(differences: Tensor) -> Tensor:
    return (differences.sum(0) - differences) / len(differences)


def _the_next(differences: Tensor) -> Tensor:
    return differences.roll(-1, 0)


# --- 4. the causal inner product --------------------------------------------------------------


def causal_metric(gamma: Float[Tensor, "word d"]) -> Float[Tensor, "d d"]:
    """The inverse of the covariance of the words' vectors."""
    raise NotImplementedError


def causal_metric_solution(gamma: Float[Tensor, "word d"]) -> Float[Tensor, "d d"]:
    """Centre, average the outer products, invert."""
    centred = gamma - gamma.mean(0)
    return torch.linalg.inv(centred.mT @ centred / len(gamma))


def _causal_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (size,) = distinct_sizes(1, generator, high=6)
    gamma = draw(60, size, generator=generator) @ draw(size, size, generator=generator)
    gamma = gamma + 2
    M = candidate(gamma)
    require_shape(M, size, size)
    A = draw(size, size, generator=generator) + 2 * torch.eye(size, dtype=torch.float64)
    inverse = torch.linalg.inv(A)
    if not equal(candidate(gamma + 7), M):
        raise Hint(
            "Moving all words by one vector should change nothing. What is subtracted first?"
        )
    if not torch.allclose(candidate(gamma @ A.mT), inverse.mT @ M @ inverse, rtol=1e-3, atol=1e-6):
        raise Hint(
            "After γ' = Aγ the metric should be A⁻ᵀ M A⁻¹. Is yours the inverse, or the covariance?"
        )
    centred = gamma - gamma.mean(0)
    mean_square = ((centred @ M) * centred).sum(-1).mean()
    if not equal(mean_square, torch.tensor(float(size))):
        raise Hint("The words' mean squared length should be d. By how many do you divide the sum?")


def _not_centred(gamma: Tensor) -> Tensor:
    return torch.linalg.inv(gamma.mT @ gamma / len(gamma))


def _covariance_itself(gamma: Tensor) -> Tensor:
    return torch.cov(gamma.mT, correction=0)


def _sum_not_mean(gamma: Tensor) -> Tensor:
    centred = gamma - gamma.mean(0)
    return torch.linalg.inv(centred.mT @ centred)


# --- 5. writing without side effects ----------------------------------------------------------


def steering_vector(
    target: Float[Tensor, " d"], others: Float[Tensor, "other d"]
) -> Float[Tensor, " d"]:
    """The shortest vector λ with target · λ = 1 and other · λ = 0 for every other direction."""
    raise NotImplementedError


def steering_vector_solution(
    target: Float[Tensor, " d"], others: Float[Tensor, "other d"]
) -> Float[Tensor, " d"]:
    """The first column of the pseudo-inverse: the shortest answer to all equations."""
    return torch.linalg.pinv(torch.cat([target[None], others]))[:, 0]


def _steering_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    count, size = sorted(distinct_sizes(2, generator, low=3))
    target = draw(size, generator=generator)
    others = draw(count - 1, size, generator=generator) + 0.5 * target
    found = candidate(target, others)
    require_shape(found, size)
    if not equal(target @ found, torch.ones((), dtype=torch.float64)):
        raise Hint(
            "Adding λ should raise the target's score by exactly 1. What does yours raise it by?"
        )
    if float((others @ found).abs().max()) > 1e-6:
        raise Hint(
            "Adding λ moves another concept as well. Is yours orthogonal to every other one?"
        )
    rows = torch.cat([target[None], others])
    inside = torch.linalg.lstsq(rows.mT, found).solution @ rows
    if not equal(inside, found):
        raise Hint(
            "A part of λ changes no score at all: leave it out. In whose span is the shortest?"
        )


def _along_itself(target: Tensor, others: Tensor) -> Tensor:
    return target / (target @ target)


def _one_by_one(target: Tensor, others: Tensor) -> Tensor:
    rest = target.clone()
    for other in others:
        rest = rest - (rest @ other) / (other @ other) * other
    return rest / (target @ rest)


def _with_a_spare_part(target: Tensor, others: Tensor) -> Tensor:
    rows = torch.cat([target[None], others])
    spare = torch.linalg.svd(rows).Vh[-1]
    return torch.linalg.pinv(rows)[:, 0] + spare


# --- 6. selectivity ---------------------------------------------------------------------------


def control_labels(
    labels: Int[Tensor, " context"], word: Int[Tensor, " context"], generator: torch.Generator
) -> Int[Tensor, " context"]:
    """Labels 0 or 1 drawn by a coin for each *word*: every context of a word gets the same one."""
    raise NotImplementedError


def control_labels_solution(
    labels: Int[Tensor, " context"], word: Int[Tensor, " context"], generator: torch.Generator
) -> Int[Tensor, " context"]:
    """One coin a word, dealt out to its contexts."""
    coins = torch.randint(2, (int(word.max()) + 1,), generator=generator)
    return coins[word]


def _control_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    word = torch.randint(300, (2000,), generator=generator)
    labels = word % 2
    got = candidate(labels, word, generator)
    require_shape(got, 2000)
    for each in word.unique()[:50]:
        if len(got[word == each].unique()) > 1:
            raise Hint(
                "Two contexts of one word have different labels. Who gets the coin: word or context?"
            )
    if not bool(((got == 0) | (got == 1)).all()) or not 0.3 < float(got.float().mean()) < 0.7:
        raise Hint("About half of the words should have label 1, the others 0.")
    if abs(float((got == labels).float().mean()) - 0.5) > 0.2:
        raise Hint(
            "The control's labels should have nothing to do with the real ones. Yours agree with them."
        )


def _a_coin_a_context(labels: Tensor, word: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(2, labels.shape, generator=generator)


def _the_real_ones(labels: Tensor, word: Tensor, generator: torch.Generator) -> Tensor:
    return labels.clone()


def _all_one(labels: Tensor, word: Tensor, generator: torch.Generator) -> Tensor:
    return torch.ones_like(labels)


EXERCISES = (
    Exercise(
        name="royalty-or-gender",
        prompt="The notes' four words are man $(4,1,2)$, woman $(3,2,2)$, king $(5,1,3)$ and queen "
        "$(4,2,3)$. Compute woman $-$ man, queen $-$ king, king $-$ man and queen $-$ woman. Which "
        "two of the four carry *gender*? What do the other two carry? Then: is king $-$ man $+$ "
        "woman exactly queen, and does that depend on which of the two readings you chose?",
        level="warm-up",
        needs_kernel=False,
        answer="woman − man = queen − king = (−1, 1, 0): gender. king − man = queen − woman = "
        "(1, 0, 1): the step from common to royal. The four words are a parallelogram, so "
        "king − man + woman is exactly queen, and it makes no difference in which order the two "
        "sides are walked. That is why the two readings are easily exchanged, and why it matters "
        "to say which side is meant.",
    ),
    Exercise(
        name="the-matrix-of-an-inner-product",
        prompt="Write `metric_of(form, size)`: the matrix $M$ with `form(u, v) = u @ M @ v`, in 64 "
        "bits. `form` takes two vectors. The notes' formula $(u, v) = \\sum_{ij} u_i v_j (e_i, "
        "e_j)$ says how.",
        stub=metric_of,
        solution=metric_of_solution,
        specification=_metric_specification,
        wrong=(
            Wrong(_diagonal_only, "two *different* basis vectors"),
            Wrong(_transposed, "row i belongs to the *first*"),
            Wrong(_of_ones, "The diagonal should hold"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="angles-under-a-metric",
        prompt="Write `cosine_under(u, v, M)` under $\\langle u, v\\rangle = u M v^T$.",
        stub=cosine,
        solution=cosine_solution,
        specification=_cosine_specification,
        wrong=(
            Wrong(_euclidean, "orthogonal under M"),
            Wrong(_without_lengths, "Whose lengths"),
            Wrong(_no_root, "multiple of itself"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="hold-a-pair-out",
        prompt="A direction that was made with a pair will of course point along that pair. Write "
        "`held_out_means(differences)`: for each pair the mean difference of all the *others*.",
        stub=held_out,
        solution=held_out_solution,
        specification=_held_out_specification,
        wrong=(
            Wrong(_with_itself, "it is the one held out"),
            Wrong(_wrong_count, "How many are left"),
            Wrong(_the_next, "*all* the other rows"),
        ),
    ),
    Exercise(
        name="the-causal-inner-product",
        prompt="Write `causal_metric(gamma)`: $\\mathrm{Cov}(\\gamma)^{-1}$, with one row a word.",
        stub=causal_metric,
        solution=causal_metric_solution,
        specification=_causal_specification,
        wrong=(
            Wrong(_not_centred, "What is subtracted first"),
            Wrong(_covariance_itself, "Is yours the inverse"),
            Wrong(_sum_not_mean, "By how many"),
        ),
    ),
    Exercise(
        name="write-one-concept-alone",
        prompt="A concept's score is `direction · h`. Adding $\\lambda$ to `h` changes the score "
        "of a concept $g$ by $g\\cdot\\lambda$. Write `steering_vector(target, others)`: the "
        "shortest $\\lambda$ that raises the target's score by 1 and leaves every other score "
        "alone. (There are fewer concepts than dimensions.) The Riesz map does this for *all* "
        "separable concepts at once, if the theorem's assumptions hold.",
        stub=steering_vector,
        solution=steering_vector_solution,
        specification=_steering_specification,
        wrong=(
            Wrong(_along_itself, "moves another concept"),
            Wrong(_one_by_one, "orthogonal to every other"),
            Wrong(_with_a_spare_part, "changes no score at all"),
        ),
        level="challenge",
    ),
    Exercise(
        name="labels-by-a-coin",
        prompt="A probe that reads 'female' from activations may have learned by heart which words "
        "are female. Write `control_labels(labels, word, generator)`: a coin for each word, which "
        "all contexts of the word share. What a probe scores on these labels, on contexts that it "
        "has not seen, is what learning by heart is worth. (In the chapter the coin swaps the two "
        "words of a pair, so that the labels stay balanced.)",
        stub=control_labels,
        solution=control_labels_solution,
        specification=_control_specification,
        wrong=(
            Wrong(_a_coin_a_context, "Who gets the coin"),
            Wrong(_the_real_ones, "nothing to do with the real ones"),
            Wrong(_all_one, "About half"),
        ),
    ),
    Exercise(
        name="is-minus-one-special",
        prompt="$\\mathrm{Cov}(\\gamma)^{-1}$ is the covariance to the power $-1$. The chapter also "
        "shows other powers. Choose a concept pair that you hold to be separable and one that you "
        "do not, say before you run it what $|\\cos|$ should be for each power from 0 to $-2$, and "
        "for two means of *random* word pairs. Which curve would convince you that $-1$ is special, "
        "and which would show only that whitening makes everything orthogonal?",
        level="open-ended",
        answer="No single answer. In d dimensions two directions that have nothing to do with "
        "each other have a mean |cos| of about √(2/(πd)). So a low |cos| of separable concepts says "
        "something only beside the non-separable ones (which must stay high) and beside random "
        "pairs (which must not be just as low). Words that two lists share put a common vector into "
        "both directions: use lists without common words. Since Cov is estimated from a few "
        "thousand words in a few hundred dimensions, powers beyond −1 weigh the least certain "
        "directions most; resample the words to see how much of the curve is noise.",
    ),
    Exercise(
        name="balance-the-frequencies",
        prompt="In most of the book's lists the second word of a pair is the rarer one. From each "
        "list take pairs so that the log frequencies of first and second words add up to the same, "
        "as far as that can be done. Predict first: what happens to the Euclidean $|\\cos|$ of "
        "separable concepts, to the causal one, and to the difference between the two? Mind that "
        "fewer pairs make noisier directions: what do you compare with?",
        level="open-ended",
        answer="Compare with as many pairs of the same lists chosen at random. Expect the "
        "Euclidean cosines to fall and the causal ones hardly to move, so that less is left for "
        "whitening to do. But lists such as adjective → superlative cannot be balanced at all: "
        "every superlative is rarer than its adjective. So the concepts that could be balanced are "
        "others than those that needed it, and what is left is weak evidence. A model trained on "
        "text in which frequencies were made equal would be the better experiment.",
    ),
)
