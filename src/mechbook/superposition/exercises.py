"""The exercises of the chapter on superposition.

Shapes as in the chapter: W is ``[hidden, feature]``, a batch has its examples in rows. Specifications
work in float64 and state properties; they never call a solution.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechbook.exercises import Exercise, Hint, Wrong, distinct_sizes, draw, equal, require_shape

# --- 1. the model -----------------------------------------------------------------------------


def toy_model(
    x: Float[Tensor, "batch feature"],
    W: Float[Tensor, "hidden feature"],
    b: Float[Tensor, " feature"],
) -> Float[Tensor, "batch feature"]:
    """ReLU(WᵀW x + b), for each row of x."""
    raise NotImplementedError


def toy_model_solution(
    x: Float[Tensor, "batch feature"],
    W: Float[Tensor, "hidden feature"],
    b: Float[Tensor, " feature"],
) -> Float[Tensor, "batch feature"]:
    """Down with W, up with the same W."""
    h = x @ W.T  # [batch, hidden]
    return (h @ W + b).relu()


def _model_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    batch, hidden, feature = distinct_sizes(3, generator)
    x, W = draw(batch, feature, generator=generator), draw(hidden, feature, generator=generator)
    b = draw(feature, generator=generator)
    found = candidate(x, W, b)
    require_shape(found, batch, feature)
    if bool((found < 0).any()):
        raise Hint("A feature came back negative. What is applied last?")
    none = torch.zeros_like(x)
    if not equal(candidate(none, W, b), b.relu().expand(batch, -1)):
        raise Hint("With x = 0 the ReLU of b should come back. Is b added after the squeeze?")
    large = b + 1000
    G = torch.stack([(W * W[:, [i]]).sum(0) for i in range(feature)])
    if not equal(candidate(x, W, large), x @ G + large):
        raise Hint(
            "With a large b nothing is clipped, and WᵀW x + b should come back. Is h linear?"
        )
    wanted = torch.stack([(G @ row + b).clamp(min=0) for row in x])
    if not equal(found, wanted):
        raise Hint("One row at a time it should be ReLU(WᵀW x + b). Compare one row by hand.")


def _without_relu(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return x @ W.T @ W + b


def _bias_squeezed(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return ((x + b) @ W.T @ W).relu()


def _relu_inside(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return ((x @ W.T).relu() @ W + b).relu()


# --- 2. dimensionality ------------------------------------------------------------------------


def dimensionality(W: Float[Tensor, "hidden feature"]) -> Float[Tensor, " feature"]:
    """The share of a dimension that each feature has to itself; 0 for a feature of length 0."""
    raise NotImplementedError


def dimensionality_solution(W: Float[Tensor, "hidden feature"]) -> Float[Tensor, " feature"]:
    """Only the feature's own direction is brought to length 1."""
    length = W.norm(dim=0)
    unit = W / length.clamp(min=1e-12)
    overlap = (unit.T @ W).pow(2).sum(1)
    return torch.where(length > 0, length.pow(2) / overlap.clamp(min=1e-24), 0.0)


def _dimensionality_specification(
    candidate: Callable[..., Tensor], generator: torch.Generator
) -> None:
    hidden, feature = distinct_sizes(2, generator, low=3)
    axes = torch.eye(hidden, dtype=torch.float64)
    found = candidate(axes)
    require_shape(found, hidden)
    if not equal(found, torch.ones(hidden)):
        raise Hint("Features at right angles, of length 1, should have D = 1 each.")
    if not equal(candidate(torch.cat([axes, -axes], 1)), torch.full((2 * hidden,), 0.5)):
        raise Hint("Opposite features should have D = ½. What is squared, and what is summed?")
    if not equal(candidate(3 * axes), torch.ones(hidden)):
        raise Hint("All directions three times as long should change nothing. How is W_i scaled?")
    W = draw(hidden, feature, generator=generator)
    unit = W / W.norm(dim=0)
    wanted = [
        float(W[:, i].pow(2).sum() / sum(float(unit[:, i] @ W[:, j]) ** 2 for j in range(feature)))
        for i in range(feature)
    ]
    if not equal(candidate(W), torch.tensor(wanted)):
        raise Hint(
            "A long neighbor should weigh more than a short one. Which of the two in the sum has length 1?"
        )
    empty = W.clone()
    empty[:, 0] = 0
    found = candidate(empty)
    if bool(found.isnan().any()) or float(found[0]) != 0:
        raise Hint("A feature of length 0 takes up no dimension: its D should be 0, not nan.")


def _both_unit(W: Tensor) -> Tensor:
    unit = W / W.norm(dim=0).clamp(min=1e-12)
    return (W.norm(dim=0) > 0) / (unit.T @ unit).pow(2).sum(1).clamp(min=1e-12)


def _neither_unit(W: Tensor) -> Tensor:
    return W.pow(2).sum(0) / (W.T @ W).pow(2).sum(1).clamp(min=1e-12)


def _not_squared(W: Tensor) -> Tensor:
    unit = W / W.norm(dim=0).clamp(min=1e-12)
    return W.pow(2).sum(0) / (unit.T @ W).sum(1).pow(2).clamp(min=1e-9)


def _zero_by_zero(W: Tensor) -> Tensor:
    unit = W / W.norm(dim=0)
    return W.norm(dim=0).pow(2) / (unit.T @ W).pow(2).sum(1)


# --- 3. never together ------------------------------------------------------------------------


def never_together(
    coins: Float[Tensor, "batch pair"], density: float
) -> Bool[Tensor, "batch pair two"]:
    """Which of the two features of each pair is there: at most one, each with this probability."""
    raise NotImplementedError


def never_together_solution(
    coins: Float[Tensor, "batch pair"], density: float
) -> Bool[Tensor, "batch pair two"]:
    """One coin a pair, with two stretches of the same length that do not touch."""
    first = coins < density
    second = (coins >= density) & (coins < 2 * density)
    return torch.stack([first, second], -1)


def _never_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    batch, pair = distinct_sizes(2, generator)
    density = 0.1 + 0.35 * float(torch.rand((), generator=generator))
    coins = torch.rand(batch, pair, generator=generator)
    found = candidate(coins, density)
    require_shape(found, batch, pair, 2)
    if found.dtype != torch.bool:
        raise Hint("Each entry should be True or False. What does < give for two tensors?")
    many = candidate(torch.linspace(0, 1, 4001)[:-1, None], density)
    if bool(many.all(-1).any()):
        raise Hint("Both of a pair were there at once. Can two stretches of one coin overlap?")
    rates = many.double().mean((0, 1))
    if float((rates[0] - rates[1]).abs()) > 0.01:
        raise Hint("One of the two comes more often. How long is each one's stretch of the coin?")
    if float((rates - density).abs().max()) > 0.01:
        raise Hint("Each feature should be there with this probability, so a pair twice as often.")
    if not torch.equal(candidate(coins.flip(1), density).flip(1), found):
        raise Hint("Each pair should follow its own coin.")


def _both_on_one(coins: Tensor, density: float) -> Tensor:
    return torch.stack([coins < density] * 2, -1)


def _shared_density(coins: Tensor, density: float) -> Tensor:
    return torch.stack([coins < density / 2, (coins >= density / 2) & (coins < density)], -1)


def _the_rest(coins: Tensor, density: float) -> Tensor:
    return torch.stack([coins < density, coins >= density], -1)


# --- 4. turn a layer --------------------------------------------------------------------------


def turned_layer(
    x: Float[Tensor, "batch feature"],
    W: Float[Tensor, "hidden feature"],
    R: Float[Tensor, "hidden hidden"],
) -> Float[Tensor, "batch hidden"]:
    """Rᵀ ReLU(R W x), for each row of x."""
    raise NotImplementedError


def turned_layer_solution(
    x: Float[Tensor, "batch feature"],
    W: Float[Tensor, "hidden feature"],
    R: Float[Tensor, "hidden hidden"],
) -> Float[Tensor, "batch hidden"]:
    """For rows, to apply R is to multiply by its transpose on the right."""
    return (x @ W.T @ R.T).relu() @ R


def _turn_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    batch, hidden, feature = distinct_sizes(3, generator, low=3)
    x, W = draw(batch, feature, generator=generator), draw(hidden, feature, generator=generator)
    R = torch.linalg.qr(draw(hidden, hidden, generator=generator)).Q
    straight = torch.eye(hidden, dtype=torch.float64)
    found = candidate(x, W, R)
    require_shape(found, batch, hidden)
    h = torch.stack([W @ row for row in x])
    if equal(found, h):
        raise Hint("Turning and turning back did nothing. Where is the ReLU?")
    if not equal(candidate(x, W, straight), h.clamp(min=0)):
        raise Hint("With R = 1 it should be ReLU(W x).")
    order = torch.randperm(hidden, generator=generator).roll(1)
    if not equal(candidate(x, W, straight[order]), h.clamp(min=0)):
        raise Hint("To rename the axes should change nothing. Do you turn back, with Rᵀ?")
    wanted = torch.stack([R.T @ (R @ row).clamp(min=0) for row in h])
    if not equal(found, wanted):
        raise Hint("Compare one row: R first, ReLU, then Rᵀ. Which side does R stand on for rows?")


def _linear_turn(x: Tensor, W: Tensor, R: Tensor) -> Tensor:
    return x @ W.T @ R.T @ R


def _not_turned_back(x: Tensor, W: Tensor, R: Tensor) -> Tensor:
    return (x @ W.T @ R.T).relu()


def _other_way(x: Tensor, W: Tensor, R: Tensor) -> Tensor:
    return (x @ W.T @ R).relu() @ R.T


# --- 5. polysemantic units --------------------------------------------------------------------


def polysemantic_units(response: Float[Tensor, "unit feature"], share: float) -> int:
    """How many units respond to two features or more.

    A unit responds to a feature if the size of its response is at least ``share`` of the largest
    that it has. A unit that never moves responds to nothing.
    """
    raise NotImplementedError


def polysemantic_units_solution(response: Float[Tensor, "unit feature"], share: float) -> int:
    """Each unit is compared with its own largest response."""
    size = response.abs()
    most = size.amax(-1, keepdim=True)
    responds = (size >= share * most) & (most > 0)
    return int((responds.sum(-1) >= 2).sum())


def _units_specification(candidate: Callable[..., int], generator: torch.Generator) -> None:
    units, features = distinct_sizes(2, generator, low=3)
    share = 0.3
    alone = torch.zeros(units, features, dtype=torch.float64)
    alone[torch.arange(units), torch.randint(features, (units,), generator=generator)] = 1.0
    if candidate(alone, share) != 0:
        raise Hint(
            "Each unit moves for one feature only; none is polysemantic. Do you count from 2?"
        )
    if candidate(torch.zeros_like(alone), share) != 0:
        raise Hint("A unit that never moves responds to nothing, though 0 ≥ 0.3 · 0.")
    both = alone.clone()
    both[0] = 0
    both[0, 0], both[0, 1] = 1.0, -0.9
    if candidate(both, share) != 1:
        raise Hint("A unit that answers +1 to one feature and −0.9 to another answers to both.")
    scaled = both * torch.logspace(0, -6, units, dtype=torch.float64)[:, None]
    scaled[-1] = both[0] * 1e-6
    if candidate(scaled, share) != 2:
        raise Hint("A quiet unit can be polysemantic, too. With whose largest do you compare?")
    random = draw(units, features, generator=generator)
    own = [sorted((abs(v) for v in row), reverse=True) for row in random.tolist()]
    if candidate(random, share) != sum(row[1] >= share * row[0] for row in own):
        raise Hint(
            "The second largest response of a unit, over its largest, decides. Compare a row."
        )


def _positive_only(response: Tensor, share: float) -> int:
    most = response.amax(-1, keepdim=True)
    return int((((response >= share * most) & (most > 0)).sum(-1) >= 2).sum())


def _loudest_of_all(response: Tensor, share: float) -> int:
    size = response.abs()
    return int((((size >= share * size.max()) & (size > 0)).sum(-1) >= 2).sum())


def _silent_too(response: Tensor, share: float) -> int:
    size = response.abs()
    return int(((size >= share * size.amax(-1, keepdim=True)).sum(-1) >= 2).sum())


def _any_unit(response: Tensor, share: float) -> int:
    size = response.abs()
    most = size.amax(-1, keepdim=True)
    return int((((size >= share * most) & (most > 0)).sum(-1) >= 1).sum())


# --- 6. absolute values by hand ---------------------------------------------------------------


def absolute_by_hand(
    n_features: int, n_neurons: int
) -> tuple[Float[Tensor, "neuron feature"], Float[Tensor, "feature neuron"]]:
    """W1 and W2 so that W2 ReLU(W1 x) is ``|x|`` for as many features as can be had without sharing."""
    raise NotImplementedError


def absolute_by_hand_solution(
    n_features: int, n_neurons: int
) -> tuple[Float[Tensor, "neuron feature"], Float[Tensor, "feature neuron"]]:
    """Neuron i fires for the positive side of feature i, neuron done + i for its negative side."""
    done = min(n_features, n_neurons // 2)
    W1 = torch.zeros(n_neurons, n_features, dtype=torch.float64)
    one = torch.arange(done)
    W1[one, one], W1[done + one, one] = 1.0, -1.0
    return W1, W1.abs().T


def _absolute_specification(
    candidate: Callable[..., tuple[Tensor, Tensor]], generator: torch.Generator
) -> None:
    few, many = distinct_sizes(2, generator, low=2, high=6)
    for n, m in ((few + many, 2 * many), (few, 2 * few + 3)):
        W1, W2 = (matrix.double() for matrix in candidate(n, m))
        require_shape(W1, m, n)
        require_shape(W2, n, m)
        x = draw(64, n, generator=generator)
        found = (x @ W1.T).clamp(min=0) @ W2.T
        right = (found - x.abs()).abs().amax(0) < 1e-6
        if bool(((found - x).abs().amax(0) < 1e-6).any()):
            raise Hint("x came back, with its sign. What should the neuron of −x add?")
        half = (found - x.clamp(min=0)).abs().amax(0) < 1e-6
        if int(half.sum()) > 0:
            raise Hint(
                "Only the positive side comes through. |x| = ReLU(x) + ReLU(−x): two neurons."
            )
        if int(right.sum()) < min(n, m // 2):
            raise Hint(
                f"{m} neurons can do {min(n, m // 2)} of {n} features; yours do {int(right.sum())}."
            )


def _one_side(n_features: int, n_neurons: int) -> tuple[Tensor, Tensor]:
    W1 = torch.eye(n_neurons, n_features, dtype=torch.float64)
    return W1, W1.T


def _sign_kept(n_features: int, n_neurons: int) -> tuple[Tensor, Tensor]:
    W1, _ = _pairs_of_neurons(n_features, n_neurons, min(n_features, n_neurons // 2))
    return W1, W1.T


def _one_feature(n_features: int, n_neurons: int) -> tuple[Tensor, Tensor]:
    return _pairs_of_neurons(n_features, n_neurons, 1)


def _pairs_of_neurons(n_features: int, n_neurons: int, done: int) -> tuple[Tensor, Tensor]:
    W1 = torch.zeros(n_neurons, n_features, dtype=torch.float64)
    for i, side in itertools.product(range(done), (0, 1)):
        W1[2 * i + side, i] = 1.0 - 2 * side
    return W1, W1.abs().T


EXERCISES = (
    Exercise(
        name="the-toy-model",
        prompt="Write the toy model for a batch: $\\mathrm{ReLU}(W^\\top W x + b)$, with the examples "
        "in the rows of `x` `[batch feature]`, `W` `[hidden feature]` and `b` `[feature]`. Write "
        "down the shape after each product.",
        stub=toy_model,
        solution=toy_model_solution,
        specification=_model_specification,
        wrong=(
            Wrong(_without_relu, "What is applied last?"),
            Wrong(_bias_squeezed, "Is b added after the squeeze?"),
            Wrong(_relu_inside, "Is h linear?"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="dimensionality",
        prompt="Write $D_i = \\lVert W_i \\rVert^2 / \\sum_j (\\hat W_i \\cdot W_j)^2$ for all features of "
        "`W` `[hidden feature]` at once. What should it be for a feature of length zero, and why?",
        stub=dimensionality,
        solution=dimensionality_solution,
        specification=_dimensionality_specification,
        wrong=(
            Wrong(_both_unit, "Which of the two in the sum has length 1?"),
            Wrong(_neither_unit, "How is W_i scaled?"),
            Wrong(_not_squared, "What is squared, and what is summed?"),
            Wrong(_zero_by_zero, "its D should be 0, not nan"),
        ),
    ),
    Exercise(
        name="never-together",
        prompt="Pairs of features that exclude each other. You get one coin a pair, uniform on 0 to 1, "
        "`[batch pair]`, and a density up to ½. Say which of the two is there, `[batch pair two]`: at "
        "most one of them, and each with this probability.",
        stub=never_together,
        solution=never_together_solution,
        specification=_never_specification,
        wrong=(
            Wrong(_both_on_one, "Both of a pair were there at once"),
            Wrong(_shared_density, "so a pair twice as often"),
            Wrong(_the_rest, "One of the two comes more often"),
        ),
    ),
    Exercise(
        name="turn-a-layer",
        prompt="Turn a layer of neurons before its ReLU and back after it: $R^\\top \\mathrm{ReLU}(R W x)$, "
        "with the examples in rows. For which matrices $R$ other than the identity does nothing "
        "change?",
        stub=turned_layer,
        solution=turned_layer_solution,
        specification=_turn_specification,
        wrong=(
            Wrong(_linear_turn, "Where is the ReLU?"),
            Wrong(_not_turned_back, "Do you turn back"),
            Wrong(_other_way, "Which side does R stand on"),
        ),
        answer="For permutations: they rename the axes. (A change of sign of an axis does change the "
        "result; the ReLU knows up from down.)",
    ),
    Exercise(
        name="polysemantic-units",
        prompt="`response` `[unit feature]` says what each unit does when each feature is there alone. "
        "Count the units that respond to two features or more. To respond is to move by at least "
        "`share` of the unit's own largest response, up or down; a unit that never moves responds to "
        "nothing.",
        stub=polysemantic_units,
        solution=polysemantic_units_solution,
        specification=_units_specification,
        wrong=(
            Wrong(_positive_only, "answers to both"),
            Wrong(_loudest_of_all, "With whose largest do you compare?"),
            Wrong(_silent_too, "never moves responds to nothing"),
            Wrong(_any_unit, "Do you count from 2?"),
        ),
    ),
    Exercise(
        name="absolute-by-hand",
        prompt="No training: set `W1` `[neuron feature]` and `W2` `[feature neuron]` so that "
        "$W_2\\,\\mathrm{ReLU}(W_1 x) = |x|$ for as many of the features as `n_neurons` can do without "
        "sharing. The others may come out as they like. Then say what the trained network of the "
        "chapter does better, and what worse.",
        stub=absolute_by_hand,
        solution=absolute_by_hand_solution,
        specification=_absolute_specification,
        wrong=(
            Wrong(_one_side, "Only the positive side"),
            Wrong(_sign_kept, "x came back, with its sign"),
            Wrong(_one_feature, "yours do 1"),
        ),
        level="challenge",
        answer="Every feature done here is exact, and the others are lost altogether. The trained "
        "network does part of most of them: on rare features that is worth more in all.",
    ),
    Exercise(
        name="three-that-exclude-each-other",
        prompt="Three features of which at most one is there, in *two* dimensions. Find on paper two "
        "placements that have no loss at all with the ReLU. Then groups of three, many of them: "
        "what does training find, and how does that depend on the density? "
        "`Features(n, 'anticorrelated', group=3)` has the data, `geometry.shape_name` names shapes.",
        level="open-ended",
        answer="No single answer. On paper: a triangle (what arrives at an absent feature is negative "
        "and is cut off), and two opposite ones with the third at a right angle; any three directions "
        "with no angle below 90 degrees will do. So the loss does not choose between them, and the "
        "start does. A good experiment counts shapes over many seeds, at several densities, with "
        "independent features as the control.",
    ),
    Exercise(
        name="an-axis-that-should-not-be",
        prompt="The linear bottleneck has no privileged basis, yet its features may be spread over the "
        "axes more evenly than a random turn would spread them. Is it so, and is it Adam? Design the "
        "experiment that decides: what would you change, and what does each explanation predict?",
        level="open-ended",
        answer="No single answer. Plain gradient descent does not know axes: with it, training from a "
        "turned start gives the turned result, and the alignment should lie anywhere in its null. With "
        "Adam it should not. A second test turns the start itself, which must not matter to gradient "
        "descent. Controls: the same loss reached by both, more than one size of the start, and enough "
        "seeds to see a shift of the mean within a null as wide as this one.",
    ),
)
