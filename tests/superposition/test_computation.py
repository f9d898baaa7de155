import numpy as np
import pytest
import torch

from mechbook import training
from mechbook.superposition import computation as com
from mechbook.superposition import geometry, toy

SMALL = com.AbsoluteConfig(6, 4, steps=400, learning_rate=1e-2)


def test_the_network_is_its_equation_feature_by_feature():
    model = com.Absolute(com.AbsoluteConfig(3, 2), seed=1)
    model.b.data = torch.tensor([0.1, -0.2, 0.3])
    x = torch.randn(4, 3, generator=training.generator(0))
    model.requires_grad_(False)
    for row, out in zip(x, model(x), strict=True):
        h = [max(0.0, float(model.W1[k] @ row)) for k in range(2)]
        wanted = [sum(float(model.W2[i, k]) * h[k] for k in range(2)) for i in range(3)]
        assert out.tolist() == pytest.approx(
            [max(0.0, w + b) for w, b in zip(wanted, model.b.tolist(), strict=True)], abs=1e-5
        )


@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_the_best_constant_leaves_the_variance(density):
    x = toy.sample(toy.Features(1, signed=True), density, 400_000, training.generator(1)).abs()
    wanted = float(com.constant_error(torch.tensor(density)))
    assert float(x.var()) == pytest.approx(wanted, rel=0.03)


def test_dedicated_counts_two_neurons_a_feature():
    assert com.AbsoluteConfig(100, 40).dedicated == 20
    assert com.AbsoluteConfig(3, 40).dedicated == 3


def test_enough_neurons_compute_everything_when_features_are_frequent():
    found = com.train(com.AbsoluteConfig(2, 8, steps=800, learning_rate=1e-2), (0.7,), [0])
    assert float(found.worth[0, 0]) > 1.9


def test_training_does_better_than_not_training():
    found = com.train(SMALL, (0.5, 0.1), [0, 1])
    assert found.error.shape == (2, 2, 6)
    assert found.W1.shape == (2, 2, 4, 6)
    assert bool((found.worth > 1).all())
    assert bool((found.worth <= 6).all())


@pytest.mark.parametrize("densities", [(), (0.0,), (1.5,)])
def test_densities_that_cannot_be_are_refused(densities):
    with pytest.raises(ValueError, match="give"):
        com.train(SMALL, densities, [0])


@pytest.mark.parametrize("given", [{"n": 0}, {"n_hidden": 0}, {"importance": -1.0}])
def test_a_network_that_cannot_be_is_refused(given):
    with pytest.raises(ValueError, match="no negative importance"):
        com.AbsoluteConfig(**given)


def test_touched_counts_the_features_of_a_neuron():
    W1 = torch.tensor([[1.0, -0.5, 0.1], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    assert com.touched(W1) == pytest.approx(1.5)


def test_the_absolute_artifact_has_a_row_for_each_measurement(monkeypatch):
    monkeypatch.setattr(com, "AbsoluteConfig", lambda: SMALL)
    table, about = com.make_absolute(seeds=2, densities=(0.5, 0.2))
    points, worth = geometry.along(table, "worth")
    assert (points.tolist(), worth.shape, about["seeds"]) == ([0.5, 0.2], (2, 2), [0, 1])


# --- few examples ---


def test_examples_have_length_one_and_are_never_empty():
    x = com.examples(com.LimitedConfig(n=20, density=0.01), 50, training.generator(2))
    assert torch.allclose(x.norm(dim=1), torch.ones(50), atol=1e-5)
    assert bool((x >= 0).all())


def test_few_examples_are_remembered_and_others_are_not():
    found = com.train_limited(com.LimitedConfig(n=40, density=0.1, steps=1500), 5, [0])
    assert float(found.kept[0]) == float((found.W[0].norm(dim=0) >= 0.5).sum())
    assert float(found.train[0]) < 0.1 < float(found.test[0])


def test_the_rate_rises_and_falls_to_nothing():
    config = com.LimitedConfig(steps=1000, warmup=100)
    rates = np.array([config.rate(step) for step in range(1000)])
    assert rates.argmax() in range(98, 102)
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] < 0.04


def test_the_limited_artifact_has_a_row_for_each_measurement():
    table, _ = com.make_limited(2, com.LimitedConfig(n=10, density=0.2, steps=5), counts=(2, 4))
    for quantity in ("train", "test", "kept"):
        points, values = geometry.along(table, quantity, over="examples")
        assert (points.tolist(), values.shape) == ([4, 2], (2, 2))


def test_no_example_and_no_seed_are_refused():
    with pytest.raises(ValueError, match="1 example or more"):
        com.train_limited(com.LimitedConfig(), 0, [0])
    for make in (com.make_absolute, com.make_limited):
        with pytest.raises(ValueError, match="give 1 or more"):
            make(seeds=0)
