import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mechbook import training
from mechbook.superposition import coding, geometry, neurons, toy


def test_the_solver_reaches_the_minimum_that_scipy_finds():
    draw = training.generator(0)
    h, atoms = torch.randn(4, 3, generator=draw), torch.randn(6, 3, generator=draw)
    D, found = atoms.double().numpy(), coding.encode(h, atoms, 0.3).double().numpy()

    def cost(row, v):
        return ((row - v @ D) ** 2).sum() / 2 + 0.3 * v.sum()

    for row, own in zip(h.double().numpy(), found, strict=True):
        best = minimize(
            lambda v, row=row: cost(row, v),
            np.full(6, 0.1), method="L-BFGS-B", bounds=[(0, None)] * 6, tol=1e-12,
        )  # fmt: skip
        assert cost(row, own) == pytest.approx(best.fun, abs=1e-4)


def test_the_solution_satisfies_the_conditions_of_optimality():
    draw = training.generator(1)
    h, atoms, price = torch.randn(5, 4, generator=draw), torch.randn(9, 4, generator=draw), 0.2
    a = coding.encode(h, atoms, price)
    slope = (a @ atoms - h) @ atoms.T + price
    assert bool((a >= 0).all())
    assert float(slope[a > 1e-4].abs().max()) < 0.01
    assert float(slope.min()) > -0.01


@pytest.mark.parametrize(("price", "width"), [(-0.1, 2), (0.0, 2), (0.1, 3)])
def test_a_price_of_zero_or_less_and_other_widths_are_refused(price, width):
    with pytest.raises(ValueError, match="as wide as h"):
        coding.encode(torch.ones(1, 2), torch.ones(3, width), price)


def test_learning_finds_directions_that_it_was_not_shown():
    directions = geometry.polytopes()["pentagon"].T
    x = toy.sample(toy.Features(5), 0.08, 2000, training.generator(4))
    code = coding.learn(x @ directions, 5, 0.1)
    assert torch.allclose(code.atoms.norm(dim=1), torch.ones(5), atol=1e-4)
    assert coding.found_share(code.atoms, directions) == 1
    assert code.lost < 0.05
    turned = neurons.partial_turn(2, 36, training.generator(0))
    assert coding.found_share(code.atoms, directions @ turned) == 0


def test_more_atoms_than_examples_are_refused():
    with pytest.raises(ValueError, match="3 examples that are not zero"):
        coding.learn(torch.cat([torch.ones(3, 2), torch.zeros(3, 2)]), 4, 0.1)


def test_pairing_gives_each_direction_an_atom_of_its_own():
    draw = training.generator(5)
    atoms, directions = torch.randn(5, 3, generator=draw), torch.randn(4, 3, generator=draw)
    chosen, cos = coding.pairing(atoms, directions)
    unit = torch.nn.functional.normalize
    every = unit(directions, dim=1) @ unit(atoms, dim=1).T
    best = max(
        sum(float(every[i, j]) for i, j in enumerate(order))
        for order in itertools.permutations(range(5), 4)
    )
    assert len(set(chosen.tolist())) == 4
    assert float(cos.sum()) == pytest.approx(best, rel=1e-5)
    with pytest.raises(ValueError, match="one a direction"):
        coding.pairing(directions[:2], directions)


def test_the_gaussian_twin_has_the_same_covariance():
    h = torch.rand(50_000, 3, generator=training.generator(6)) @ torch.tensor(
        [[1.0, 0, 0], [1, 1, 0], [0, 0, 2]]
    )
    twin = coding.gaussian_twin(h, training.generator(7))
    assert torch.allclose(twin.T @ twin / len(h), h.T @ h / len(h), atol=0.05)
    kurtosis = (twin.pow(4).mean(0) / twin.pow(2).mean(0).pow(2)).mean()
    assert float(kurtosis) == pytest.approx(3, abs=0.1)


def test_active_share_leaves_out_silence():
    values = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.001, 1.0]])
    assert coding.active_share(values) == pytest.approx(4 / 6)
    assert coding.active_share(torch.zeros(3, 2)) == 0


# --- the four cases ---


def test_a_unit_is_polysemantic_from_two_features_on():
    response = torch.tensor([[1.0, 0, 0], [1, -0.4, 0], [1, 0.2, 0], [0, 0, 0]])
    assert coding.polysemantic(response).tolist() == [False, True, False, False]
    assert coding.polysemantic(response, share=0.1).tolist() == [False, True, True, False]


def test_the_four_cases_are_four():
    W = toy.Toy(toy.ToyConfig(toy.Features(5), 2, start=1.5), seed=1).W.detach()
    W = W / W.norm(dim=0)
    cases = coding.four_cases(W, torch.eye(5), seed=0)
    assert [(case.superposed, case.polysemantic > 0) for case in cases] == [
        (False, False), (False, True), (True, True), (True, False)
    ]  # fmt: skip


def test_a_layer_of_one_dimension_has_no_four_cases():
    with pytest.raises(ValueError, match="2 or more"):
        coding.four_cases(torch.ones(1, 3), torch.eye(3), seed=0)


def test_orthogonal_features_have_a_basis_without_polysemantic_units():
    Q = torch.linalg.qr(torch.randn(5, 5, generator=training.generator(8))).Q
    assert coding.fewest_polysemantic(Q[:, :3], 400, training.generator(9)) == 0
    assert int(coding.polysemantic(Q[:, :3]).sum()) > 0


def test_a_superposed_layer_has_no_such_basis():
    """By counting: units that answer to one feature each can tell as many as they are."""
    W = torch.cat([torch.eye(3), torch.ones(3, 1) / 3**0.5], 1)
    assert coding.fewest_polysemantic(W, 400, training.generator(10)) >= 1
