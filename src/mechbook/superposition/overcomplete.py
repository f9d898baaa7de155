"""More vectors than dimensions: many coefficients for one point, and rules that choose among them.

The vectors are the columns of D, ``[hidden, atom]``; coefficients c with ``D c = x`` may be
negative. Three rules: least squares (smallest Σ c²), minimum-L1 (smallest Σ ``|c|``, a linear program)
and the fewest coefficients that are not zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog

Atoms = Float[np.ndarray, "hidden atom"]
Point = Float[np.ndarray, " hidden"]
Coefficients = Float[np.ndarray, " atom"]

NOTES = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
"""The notes' example: (1, 0), (0, 1) and (½, ½)."""


def _checked(D: Atoms, x: Point) -> tuple[Atoms, Point]:
    atoms, point = np.asarray(D, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if atoms.ndim != 2 or point.shape != atoms.shape[:1]:
        raise ValueError(
            f"atoms {atoms.shape} and a point {point.shape}; give [hidden, atom] and [hidden]"
        )
    missed = atoms @ (np.linalg.pinv(atoms) @ point) - point
    if np.abs(missed).max() > 1e-9 * max(1.0, float(np.abs(point).max())):
        raise ValueError(
            f"{point.tolist()} is no combination of the {atoms.shape[1]} atoms; add atoms, or "
            "give a point of their span"
        )
    return atoms, point


def freedom(D: Atoms) -> int:
    """In how many dimensions the coefficients of one point may move: atoms minus rank."""
    return int(np.shape(D)[1] - np.linalg.matrix_rank(D))


def least_squares(D: Atoms, x: Point) -> Coefficients:
    """The coefficients with the smallest sum of squares; there is always exactly one such set.

    Raises:
        ValueError: shapes that do not fit, or a point outside the atoms' span.
    """
    atoms, point = _checked(D, x)
    return np.linalg.pinv(atoms) @ point


@dataclass(frozen=True)
class MinimumL1:
    """All coefficients with the smallest Σ ``|c|``.

    Attributes:
        length: that smallest sum.
        coefficients: one set that has it.
        low: the smallest value of each coefficient among all sets that have it.
        high: the greatest value.
    """

    length: float
    coefficients: Coefficients
    low: Coefficients
    high: Coefficients

    @property
    def width(self) -> float:
        """By how much the freest coefficient may move without changing Σ ``|c|``; 0 if unique."""
        return max(0.0, float((self.high - self.low).max()))

    @property
    def unique(self) -> bool:
        """Whether there is only one such set (up to the rounding of the solver)."""
        return self.width < 1e-6


def smallest_l1(D: Atoms, x: Point) -> Coefficients:
    """Coefficients with the smallest Σ ``|c|``, by a linear program; where many tie, one of them.

    With c = a - b and a, b ≥ 0 the sum of all a and b is to be smallest.

    Raises:
        ValueError: shapes that do not fit, or a point outside the atoms' span.
    """
    atoms, point = _checked(D, x)
    n = atoms.shape[1]
    return _signed(_program(np.ones(2 * n), np.hstack([atoms, -atoms]), point), n)


def minimum_l1(D: Atoms, x: Point) -> MinimumL1:
    """The smallest Σ ``|c|``, and how far each coefficient can move among all sets that have it.

    Two more linear programs a coefficient: its least and its greatest value at that sum.

    Raises:
        ValueError: shapes that do not fit, or a point outside the atoms' span.
    """
    found = smallest_l1(D, x)
    atoms, point = _checked(D, x)
    n, length = len(found), float(np.abs(found).sum())
    split = np.hstack([atoms, -atoms])
    ends = []
    for sign in (1.0, -1.0):
        goals = [np.concatenate([sign * row, -sign * row]) for row in np.eye(n)]
        reached = [_signed(_program(g, split, point, length), n)[i] for i, g in enumerate(goals)]
        ends.append(np.array(reached))
    return MinimumL1(length, found, ends[0], ends[1])


def _signed(split: np.ndarray, n: int) -> Coefficients:
    return split[:n] - split[n:]


def _program(
    goal: np.ndarray, split: np.ndarray, point: np.ndarray, at_most: float | None = None
) -> np.ndarray:
    """The least ``goal · z`` over z ≥ 0 with ``split z = point`` and, if given, a bounded sum."""
    bound = {} if at_most is None else {"A_ub": np.ones((1, len(goal))), "b_ub": [at_most]}
    found = linprog(goal, A_eq=split, b_eq=point, bounds=(0, None), method="highs", **bound)
    if not found.success:
        raise ValueError(f"the linear program found no solution: {found.message}")
    return found.x


def sparsest(D: Atoms, x: Point) -> list[Coefficients]:
    """All coefficients with the fewest entries that are not zero, by trying every set of atoms.

    Raises:
        ValueError: shapes that do not fit, a point outside the span, or more than 16 atoms.
    """
    atoms, point = _checked(D, x)
    n = atoms.shape[1]
    if n > 16:
        raise ValueError(f"{n} atoms have too many subsets to try; give 16 or fewer")
    for size in range(n + 1):
        tried = (_on(atoms, point, list(chosen)) for chosen in combinations(range(n), size))
        if found := [coefficients for coefficients in tried if coefficients is not None]:
            return found
    raise AssertionError("a point of the span has coefficients")


def _on(atoms: Atoms, point: Point, chosen: list[int]) -> Coefficients | None:
    """The coefficients that use just these atoms, if there are any."""
    coefficients = np.zeros(atoms.shape[1])
    if chosen:
        coefficients[chosen] = np.linalg.pinv(atoms[:, chosen]) @ point
    close = np.allclose(atoms @ coefficients, point, atol=1e-9)
    return coefficients if close and (np.abs(coefficients[chosen]) > 1e-9).all() else None


def sure_to_recover(coherence: float) -> int:
    """The most active features that minimum-L1 recovers whatever they are: below (1 + 1/μ)/2.

    Source: Donoho & Elad, "Optimally sparse representation in general dictionaries" (2003).

    Raises:
        ValueError: a coherence that is not above 0 and at most 1.
    """
    if not 0 < coherence <= 1:
        raise ValueError(f"coherence is {coherence}; give a number above 0 and at most 1")
    return int(np.ceil((1 + 1 / coherence) / 2) - 1)


def recovered(
    D: Atoms, active: int, trials: int, seed: int = 0
) -> dict[str, Float[np.ndarray, " trial"]]:
    """The greatest error in any coefficient, for random c with a given number of active ones.

    Returns:
        For ``minimum-L1`` and ``least squares`` the error of each trial.

    Raises:
        ValueError: more active coefficients than atoms, or no trial.
    """
    n = np.shape(D)[1]
    if not 0 <= active <= n or trials < 1:
        raise ValueError(f"{active} of {n} active, {trials} trials; give 0 to {n}, and 1 or more")
    draw = np.random.default_rng(seed)
    errors: dict[str, list[float]] = {"minimum-L1": [], "least squares": []}
    for _ in range(trials):
        c = np.zeros(n)
        c[draw.choice(n, active, replace=False)] = draw.normal(size=active)
        for name, rule in (("minimum-L1", smallest_l1), ("least squares", least_squares)):
            errors[name].append(float(np.abs(rule(D, D @ c) - c).max()))
    return {name: np.array(values) for name, values in errors.items()}
