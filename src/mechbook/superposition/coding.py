"""Sparse coding beside the toy model, and the four cases of superposition and polysemanticity.

Two things are called sparse. In the toy model the *data* are: features are mostly zero. In the
sparse coding of Olshausen and Field (1996) the *activity* is made so, whatever the data: a vector
``h`` is written as a sum of few atoms (rows of A, of length 1) by ::

    minimize over a ≥ 0:   ½ ‖h - a A‖² + price · Σ a        (activity [atom])

(They let activities have either sign; features here are never negative, so neither are they.)
scikit-learn solves it, by coordinate descent.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import DictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mechbook import training
from mechbook.superposition import geometry


def encode(
    h: Float[Tensor, "batch hidden"], atoms: Float[Tensor, "atom hidden"], price: float
) -> Float[Tensor, "batch atom"]:
    """The sparse activities, none negative.

    Args:
        h: what is to be written as a sum of atoms.
        atoms: of any length.
        price: of activity, above 0.

    Raises:
        ValueError: a price of 0 or less, or shapes that do not fit.
    """
    if price <= 0 or h.shape[-1] != atoms.shape[-1]:
        raise ValueError(
            f"price is {price}, h {list(h.shape)}, atoms {list(atoms.shape)}; give a price above "
            "0, and atoms as wide as h"
        )
    with warnings.catch_warnings():  # of a gap that stays above the solver's, very small one
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = sparse_encode(
            h.double().numpy(), atoms.double().numpy(),
            algorithm="lasso_cd", alpha=price, positive=True, max_iter=5000,
        )  # fmt: skip
    return torch.from_numpy(found).to(h.dtype)


@dataclass(frozen=True)
class Code:
    """Learned atoms, and the activities that they have on the data.

    Attributes:
        atoms: of length 1.
        activity: none negative.
        lost: share of the data's squared length that the sum of atoms misses.
    """

    atoms: Float[Tensor, "atom hidden"]
    activity: Float[Tensor, "batch atom"]
    lost: float


def first_atoms(
    h: Float[Tensor, "batch hidden"], n_atoms: int, *, seed: int = 0
) -> Float[Tensor, "atom hidden"]:
    """Where `learn` starts: random examples, at length 1.

    Raises:
        ValueError: fewer examples that are not zero than atoms.
    """
    there = h[h.norm(dim=-1) > 1e-6]
    if not 1 <= n_atoms <= len(there):
        raise ValueError(
            f"n_atoms is {n_atoms} for {len(there)} examples that are not zero; give from 1 to as "
            "many, or more data"
        )
    chosen = torch.randperm(len(there), generator=training.generator(seed))[:n_atoms]
    return torch.nn.functional.normalize(there[chosen], dim=-1)


def learn(
    h: Float[Tensor, "batch hidden"], n_atoms: int, price: float, *, rounds: int = 60, seed: int = 0
) -> Code:
    """Atoms and activities in turn, from `first_atoms` on.

    Raises:
        ValueError: fewer examples that are not zero than atoms.
    """
    start, there = first_atoms(h, n_atoms, seed=seed), h[h.norm(dim=-1) > 1e-6]
    learner = DictionaryLearning(
        n_atoms, alpha=price, max_iter=rounds, dict_init=start.double().numpy(),
        fit_algorithm="cd", positive_code=True, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():  # a round that is cut short is made up for by the next
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = torch.from_numpy(learner.fit(there.double().numpy()).components_).to(h.dtype)
    a = encode(h, atoms, price)
    lost = (h - a @ atoms).pow(2).sum() / h.pow(2).sum()
    return Code(atoms, a, float(lost))


def pairing(
    atoms: Float[Tensor, "atom hidden"], directions: Float[Tensor, "direction hidden"]
) -> tuple[Int[Tensor, " direction"], Float[Tensor, " direction"]]:
    """For each direction an atom of its own, chosen for the highest sum of cosines; the cosines.

    Raises:
        ValueError: fewer atoms than directions.
    """
    if len(atoms) < len(directions):
        raise ValueError(
            f"{len(atoms)} atoms for {len(directions)} directions; give one a direction at least"
        )
    unit = torch.nn.functional.normalize
    cos = unit(directions, dim=-1) @ unit(atoms, dim=-1).T
    rows, chosen = linear_sum_assignment(cos.numpy(), maximize=True)
    return torch.from_numpy(chosen), cos[rows, chosen]


def found_share(
    atoms: Float[Tensor, "atom hidden"],
    directions: Float[Tensor, "direction hidden"],
    near: float = 0.95,
) -> float:
    """Share of the directions that have an atom of their own, with a cosine of at least ``near``."""
    return float((pairing(atoms, directions)[1] >= near).float().mean())


def gaussian_twin(
    h: Float[Tensor, "batch hidden"], generator: torch.Generator
) -> Float[Tensor, "batch hidden"]:
    """As many normal random vectors with the same covariance: data without sparse causes."""
    values, axes = torch.linalg.eigh(h.T @ h / len(h))
    free = torch.randn(h.shape, generator=generator)
    return free * values.clamp(min=0).sqrt() @ axes.T


# --- how much is active -----------------------------------------------------------------------


def active_share(values: Float[Tensor, "batch unit"], floor: float = 0.1) -> float:
    """Share of entries that are not small: above ``floor`` times the unit's root mean square.

    Examples in which nothing at all is active are left out, so that silence does not count as
    sparseness.
    """
    awake = values[values.abs().amax(-1) > 1e-6]
    if not len(awake):
        return 0.0
    size = awake.pow(2).mean(0).sqrt().clamp(min=1e-9)
    return float((awake.abs() > floor * size).float().mean())


# --- who responds to what ---------------------------------------------------------------------


def responds(
    response: Float[Tensor, "*m unit feature"], share: float = 0.3
) -> Bool[Tensor, "*m unit feature"]:
    """Which feature moves which unit: at least ``share`` of that unit's largest response.

    Args:
        response: what each unit does when each feature is there alone.
        share: of the largest response of the unit; a unit that never moves responds to none.
    """
    size = response.abs()
    most = size.amax(-1, keepdim=True)
    return (size >= share * most) & (most > 1e-2)


def polysemantic(
    response: Float[Tensor, "*m unit feature"], share: float = 0.3
) -> Bool[Tensor, "*m unit"]:
    """Which units respond to two features or more."""
    return responds(response, share).sum(-1) >= 2


@dataclass(frozen=True)
class Case:
    """One of the four cases.

    Attributes:
        name: in words.
        directions: of the features in the layer, [hidden, feature].
        response: of the units that are looked at, [unit, feature].
    """

    name: str
    directions: Float[Tensor, "hidden feature"]
    response: Float[Tensor, "unit feature"]

    @property
    def superposed(self) -> bool:
        """Whether more features are represented than the layer has dimensions."""
        kept = geometry.represented(self.directions)
        return int(kept.sum()) > len(self.directions)

    @property
    def polysemantic(self) -> int:
        """How many of the units respond to two features or more."""
        return int(polysemantic(self.response).sum())


def four_cases(
    superposed: Float[Tensor, "hidden feature"], readout: Float[Tensor, "unit feature"], seed: int
) -> list[Case]:
    """Superposition or not × polysemantic units or not, each built.

    Args:
        superposed: columns of a trained W, more features than dimensions.
        readout: what more units than dimensions do when each feature is there alone: the sparse
            activities of an overcomplete code, or the outputs of the toy model.
        seed: of the rotation that makes units polysemantic where nothing is superposed.

    Raises:
        ValueError: a layer of one dimension, which has no basis to be turned.
    """
    m = len(superposed)
    if m < 2:
        raise ValueError(f"the layer has {m} dimension; give a W with 2 or more")
    turned = torch.linalg.qr(torch.randn(m, m, generator=training.generator(seed))).Q
    few = max(2, m - 1)
    return [
        Case("own axes", torch.eye(m), torch.eye(m)),
        Case("turned basis", turned[:, :few], turned[:, :few]),
        Case("superposed", superposed, superposed),
        Case("superposed, more units", superposed, readout),
    ]


def fewest_polysemantic(
    directions: Float[Tensor, "hidden feature"],
    bases: int,
    generator: torch.Generator,
    share: float = 0.3,
) -> int:
    """The smallest number of polysemantic units that a search over orthonormal bases finds.

    Half of the bases are random; each of the others is grown from some of the features (Gram and
    Schmidt), so that those stand on its axes as well as they can.
    """
    m, n = directions.shape
    free = torch.randn(bases // 2, m, m, generator=generator)
    chosen = torch.rand(bases - len(free), n, generator=generator).argsort(-1)[:, :m]
    some = torch.nn.functional.pad(directions.T[chosen].mT, (0, max(0, m - n)))
    some = some + 1e-4 * torch.randn(some.shape, generator=generator)
    units = torch.linalg.qr(torch.cat([free, some])).Q.mT  # [basis, unit, hidden]
    return int(polysemantic(units @ directions, share).sum(-1).min())
