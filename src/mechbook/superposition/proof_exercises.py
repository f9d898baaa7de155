"""The exercises of the chapter of proofs: most are proofs on paper whose result a machine can check.

Codes are the columns of W, ``[hidden, feature]``. Specifications work in float64, draw their own
shapes and never call a solution; what can be checked by brute force is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from torch import Tensor

from mechbook.exercises import Exercise, Hint, Wrong, distinct_sizes, draw, equal, require_shape

Codes = Float[Tensor, "hidden feature"]


def _number(found: Any) -> float:
    value = torch.as_tensor(found, dtype=torch.float64)
    require_shape(value)
    return float(value)


def _close(found: float, wanted: float, tolerance: float = 1e-6) -> bool:
    return abs(found - wanted) <= tolerance * max(1.0, abs(wanted))


# --- 1. the frame potential -------------------------------------------------------------------


def potential(W: Codes) -> Float[Tensor, ""]:
    """The sum of (w_i · w_j)² over all ordered pairs of different codes."""
    raise NotImplementedError


def potential_solution(W: Codes) -> Float[Tensor, ""]:
    """All squared dot products, less those of each code with itself."""
    squares = (W.T @ W) ** 2
    return squares.sum() - squares.diagonal().sum()


def _potential_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    m, n = sorted(distinct_sizes(2, generator, low=2, high=6))

    def value(W):
        return _number(candidate(W))

    if not _close(value(torch.eye(n, dtype=torch.float64)[:, :m]), 0):
        raise Hint("Orthogonal codes should give 0. Does a code disturb itself?")
    pair = torch.tensor([[1.0, 0.6], [0.0, 0.8]], dtype=torch.float64)
    if _close(value(pair), 0.36):
        raise Hint(
            "Two codes with the dot product 0.6 disturb *each other*. How often does it count?"
        )
    if not _close(value(pair), 0.72):
        raise Hint(
            "Two codes with the dot product 0.6 should give 2 · 0.6². What is squared in yours?"
        )
    W = draw(m, n, generator=generator)
    pairs = [(W[:, i] @ W[:, j]) ** 2 for i in range(n) for j in range(n) if i != j]
    if not _close(value(W), float(sum(pairs))):
        raise Hint(
            "For codes of other lengths it is not the double sum. What is taken off in yours?"
        )


def _with_itself(W: Tensor) -> Tensor:
    return ((W.T @ W) ** 2).sum()


def _each_pair_once(W: Tensor) -> Tensor:
    return ((W.T @ W) ** 2).triu(1).sum()


def _not_squared(W: Tensor) -> Tensor:
    return (W.T @ W).abs().sum() - (W.T @ W).diagonal().sum()


def _unit_codes_only(W: Tensor) -> Tensor:
    return ((W.T @ W) ** 2).sum() - W.shape[1]


# --- 2. a frame that ties ---------------------------------------------------------------------


def equal_lengths(n: int) -> Float[Tensor, "2 feature"]:
    """Codes in the plane, n of one length, that reach the least linear loss n - 2."""
    raise NotImplementedError


def equal_lengths_solution(n: int) -> Float[Tensor, "2 feature"]:
    """A regular polygon; the squared lengths share out the trace 2 of the projection."""
    angles = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    return (2 / n) ** 0.5 * torch.stack([angles.cos(), angles.sin()])


def _lengths_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    n = 3 + 2 * int(torch.randint(5, (), generator=generator))
    W = torch.as_tensor(candidate(n)).double()
    require_shape(W, 2, n)
    lengths = W.norm(dim=0)
    if not equal(lengths, lengths.mean().expand(n)):
        raise Hint("All codes should have the same length. Is one of yours dropped?")
    loss = float(((W.T @ W - torch.eye(n)) ** 2).sum())
    if equal(lengths, torch.ones(n)):
        raise Hint(
            f"With lengths of one the loss is {loss:.2f}, above n - 2 = {n - 2}. What must the "
            "squared lengths sum to, if G is a projection of rank 2?"
        )
    if not _close(loss, n - 2):
        raise Hint(f"The loss is {loss:.4f}, and n - 2 is {n - 2}. Is W Wᵀ the identity in yours?")


def _unit_polygon(n: int) -> Tensor:
    angles = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    return torch.stack([angles.cos(), angles.sin()])


def _two_kept(n: int) -> Tensor:
    return torch.eye(2, n, dtype=torch.float64)


def _trace_one(n: int) -> Tensor:
    return _unit_polygon(n) / n**0.5


# --- 3. the gradient --------------------------------------------------------------------------


def loss_gradient(W: Codes, importance: Float[Tensor, " feature"]) -> Codes:
    """The gradient of ‖L^{1/2}(WᵀW - I)‖² with respect to W, L the diagonal of importances."""
    raise NotImplementedError


def loss_gradient_solution(W: Codes, importance: Float[Tensor, " feature"]) -> Codes:
    """G stands on both sides of the error, so L does, too."""
    off = W.T @ W - torch.eye(W.shape[1], dtype=W.dtype)
    weighted = importance[:, None] * off
    return 2 * W @ (weighted + weighted.T)


def _gradient_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    m, n = sorted(distinct_sizes(2, generator, low=2, high=7))
    frame = torch.linalg.qr(draw(n, n, generator=generator))[0][:m]
    ones = torch.ones(n, dtype=torch.float64)
    found = candidate(frame, ones)
    require_shape(found, m, n)
    if not equal(found, torch.zeros(m, n)):
        raise Hint("With equal importance and W Wᵀ = I nothing should pull. What is G - I there?")
    W = draw(m, n, generator=generator)
    importance = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    slope = _differences(W, ones)
    if not equal(candidate(W, ones), slope):
        raise Hint("Even with importances one it differs from finite differences. By which factor?")
    if not equal(candidate(W, importance), _differences(W, importance)):
        raise Hint("Right for equal importance only. On which *two* sides of G - I does L stand?")


def _differences(W: Tensor, importance: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of the loss, entry by entry."""
    eye = torch.eye(W.shape[1], dtype=W.dtype)

    def loss(V):
        return (importance[:, None] * (V.T @ V - eye) ** 2).sum()

    slope = torch.zeros_like(W)
    for place in np.ndindex(*W.shape):
        move = torch.zeros_like(W)
        move[place] = step
        slope[place] = (loss(W + move) - loss(W - move)) / (2 * step)
    return slope


def _half_of_it(W: Tensor, importance: Tensor) -> Tensor:
    return loss_gradient_solution(W, importance) / 2


def _one_side(W: Tensor, importance: Tensor) -> Tensor:
    off = W.T @ W - torch.eye(W.shape[1], dtype=W.dtype)
    return 4 * W @ (importance[:, None] * off)


def _without_identity(W: Tensor, importance: Tensor) -> Tensor:
    weighted = importance[:, None] * (W.T @ W)
    return 2 * W @ (weighted + weighted.T)


# --- 4. where descent ends --------------------------------------------------------------------


def limit(W: Codes) -> Codes:
    """Where descent on ‖WᵀW - I‖² with very small steps ends, without taking the steps."""
    raise NotImplementedError


def limit_solution(W: Codes) -> Codes:
    """Descent keeps the principal axes: only the singular values move, and each goes to 1."""
    left, _, right = torch.linalg.svd(W, full_matrices=False)
    return left @ right


def _limit_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    m, n = sorted(distinct_sizes(2, generator, low=2, high=6))
    left, _, right = torch.linalg.svd(draw(m, n, generator=generator), full_matrices=False)
    sizes = 0.4 + torch.rand(m, generator=generator, dtype=torch.float64)
    W = left @ (sizes[:, None] * right)
    found = candidate(W.clone())
    require_shape(found, m, n)
    if not equal(found @ found.T, torch.eye(m)):
        raise Hint("At a minimum W Wᵀ is the identity. Which condition on the *rows* is that?")
    kept = found.T @ found
    if not equal(W @ kept, W):
        raise Hint("The gradient is 4(W Wᵀ - I)W: can it ever leave the row space of the start?")
    steps = W.clone()
    for _ in range(1500):
        steps = steps - 0.02 * 4 * (steps @ steps.T @ steps - steps)
    if not equal(found, steps):
        raise Hint("The right row space, but turned within it. Does descent turn principal axes?")


def _codes_normalized(W: Tensor) -> Tensor:
    return W / W.norm(dim=0)


def _first_features(W: Tensor) -> Tensor:
    return torch.eye(*W.shape, dtype=W.dtype)


def _rows_one_by_one(W: Tensor) -> Tensor:
    q, r = torch.linalg.qr(W.T)
    return (q * r.diagonal().sign()).T


# --- 5. correlated features -------------------------------------------------------------------


def least_loss(C: Float[Tensor, "feature feature"], m: int) -> Float[Tensor, ""]:
    """The least loss of the linear tied autoencoder with equal importances, covariance C."""
    raise NotImplementedError


def least_loss_solution(C: Float[Tensor, "feature feature"], m: int) -> Float[Tensor, ""]:
    """Keep the m directions of largest variance; the rest is lost."""
    return torch.linalg.eigvalsh(C)[: len(C) - m].sum()


def _least_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    m, n = sorted(distinct_sizes(2, generator, low=2, high=7))

    def value(C):
        return _number(candidate(C, m))

    if not _close(value(torch.eye(n, dtype=torch.float64)), n - m):
        raise Hint(f"For C = I, n = {n}, m = {m} the theorem says {n - m}. What does yours count?")
    variances = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    lost = float(variances.sort().values[: n - m].sum())
    if not _close(value(torch.diag(variances)), lost):
        raise Hint("Uncorrelated features of different variance: which of them should be dropped?")
    turn = torch.linalg.qr(draw(n, n, generator=generator))[0]
    if not _close(value(turn @ torch.diag(variances) @ turn.T), lost):
        raise Hint(
            "Turning the features' space should change nothing. Does yours look at C's diagonal?"
        )


def _smallest_variances(C: Tensor, m: int) -> Tensor:
    return C.diagonal().sort().values[: len(C) - m].sum()


def _largest_lost(C: Tensor, m: int) -> Tensor:
    return torch.linalg.eigvalsh(C)[m:].sum()


def _all_variance(C: Tensor, m: int) -> Tensor:
    return C.trace()


# --- 6. where the lines meet ------------------------------------------------------------------


def switches_meet(importance: float) -> float:
    """The density at which (1, -1) without bias and (1, 0) with its best bias lose the same."""
    raise NotImplementedError


def switches_meet_solution(importance: float) -> float:
    """p²(1 + r) against r p (1 - p)."""
    return importance / (1 + 2 * importance)


def _meet_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    r = 0.1 + 0.9 * float(torch.rand((), generator=generator))
    p = _number(candidate(r))
    if not 0 < p < 1:
        raise Hint(
            f"For r = {r:.2f} it gives {p:.3f}; a density at which both lose lies in 0 to 1."
        )
    opposite, dropped = _switch_loss((1, -1), (0, 0), p, r), _switch_loss((1, 0), (0, p), p, r)
    unbiased = _switch_loss((1, 0), (0, 0), p, r)
    if _close(p, 4 * r / (2 + 5 * r)):
        raise Hint("That is for sizes between 0 and 1. What is x̂ when both switches are on?")
    if not _close(opposite, dropped) and _close(opposite, unbiased):
        raise Hint("There the second feature is dropped without its best bias. What is its mean?")
    if not _close(opposite, dropped):
        raise Hint(
            f"At p = {p:.3f}, r = {r:.2f} the losses are {opposite:.4f} and {dropped:.4f}. By how "
            "much is each feature off when both are on?"
        )


def _switch_loss(w: tuple, b: tuple, p: float, r: float) -> float:
    """The expected loss over the four states of two switches."""
    total = 0.0
    for x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        chance = p ** sum(x) * (1 - p) ** (2 - sum(x))
        h = w[0] * x[0] + w[1] * x[1]
        errors = [(max(w[i] * h + b[i], 0.0) - x[i]) ** 2 for i in (0, 1)]
        total += chance * (errors[0] + r * errors[1])
    return total


def _of_the_chapter(importance: float) -> float:
    return 4 * importance / (2 + 5 * importance)


def _no_bias(importance: float) -> float:
    return importance / (1 + importance)


def _one_error_only(importance: float) -> float:
    return importance / (1 + importance / 2 + 2 * importance)


# --- 7. the price of a point ------------------------------------------------------------------


def price(atoms: Float[Tensor, "2 atom"], point: Float[Tensor, " 2"]) -> Float[Tensor, ""]:
    """The smallest sum of ``|c|`` with atoms @ c = point, for atoms in the plane."""
    raise NotImplementedError


def price_solution(atoms: Float[Tensor, "2 atom"], point: Float[Tensor, " 2"]) -> Float[Tensor, ""]:
    """In the plane two atoms are enough for a minimum: try all pairs."""
    n = atoms.shape[1]
    costs = []
    for i in range(n):
        for j in range(i):
            pair = atoms[:, [i, j]]
            if torch.linalg.det(pair).abs() > 1e-12:
                costs.append(torch.linalg.solve(pair, point).abs().sum())
    return torch.stack(costs).min()


def _price_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    def value(atoms, point):
        return _number(candidate(atoms, point))

    eye = torch.eye(2, dtype=torch.float64)
    if not _close(value(eye, torch.tensor([0.5, -2.0], dtype=torch.float64)), 2.5):
        raise Hint(
            "With (1, 0) and (0, 1) the point (0.5, -2) costs 2.5. Do coefficients have signs?"
        )
    n = 3 + int(torch.randint(4, (), generator=generator))
    atoms, point = draw(2, n, generator=generator), draw(2, generator=generator)
    found, least = value(atoms, point), _dual(atoms.numpy(), point.numpy())
    squares = float((torch.linalg.pinv(atoms) @ point).abs().sum())
    if _close(found, squares) and not _close(squares, least):
        raise Hint("That is what least squares pays. Which coefficients could be zero instead?")
    if found < least - 1e-6:
        raise Hint("No coefficients are that cheap. Do those of yours really give the point?")
    if not _close(found, least):
        raise Hint("There is a cheaper way. Have all pairs of atoms been tried?")


def _dual(atoms: np.ndarray, point: np.ndarray) -> float:
    """The same number from the other side: the greatest y · point with all ``|y · atom|`` ≤ 1."""
    both = np.concatenate([atoms.T, -atoms.T])
    found = linprog(-point, A_ub=both, b_ub=np.ones(len(both)), bounds=(None, None))
    return float(-found.fun)


def _by_least_squares(atoms: Tensor, point: Tensor) -> Tensor:
    return (torch.linalg.pinv(atoms) @ point).abs().sum()


def _first_two(atoms: Tensor, point: Tensor) -> Tensor:
    return torch.linalg.solve(atoms[:, :2], point).abs().sum()


def _positive_only(atoms: Tensor, point: Tensor) -> Tensor:
    return torch.linalg.solve(atoms[:, :2], point).clamp(min=0).sum()


EXERCISES = (
    Exercise(
        name="the-frame-potential",
        prompt="Write $\\sum_{i \\ne j} (w_i \\cdot w_j)^2$ for codes `W` of any lengths, the "
        "columns of a tensor `[hidden feature]`. Then find on paper its value for $n$ codes of "
        "which $n/2$ are one unit vector and $n/2$ another, at the angle $\\theta$. For which "
        "$\\theta$ is it smallest, and does that reach the bound of the theorem?",
        stub=potential,
        solution=potential_solution,
        specification=_potential_specification,
        wrong=(
            Wrong(_with_itself, "Does a code disturb itself?"),
            Wrong(_each_pair_once, "How often does it count?"),
            Wrong(_not_squared, "What is squared in yours?"),
            Wrong(_unit_codes_only, "What is taken off in yours?"),
        ),
        level="warm-up",
        answer="On paper: $2 \\cdot \\frac n2 (\\frac n2 - 1) + 2 (\\frac n2)^2 \\cos^2\\theta$; "
        "smallest at a right angle, $n^2/2 - n$, which is the bound for $m = 2$.",
    ),
    Exercise(
        name="codes-of-one-length",
        prompt="Prove that for every $n \\ge 3$ there are $n$ codes in the plane, *all of the same "
        "length*, that reach the least loss $n - 2$ of the linear tied autoencoder with equal "
        "importance. Your function should return them, `[2 feature]`, for any odd $n$. (Why are no "
        "two of them orthogonal, if they are the regular polygon?)",
        stub=equal_lengths,
        solution=equal_lengths_solution,
        specification=_lengths_specification,
        wrong=(
            Wrong(_unit_polygon, "What must the squared lengths sum to"),
            Wrong(_two_kept, "Is one of yours dropped?"),
            Wrong(_trace_one, "Is W Wᵀ the identity in yours?"),
        ),
        answer="The trace of a projection of rank 2 is 2, so each squared length is $2/n$. With the "
        "angles $\\phi_k = 2 \\pi k / n$: $\\sum_k \\cos^2 \\phi_k = \\frac n2 + \\frac12 \\sum_k "
        "\\cos 2 \\phi_k = \\frac n2$, as the $2\\phi_k$ are the corners of a polygon, too (here "
        "$n \\ge 3$ is used), and $\\sum_k \\cos \\phi_k \\sin \\phi_k = 0$ in the same way. So "
        "$W W^\\top = \\frac2n \\cdot \\frac n2 I = I$. Two codes are orthogonal where $4 (k - l)$ "
        "is an odd multiple of $n$: never, for odd $n$.",
    ),
    Exercise(
        name="the-gradient",
        prompt="Derive the gradient of $\\lVert L^{1/2} (W^\\top W - I) \\rVert_F^2$ with respect "
        "to $W$, with $L = \\operatorname{diag}(I_1, \\dots, I_n)$, and write it. Then show from "
        "it: two orthonormal codes for *any* two features, all others zero, is a stationary point. "
        "Why does that not contradict the theorem?",
        stub=loss_gradient,
        solution=loss_gradient_solution,
        specification=_gradient_specification,
        wrong=(
            Wrong(_half_of_it, "By which factor?"),
            Wrong(_one_side, "On which *two* sides"),
            Wrong(_without_identity, "What is G - I there?"),
        ),
        answer="With $A = G - I$ the loss is $\\operatorname{trace}(A L A)$, so its change is "
        "$\\operatorname{trace}(dG\\,(LA + AL))$ with $dG = dW^\\top W + W^\\top dW$: the gradient "
        "is $2 W (LA + AL)$. If $G$ is diagonal with ones at two features and zeros elsewhere, $A$ "
        "is diagonal with zeros at those two, and $W$ has columns only there: the product is zero. "
        "Stationary is not minimal. If one of the two is less important than a feature that was left "
        "out, it is a saddle: turn its code's direction over to the other, and the loss falls.",
    ),
    Exercise(
        name="where-descent-ends",
        prompt="Plain descent on $\\lVert W^\\top W - I \\rVert_F^2$ starts at `W` `[hidden feature]` "
        "(all its rows independent, $m \\le n$) and takes very small steps. Return where it ends, "
        "without taking them. For which $m$ does it end at orthogonal codes, whatever the start?",
        stub=limit,
        solution=limit_solution,
        specification=_limit_specification,
        wrong=(
            Wrong(_codes_normalized, "Which condition on the *rows*"),
            Wrong(_first_features, "can it ever leave the row space"),
            Wrong(_rows_one_by_one, "Does descent turn principal axes?"),
        ),
        level="challenge",
        answer="With $W = U \\Sigma V^\\top$ each step changes $\\Sigma$ only, and every singular value "
        "goes to 1: it ends at $U V^\\top$. For $m = n$ that is an orthogonal matrix, so the codes are "
        "orthonormal. For $m < n$ not all of them can be, and which angles they have the start decides.",
    ),
    Exercise(
        name="correlated-features",
        prompt="Features have the covariance $C$, importances are equal, the bias is the best one. "
        "Then the loss is $\\operatorname{trace}((G - I)\\, C\\, (G - I))$. Prove what its least "
        "value is for $m$ dimensions, and write it. Which assumption of the chapter's theorems is "
        "dropped here, and what do two features with a correlation of one get?",
        stub=least_loss,
        solution=least_loss_solution,
        specification=_least_specification,
        wrong=(
            Wrong(_smallest_variances, "Does yours look at C's diagonal?"),
            Wrong(_largest_lost, "which of them should be dropped?"),
            Wrong(_all_variance, "What does yours count?"),
        ),
        answer="Let $P$ project onto the row space of $W$. Column by column of $C^{1/2}$, "
        "$\\lVert (G - I) C^{1/2} \\rVert^2 \\ge \\lVert (I - P) C^{1/2} \\rVert^2 = "
        "\\operatorname{trace} C - \\operatorname{trace}(P C)$, since $G$ has its columns in that "
        "space. And $\\operatorname{trace}(P C)$ is at most the sum of the $m$ largest eigenvalues "
        "(Ky Fan), reached by principal components. Features with a correlation of one and the same "
        "variance get the same code.",
    ),
    Exercise(
        name="two-switches",
        prompt="In the chapter a feature that is there has a size between 0 and 1. Let it be a "
        "switch instead: 1 with probability $p$, else 0. At which density do the codes $(1, -1)$ "
        "without bias and $(1, 0)$ with the best bias lose the same? Write it as a function of the "
        "importance $r$ of the second feature. Does superposition begin earlier or later than for "
        "sizes between 0 and 1, and why?",
        stub=switches_meet,
        solution=switches_meet_solution,
        specification=_meet_specification,
        wrong=(
            Wrong(_of_the_chapter, "when both switches are on?"),
            Wrong(_no_bias, "without its best bias"),
            Wrong(_one_error_only, "By how much is each feature off"),
        ),
        answer="Both on: $h = 0$, so both come back as 0 and are off by 1: $p^2 (1 + r)$. Dropped: "
        "the variance of a switch, $r p (1 - p)$. Equal at $p = r/(1 + 2r)$, below $4r/(2 + 5r)$: "
        "two full switches disturb each other as much as possible.",
    ),
    Exercise(
        name="the-price-of-a-point",
        prompt="For atoms in the plane, the columns of `atoms` `[2 atom]` (no two of them parallel), "
        "and a point, write the smallest $\\sum_i |c_i|$ with `atoms @ c = point`, without a solver. Why are "
        "two atoms always enough? The check compares with the dual problem, the greatest "
        "$y \\cdot \\text{point}$ with all $|y \\cdot \\text{atom}| \\le 1$.",
        stub=price,
        solution=price_solution,
        specification=_price_specification,
        wrong=(
            Wrong(_by_least_squares, "what least squares pays"),
            Wrong(_positive_only, "Do coefficients have signs?"),
            Wrong(_first_two, "Have all pairs of atoms been tried?"),
        ),
        level="challenge",
        answer="If three atoms are used, their coefficients can be moved along the one line that "
        "keeps the point. The sum of sizes is linear there until one of them is zero: go the way "
        "in which it does not grow.",
    ),
    Exercise(
        name="the-pentagon-with-a-relu",
        prompt="The theorem on one feature at a time says that the pentagon cannot be free of loss. "
        "How small can its loss be? Take $n = 5$ codes of one length at equal angles in the plane "
        "with one bias for all, exactly one feature there, of size uniform between 0 and 1. Write "
        "the loss as a function of length and bias, find its minimum by hand or by machine, and "
        "compare with `theory.least_found(5, 2)`. Is the best arrangement of five regular at all?",
        level="open-ended",
        answer="No single answer. With squared length $a$, bias $-b$ and $c = \\cos 72°$ there are "
        "three pieces for a feature of size $t$: its own error $(\\max(at - b, 0) - t)^2$; two "
        "neighbors that come back as $\\max(c\\,a\\,t - b, 0)$; two that are clipped to zero. All "
        "are integrals of squares of linear functions over an interval. A good answer says where "
        "the neighbors are silent ($b \\ge c\\,a$), what that costs the feature itself, and tries "
        "unequal lengths and angles; `least_found` uses eight sizes, not all of them.",
    ),
    Exercise(
        name="a-proof-for-two-pairs",
        prompt="The notes end with *practice and try proofs*. Choose one: (a) four features in the "
        "plane, as two antipodal pairs, against two orthogonal codes: at which density do they tie, "
        "for equal importance and fixed lengths? (b) The second line of the phase diagram: when is "
        "dropping the second feature no longer even a local minimum? Write assumptions, statement, "
        "proof, and a cell that checks the identity and not just the conclusion.",
        level="open-ended",
        answer="(a) Pairs do not disturb each other across axes, so the loss is twice that of two "
        "features in one dimension with $r = 1$, and two orthogonal codes drop two features: the "
        "densities are the same, $p^* = 4/7$. (b) Put $W = (1 + \\eta, -\\epsilon)$, $b_1 = \\epsilon "
        "\\beta$, and expand to the second order in $\\epsilon$: the second feature gains "
        "$r\\,\\epsilon^2$ times its variance, the first pays $\\epsilon^2$ times a polynomial in "
        "$\\beta$ that has to be minimized. A good answer checks it against `phase.fit`, says that "
        "opposite and same side have to be tried both, and that, as the density falls, at low importance "
        "the best model jumps before, while at high importance opposite codes fade in just there.",
    ),
)
