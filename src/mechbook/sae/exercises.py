"""The exercises of the chapter on sparse autoencoders.

Row convention: an activation is a row of ``d_in`` numbers, ``W_enc`` is ``[d_in, latent]``, row i
of ``W_dec`` is the direction of latent i. Specifications work in float64 and call no solution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from mechbook.exercises import Exercise, Hint, Wrong, distinct_sizes, draw, equal, require_shape

# --- 1. there and back ------------------------------------------------------------------------


def there_and_back(
    h: Float[Tensor, "batch d_in"],
    W_enc: Float[Tensor, "d_in latent"],
    b_enc: Float[Tensor, " latent"],
    W_dec: Float[Tensor, "latent d_in"],
    b_dec: Float[Tensor, " d_in"],
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch d_in"]]:
    """The code z and the reconstruction."""
    raise NotImplementedError


def there_and_back_solution(
    h: Float[Tensor, "batch d_in"],
    W_enc: Float[Tensor, "d_in latent"],
    b_enc: Float[Tensor, " latent"],
    W_dec: Float[Tensor, "latent d_in"],
    b_dec: Float[Tensor, " d_in"],
) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch d_in"]]:
    """Center, read, clip; write, put the center back."""
    z = ((h - b_dec) @ W_enc + b_enc).relu()
    return z, z @ W_dec + b_dec


def _there_and_back_specification(
    candidate: Callable[..., tuple[Tensor, Tensor]], generator: torch.Generator
) -> None:
    batch, d_in, latents = distinct_sizes(3, generator)
    h, W_enc = draw(batch, d_in, generator=generator), draw(d_in, latents, generator=generator)
    W_dec, b_dec = draw(latents, d_in, generator=generator), draw(d_in, generator=generator)
    zero, quiet = torch.zeros(latents).double(), torch.full((latents,), -1e6).double()
    z, out = candidate(h, W_enc, zero, W_dec, b_dec)
    require_shape(z, batch, latents)
    require_shape(out, batch, d_in)
    if bool((z < 0).any()):
        raise Hint("A latent is negative. What clips it, and before or after the decoder?")
    if not equal(candidate(h, W_enc, quiet, W_dec, b_dec)[1], b_dec.expand(batch, d_in)):
        raise Hint("With every latent silent, b_dec should be left. Is it added back, unclipped?")
    if bool(candidate(b_dec.expand(batch, d_in), W_enc, zero, W_dec, b_dec)[0].any()):
        raise Hint("An activation equal to b_dec should say nothing. What does the encoder see?")
    back = torch.linalg.pinv(W_dec) if latents < d_in else None
    wanted = ((h - b_dec) @ W_enc).clamp(min=0)
    if not equal(z, wanted) or (back is not None and not equal((out - b_dec) @ back, z)):
        raise Hint("Some number is off. Which matrix reads, which one writes?")


def _no_centering(
    h: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor
) -> tuple[Tensor, Tensor]:
    z = (h @ W_enc + b_enc).relu()
    return z, z @ W_dec + b_dec


def _relu_at_the_end(
    h: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor
) -> tuple[Tensor, Tensor]:
    z = (h - b_dec) @ W_enc + b_enc
    return z, (z @ W_dec + b_dec).relu()


def _center_not_put_back(
    h: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor
) -> tuple[Tensor, Tensor]:
    z = ((h - b_dec) @ W_enc + b_enc).relu()
    return z, z @ W_dec


# --- 2. what it costs -------------------------------------------------------------------------


def what_it_costs(
    h: Float[Tensor, "batch d_in"],
    out: Float[Tensor, "batch d_in"],
    z: Float[Tensor, "batch latent"],
    price: float,
) -> Float[Tensor, ""]:
    """Squared error plus ``price`` times the L1 sum, as a mean over the batch."""
    raise NotImplementedError


def what_it_costs_solution(
    h: Float[Tensor, "batch d_in"],
    out: Float[Tensor, "batch d_in"],
    z: Float[Tensor, "batch latent"],
    price: float,
) -> Float[Tensor, ""]:
    """Sums over dimensions and latents, a mean over examples."""
    return (h - out).pow(2).sum(-1).mean() + price * z.abs().sum(-1).mean()


def _costs_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    batch, d_in, latents = distinct_sizes(3, generator)
    h, z = draw(batch, d_in, generator=generator), draw(batch, latents, generator=generator).abs()
    out, price = draw(batch, d_in, generator=generator), 0.3
    cost = torch.as_tensor(candidate(h, out, z, price))
    require_shape(cost)
    if not equal(
        torch.as_tensor(candidate(h.repeat(2, 1), out.repeat(2, 1), z.repeat(2, 1), price)), cost
    ):
        raise Hint("The same batch twice should cost the same. Is it a mean over the batch?")
    silent = torch.zeros_like(z)
    wider = torch.cat([z, silent], 1)
    if not equal(torch.as_tensor(candidate(h, out, wider, price)), cost):
        raise Hint("Latents that are never active made it cheaper. Do you sum over latents?")
    one = torch.zeros_like(h)
    one[:, 0] = 2.0
    if not equal(torch.as_tensor(candidate(one, 0 * one, silent, price)), torch.tensor(4.0)):
        raise Hint("An error of 2 in one dimension should cost 4. Do you sum over dimensions?")
    if not equal(torch.as_tensor(candidate(h, h, z, price)), price * z.sum() / batch):
        raise Hint("A perfect reconstruction still pays the price times its latents, once each.")


def _mean_over_latents(h: Tensor, out: Tensor, z: Tensor, price: float) -> Tensor:
    return (h - out).pow(2).sum(-1).mean() + price * z.abs().mean()


def _mean_over_dimensions(h: Tensor, out: Tensor, z: Tensor, price: float) -> Tensor:
    return (h - out).pow(2).mean() + price * z.abs().sum(-1).mean()


def _squares_of_latents(h: Tensor, out: Tensor, z: Tensor, price: float) -> Tensor:
    return (h - out).pow(2).sum(-1).mean() + price * z.pow(2).sum(-1).mean()


# --- 3. where zeros come from -----------------------------------------------------------------


def cheapest_latent(x: Float[Tensor, " example"], price: float) -> Float[Tensor, " example"]:
    """The z that makes ``(x - z)² + price · |z|`` least, for each x."""
    raise NotImplementedError


def cheapest_latent_solution(
    x: Float[Tensor, " example"], price: float
) -> Float[Tensor, " example"]:
    """The soft threshold: half the price less, and zero below that."""
    return x.sign() * (x.abs() - price / 2).clamp(min=0)


def _cheapest_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (count,) = distinct_sizes(1, generator, low=5)
    price = float(torch.rand((), generator=generator)) + 0.5
    x = torch.cat([3 * draw(count, generator=generator), torch.tensor([price / 4, 2 * price])])
    z = candidate(x, price)
    require_shape(z, count + 2)
    if float(z[-2].abs()) > 1e-9:
        raise Hint("A small x should give exactly zero. What does the slope of |z| do at zero?")
    away = (x[-1] - z[-1]).item()
    if abs(away) < 1e-9:
        raise Hint("A large x is not left as it is: each bit of z still costs. What is the slope?")
    if not equal(candidate(-x, price), -z):
        raise Hint("The cost is the same for x and -x. Is your answer, up to its sign?")
    grid = torch.linspace(-12, 12, 48001).double()
    best = grid[((x[:, None] - grid) ** 2 + price * grid.abs()).argmin(-1)]
    if float((z - best).abs().max()) > 1e-3:
        raise Hint("A grid finds something cheaper. What is the derivative of (x - z)² in z?")


def _ridge(x: Tensor, price: float) -> Tensor:
    return x / (1 + price)


def _hard_threshold(x: Tensor, price: float) -> Tensor:
    return x * (x.abs() > price / 2)


def _whole_price(x: Tensor, price: float) -> Tensor:
    return x.sign() * (x.abs() - price).clamp(min=0)


# --- 4. the k largest -------------------------------------------------------------------------


def keep_k(pre: Float[Tensor, "batch latent"], k: int) -> Float[Tensor, "batch latent"]:
    """The code of a TopK autoencoder."""
    raise NotImplementedError


def keep_k_solution(pre: Float[Tensor, "batch latent"], k: int) -> Float[Tensor, "batch latent"]:
    """In each row the k largest that are above zero, in their places."""
    values, places = pre.relu().topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, places, values)


def _keep_k_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    batch, latents = distinct_sizes(2, generator, low=4)
    pre, k = draw(batch, latents, generator=generator), 2
    high = pre.abs() + torch.arange(batch)[:, None] * 10 + 1
    z = candidate(high, k)
    require_shape(z, batch, latents)
    if (z != 0).sum(-1).tolist() != [k] * batch:
        raise Hint("Each example should keep k latents of its own. Along which axis do you rank?")
    low = -pre.abs() - 1
    if bool((candidate(low, k) != 0).any()):
        raise Hint(
            "Every pre-activation is negative here, and something is kept. Where is the ReLU?"
        )
    for row, kept in zip(high, z, strict=True):
        wanted = sorted(row.tolist())[-k:]
        if not equal(kept[kept != 0].sort().values, torch.tensor(wanted)):
            raise Hint("The k *largest* should be kept, with their own values. What is yours?")
        if not bool(((kept == 0) | (kept == row)).all()):
            raise Hint(
                "The values are right and their places wrong. Which latent does each belong to?"
            )


def _over_the_batch(pre: Tensor, k: int) -> Tensor:
    flat = pre.relu().flatten()
    return (flat * (flat >= flat.topk(k * len(pre)).values[-1])).view_as(pre)


def _largest_by_size(pre: Tensor, k: int) -> Tensor:
    places = pre.abs().topk(k, dim=-1).indices
    return torch.zeros_like(pre).scatter(-1, places, pre.gather(-1, places))


def _sorted_to_the_front(pre: Tensor, k: int) -> Tensor:
    ranked = pre.relu().sort(-1, descending=True).values
    return ranked * (torch.arange(pre.shape[-1]) < k)


# --- 5. hold the length -----------------------------------------------------------------------


def sideways(
    gradient: Float[Tensor, "latent d_in"], W_dec: Float[Tensor, "latent d_in"]
) -> Float[Tensor, "latent d_in"]:
    """The part of the gradient that does not change the length of any direction (of any length)."""
    raise NotImplementedError


def sideways_solution(
    gradient: Float[Tensor, "latent d_in"], W_dec: Float[Tensor, "latent d_in"]
) -> Float[Tensor, "latent d_in"]:
    """Take out what lies along each row's own direction."""
    unit = normalize(W_dec, dim=-1)
    return gradient - (gradient * unit).sum(-1, keepdim=True) * unit


def _sideways_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    latents, d_in = distinct_sizes(2, generator, low=3)
    W_dec = draw(latents, d_in, generator=generator)
    gradient = draw(latents, d_in, generator=generator)
    found = candidate(gradient, W_dec)
    require_shape(found, latents, d_in)
    if not equal(candidate(W_dec, W_dec), torch.zeros_like(W_dec)):
        raise Hint("A gradient along W_dec itself should vanish. Have its rows length 1 here?")
    if float((found * W_dec).sum(-1).abs().max()) > 1e-9:
        raise Hint("Row by row, what is left should be at right angles to the direction. Is it?")
    if not equal(candidate(found, W_dec), found) or not equal(
        (gradient - found).norm(dim=-1), (gradient * normalize(W_dec, dim=-1)).sum(-1).abs()
    ):
        raise Hint("More is taken out than what lies along the direction. What should stay?")


def _for_unit_rows_only(gradient: Tensor, W_dec: Tensor) -> Tensor:
    return gradient - (gradient * W_dec).sum(-1, keepdim=True) * W_dec


def _one_direction_for_all(gradient: Tensor, W_dec: Tensor) -> Tensor:
    unit = W_dec / W_dec.norm()
    return gradient - (gradient * unit).sum() * unit


def _nothing_left(gradient: Tensor, W_dec: Tensor) -> Tensor:
    return torch.zeros_like(gradient)


# --- 6. found or not --------------------------------------------------------------------------


def share_found(
    W_dec: Float[Tensor, "latent d_in"], features: Float[Tensor, "feature d_in"]
) -> float:
    """Share of features whose own latent (one each) has a cosine above 0.9 with them."""
    raise NotImplementedError


def share_found_solution(
    W_dec: Float[Tensor, "latent d_in"], features: Float[Tensor, "feature d_in"]
) -> float:
    """Cosines, the best one-to-one pairing, and a count."""
    cosines = normalize(features, dim=-1) @ normalize(W_dec, dim=-1).T
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return float((cosines[rows, columns] > 0.9).sum()) / len(features)


def _found_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    count, extra = distinct_sizes(2, generator, low=2, high=6)
    features = torch.eye(count + extra).double()[:count]
    order = torch.randperm(count, generator=generator)
    noise = torch.eye(count + extra).double()[count:]
    whole = torch.cat([features[order], noise])

    def share(W_dec: Tensor, truth: Tensor) -> float:
        return float(candidate(W_dec, truth))

    if abs(share(whole, features) - 1) > 1e-6:
        raise Hint(
            "All features are there, in another order, and not all are found. How do you pair?"
        )
    if abs(share(5 * whole, 0.1 * features) - 1) > 1e-6:
        raise Hint("Longer directions are the same directions. What makes a product a cosine?")
    if share(-whole, features) > 1e-6:
        raise Hint("A latent that points the opposite way is no find: activity is never negative.")
    twins = features[:1] + torch.zeros(2, 1).double()
    twins[1] = normalize(features[0] + 0.2 * features[1], dim=0)
    if abs(share(torch.cat([features[:1], noise]), twins) - 0.5) > 1e-6:
        raise Hint("One latent was counted for two features. Can it be the own latent of both?")


def _nearest_counts_twice(W_dec: Tensor, features: Tensor) -> float:
    cosines = normalize(features, dim=-1) @ normalize(W_dec, dim=-1).T
    return float((cosines.amax(1) > 0.9).double().mean())


def _products_instead_of_cosines(W_dec: Tensor, features: Tensor) -> float:
    products = features @ W_dec.T
    rows, columns = linear_sum_assignment(products, maximize=True)
    return float((products[rows, columns] > 0.9).sum()) / len(features)


def _either_sign(W_dec: Tensor, features: Tensor) -> float:
    cosines = (normalize(features, dim=-1) @ normalize(W_dec, dim=-1).T).abs()
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return float((cosines[rows, columns] > 0.9).sum()) / len(features)


def _in_their_order(W_dec: Tensor, features: Tensor) -> float:
    count = min(len(W_dec), len(features))
    cosines = torch.cosine_similarity(W_dec[:count], features[:count], dim=-1)
    return float((cosines > 0.9).sum()) / len(features)


# --- 7. read one, ignore the rest -------------------------------------------------------------


def reading_directions(
    features: Float[Tensor, "feature d_in"],
) -> Float[Tensor, "feature d_in"]:
    """For each feature the shortest direction that reads 1 for it and 0 for every other feature."""
    raise NotImplementedError


def reading_directions_solution(
    features: Float[Tensor, "feature d_in"],
) -> Float[Tensor, "feature d_in"]:
    """The dual basis: the pseudo-inverse, transposed."""
    return torch.linalg.pinv(features).T


def _reading_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    count, d_in = sorted(distinct_sizes(2, generator, low=2, high=8))
    features = draw(count, d_in, generator=generator)
    reads = candidate(features)
    require_shape(reads, count, d_in)
    table = features @ reads.T
    if not equal(table.diagonal(), torch.ones(count)):
        raise Hint(
            "Each direction should read exactly 1 for its own feature. What does yours read?"
        )
    off = table - torch.diag(table.diagonal())
    if float(off.abs().max()) > 1e-6:
        raise Hint(
            "One feature makes another's reading move. Must a reading direction be the feature?"
        )
    inside = reads @ torch.linalg.pinv(features) @ features
    if not equal(inside, reads):
        raise Hint(
            "It reads right, but is longer than it needs to be: it leaves the features' span."
        )


def _the_features_themselves(features: Tensor) -> Tensor:
    return features


def _each_for_itself(features: Tensor) -> Tensor:
    return features / features.pow(2).sum(-1, keepdim=True)


def _with_something_outside(features: Tensor) -> Tensor:
    reads = torch.linalg.pinv(features).T
    outside = torch.eye(features.shape[1]).double() - torch.linalg.pinv(features) @ features
    return reads + outside[outside.norm(dim=-1).argmax()]


# --- 8. what is recovered ---------------------------------------------------------------------


def recovered(clean: float, patched: float, ablated: float) -> float:
    """Share of the loss that the reconstruction keeps: 1 no harm, 0 as bad as the ablation."""
    raise NotImplementedError


def recovered_solution(clean: float, patched: float, ablated: float) -> float:
    """How far from the ablation, in units of the whole way."""
    return (ablated - patched) / (ablated - clean)


def _recovered_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    clean, gap = (1 + 3 * torch.rand(2, generator=generator)).tolist()
    ablated = clean + gap

    def near(patched: float, wanted: float) -> bool:
        return abs(float(candidate(clean, patched, ablated)) - wanted) < 1e-6

    if not near(clean, 1):
        raise Hint("A reconstruction that does no harm should score 1. Which way do you measure?")
    if not near(ablated, 0):
        raise Hint("A reconstruction as bad as the ablation should score 0. What do you divide by?")
    if not near(ablated + gap, -1):
        raise Hint("Worse than the ablation should score below 0, not be cut off there.")
    if not near(clean + gap / 4, 0.75):
        raise Hint("A quarter of the harm should score three quarters: it is a straight line.")


def _share_of_the_ablated(clean: float, patched: float, ablated: float) -> float:
    return clean / patched


def _share_lost(clean: float, patched: float, ablated: float) -> float:
    return (patched - clean) / (ablated - clean)


def _cut_off(clean: float, patched: float, ablated: float) -> float:
    return max(0.0, (ablated - patched) / (ablated - clean))


# --- all of them ------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        "there-and-back",
        "Write the forward pass: $z = \\mathrm{ReLU}((h - b_{dec})\\,W_{enc} + b_{enc})$ and "
        "$h' = z\\,W_{dec} + b_{dec}$. Return both.",
        there_and_back,
        there_and_back_solution,
        _there_and_back_specification,
        (
            Wrong(_no_centering, "What does the encoder see?"),
            Wrong(_relu_at_the_end, "before or after the decoder?"),
            Wrong(_center_not_put_back, "Is it added back"),
        ),
        level="warm-up",
    ),
    Exercise(
        "what-it-costs",
        "Write the loss: the squared error of each example, summed over dimensions, plus the price "
        "times the *sum* of its latents' absolute values; then the mean over the batch.",
        what_it_costs,
        what_it_costs_solution,
        _costs_specification,
        (
            Wrong(_mean_over_latents, "Do you sum over latents?"),
            Wrong(_mean_over_dimensions, "Do you sum over dimensions?"),
            Wrong(_squares_of_latents, "the price times its latents, once each"),
        ),
        level="warm-up",
    ),
    Exercise(
        "where-zeros-come-from",
        "One latent, one feature of size $x$. Which $z$ makes $(x - z)^2 + \\lambda |z|$ least? Find "
        "it on paper, looking at $z = 0$ apart, then write it for a row of $x$. Where is it exactly "
        "zero, and how much is missing elsewhere?",
        cheapest_latent,
        cheapest_latent_solution,
        _cheapest_specification,
        (
            Wrong(_ridge, "What does the slope of |z| do at zero?"),
            Wrong(_hard_threshold, "each bit of z still costs"),
            Wrong(_whole_price, "What is the derivative of (x - z)²"),
        ),
        answer="The slope of the cost at $z > 0$ is $2(z - x) + \\lambda$, so $z = x - \\lambda/2$ where "
        "that is above zero; otherwise the cost rises in both directions from $z = 0$. This is what an "
        "autoencoder's ReLU with a negative bias computes: half the price is missing from every feature "
        "that it shows.",
    ),
    Exercise(
        "keep-the-k-largest",
        "A TopK autoencoder pays for nothing: of each example's pre-activations it keeps the $k$ "
        "largest that are above zero, in their places, and zeroes the rest. Write it.",
        keep_k,
        keep_k_solution,
        _keep_k_specification,
        (
            Wrong(_over_the_batch, "Along which axis do you rank?"),
            Wrong(_largest_by_size, "Where is the ReLU?"),
            Wrong(_sorted_to_the_front, "Which latent does each belong to?"),
        ),
    ),
    Exercise(
        "hold-the-length",
        "Directions are kept at a fixed length. Before each update, take out of the gradient what "
        "would change a direction's length, and leave the rest. The rows may have any length here.",
        sideways,
        sideways_solution,
        _sideways_specification,
        (
            Wrong(_for_unit_rows_only, "Have its rows length 1 here?"),
            Wrong(_one_direction_for_all, "at right angles to the direction"),
            Wrong(_nothing_left, "What should stay?"),
        ),
    ),
    Exercise(
        "found-or-not",
        "Given a dictionary and the true features, pair features with latents one to one so that the "
        "cosines add up to the most, and return the share of the features whose latent has a cosine "
        "above 0.9. `scipy.optimize.linear_sum_assignment` pairs.",
        share_found,
        share_found_solution,
        _found_specification,
        (
            Wrong(_nearest_counts_twice, "Can it be the own latent of both?"),
            Wrong(_products_instead_of_cosines, "What makes a product a cosine?"),
            Wrong(_either_sign, "activity is never negative"),
            Wrong(_in_their_order, "How do you pair?"),
        ),
    ),
    Exercise(
        "read-one-ignore-the-rest",
        "Features whose directions are not at right angles: for each, find the shortest direction "
        "whose product with it is 1 and with every other feature 0. Then compare the two directions "
        "of a feature, the one that reads and the one that writes. Must they align?",
        reading_directions,
        reading_directions_solution,
        _reading_specification,
        (
            Wrong(_the_features_themselves, "What does yours read?"),
            Wrong(_each_for_itself, "Must a reading direction be the feature?"),
            Wrong(_with_something_outside, "leaves the features' span"),
        ),
        level="challenge",
        answer="For linearly independent features they align only where the features are at right "
        "angles. For two features with cosine $c$ the reading direction has cosine "
        "$\\sqrt{1 - c^2}$ with its own feature.",
    ),
    Exercise(
        "what-is-recovered",
        "The reconstruction stands in for the activations and the model goes on from there. From the "
        "clean loss, the patched one, and the loss under an ablation, write the share that is "
        "recovered.",
        recovered,
        recovered_solution,
        _recovered_specification,
        (
            Wrong(_share_of_the_ablated, "What do you divide by?"),
            Wrong(_share_lost, "Which way do you measure?"),
            Wrong(_cut_off, "not be cut off there"),
        ),
    ),
    Exercise(
        "a-fair-baseline",
        "Principal components also reconstruct. Choose a number of components that explains as much "
        "variance as an autoencoder of this chapter, and score both the same way: how many numbers "
        "does each need for one activation, and what do the ten texts look like that move a component "
        "most? Say beforehand what would convince you that the autoencoder adds nothing.",
        level="open-ended",
        answer="There is no one answer. A component is dense: every activation has some of each, in both "
        "signs. Judge the texts without knowing which method they come from.",
    ),
    Exercise(
        "absorbed",
        "Give some features a child that never comes alone (`Truth(parents=...)`). Train with "
        "different prices, widths and variants, and find a setting in which the parent's latent stays "
        "silent beside the child, and one in which it does not. What does the loss gain by it?",
        level="open-ended",
        answer="One latent that writes parent and child together saves an active latent each time both "
        "are there: whatever makes active latents scarce pays for absorption.",
    ),
)
