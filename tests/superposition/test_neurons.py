import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.superposition import geometry, neurons, toy


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_the_notes_formula_is_the_relu_seen_in_the_turned_basis(x, y):
    turned = neurons.turn(torch.tensor([x, y], dtype=torch.float64))
    found = neurons.turned_relu(turned)
    up, right = max(x, 0), max(y, 0)
    assert found.tolist() == pytest.approx(
        [(up + right) / math.sqrt(2), (up - right) / math.sqrt(2)], abs=1e-9
    )


def test_turning_twice_is_turning_not_at_all():
    v = torch.randn(10, 2, generator=training.generator(0))
    assert torch.allclose(neurons.turn(neurons.turn(v)), v, atol=1e-6)


def test_rotations_are_orthogonal_and_none_is_likelier():
    R = neurons.rotations(3, 4000, training.generator(1))
    assert torch.allclose(R @ R.mT, torch.eye(3).expand(4000, 3, 3), atol=1e-5)
    assert float(R.mean(0).abs().max()) < 0.05  # without the signs the diagonal would be off
    assert float((R.pow(2).mean(0) - 1 / 3).abs().max()) < 0.02


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_a_partial_turn_turns_nothing_further_than_it_says(degrees):
    R = neurons.partial_turn(4, degrees, training.generator(2))
    angles = torch.linalg.eigvals(R).angle().rad2deg().abs()
    assert float(angles.max()) == pytest.approx(degrees, abs=0.1)
    assert torch.allclose(R @ R.T, torch.eye(4), atol=1e-5)


@pytest.fixture(scope="module")
def trained():
    config = toy.ToyConfig(toy.Features(4), 2, 0.8, neurons=True, steps=150)
    return toy.train(config, (0.9, 0.5), [0, 1])


def test_the_turned_loss_by_a_loop(trained):
    R = neurons.partial_turn(2, 40, training.generator(3))
    found = neurons.turned_loss(trained, 1, R, batch=20, seed=5)
    x = toy.sample(trained.config.features, 0.5, 20, training.generator(5, 1))
    W, b = trained.W[1, 1], trained.b[1, 1]
    losses = []
    for row in x:
        back = R.T @ (R @ (W @ row)).clamp(min=0)
        out = (W.T @ back + b).clamp(min=0)
        losses.append(sum(0.8**i * float(out[i] - row[i]) ** 2 for i in range(4)))
    assert float(found[1]) == pytest.approx(sum(losses) / 20, rel=1e-4)


def test_not_turned_it_is_the_loss_of_the_model(trained):
    found = neurons.turned_loss(trained, 0, torch.eye(2), batch=16384)
    assert torch.allclose(found, trained.loss[0], rtol=0.05)


def test_a_linear_layer_may_be_turned_at_will():
    config = toy.ToyConfig(toy.Features(4), 2, steps=20)
    found = toy.train(config, (0.5,), [0])
    R = neurons.rotations(2, 1, training.generator(4))[0]
    as_it_is, turned = (neurons.turned_loss(found, 0, T) for T in (torch.eye(2), R))
    assert torch.allclose(as_it_is, turned, rtol=1e-4)


def test_what_was_not_turned_needs_no_undoing():
    h = torch.randn(200, 3, generator=training.generator(5))
    assert neurons.not_undone(h, torch.eye(3)) == pytest.approx(0, abs=1e-6)
    assert neurons.not_undone(h, torch.eye(3)[[2, 0, 1]]) == pytest.approx(0, abs=1e-6)
    assert neurons.not_undone(h, -torch.eye(3)) > 0.2


def test_features_on_the_axes_are_aligned_and_empty_ones_do_not_count():
    W = torch.tensor([[1.0, 0.0, 0.1], [0.0, -2.0, 0.1]])
    assert float(neurons.alignment(W)) == 1
    assert float(neurons.alignment(torch.full((4, 2), 0.5))) == pytest.approx(0.25)
    assert float(neurons.alignment(torch.zeros(2, 3))) == 0


def test_the_null_keeps_the_gram_matrix_and_loses_the_axes():
    null = neurons.alignment_null(
        torch.stack([torch.eye(3), torch.eye(3)]), 50, training.generator(6)
    )
    assert null.shape == (2, 50)
    assert float(null.max()) < 0.99
    R = neurons.rotations(3, 1, training.generator(6))[0]
    assert torch.allclose(geometry.gram(R @ torch.eye(3)), torch.eye(3), atol=1e-5)


def test_firing_counts_neurons_above_the_floor():
    W = torch.tensor([[[1.0, -1.0], [0.0, 0.005]]])
    assert neurons.firing(W, torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0.25
    assert neurons.firing(W, torch.tensor([[0.0, 1.0]]), floor=0.001) == 0.5
