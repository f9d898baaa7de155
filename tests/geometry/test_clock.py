import math

import numpy as np
import pytest
import torch
from tests.geometry.clock_network import TASK, Clock

from mechbook import training
from mechbook.geometry import arithmetic, clock, spaces, streams
from mechbook.geometry.arithmetic import Task

N = 12


def waves(function):
    a, b = torch.meshgrid(torch.arange(N), torch.arange(N), indexing="ij")
    return function(a.double(), b.double())[:, :, None]


def cos(k, x):
    return torch.cos(2 * math.pi * k * x / N + 0.3)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda a, b: cos(2, a), "offset"),
        (lambda a, b: cos(3, b), "item"),
        (lambda a, b: cos(2, a + b), "sum"),
        (lambda a, b: cos(5, a - b), "difference"),
        (lambda a, b: cos(1, a + 2 * b), "mixed"),
    ],
)
def test_a_wave_is_named(function, kind):
    found = clock.spectrum(waves(function))
    assert found[kind][0] == pytest.approx(1)


def test_a_product_of_cosines_is_half_sum_half_difference():
    found = clock.spectrum(waves(lambda a, b: cos(2, a) * cos(2, b)))
    assert found["sum"][0] == pytest.approx(0.5)
    assert found["difference"][0] == pytest.approx(0.5)


def test_kinds_add_up_to_one():
    grid = torch.randn(N, N, 4, generator=training.generator(0))
    assert np.allclose(sum(clock.spectrum(grid).values()), 1)
    assert set(clock.spectrum(grid)) == set(clock.KINDS)


def test_a_neuron_is_tuned_to_its_frequency():
    two = waves(lambda a, b: torch.relu(cos(2, a) + cos(2, b)))
    silent = torch.zeros_like(two)
    mixed = waves(lambda a, b: cos(4, a) + 0.1 * cos(1, b))
    found = clock.tuned(torch.cat([two, silent, mixed], -1))
    assert found.frequency.tolist() == [2, 4]  # the silent one is left out
    assert found.share[1] == pytest.approx(1 / 1.01)
    assert found.variance.shape == (2,)


def test_residues_are_averaged_over_rounds():
    found = clock.whole(Task(offsets=30, cycles=1))
    assert sorted(set(found.offset.tolist())) == list(range(24))
    grid = clock.by_residue(found.offset.double(), found, N)
    assert torch.allclose(grid[5], torch.full((N,), (5 + 17) / 2, dtype=torch.float64))


def test_the_readout_of_a_clock():
    a, b, c = torch.meshgrid(*[torch.arange(N).double()] * 3, indexing="ij")
    found = clock.readout(3 * cos(1, a + b - c) + cos(4, a + b - c) + 7 * a[:, :, :1])
    assert found.sum_share == pytest.approx(1)
    assert np.allclose(found.frequencies, [0.9, 0, 0, 0.1, 0, 0])
    assert clock.readout(cos(1, a - b + c)).sum_share < 0.01


def test_the_margin_of_a_pizza_hangs_on_the_difference():
    a, b, c = torch.meshgrid(*[torch.arange(N).double()] * 3, indexing="ij")
    pizza = torch.cos(math.pi * (a - b) / N).abs() * torch.cos(2 * math.pi * (a + b - c) / N)
    assert clock.difference_share(pizza) == pytest.approx(1)
    uneven = (1 + 0.2 * torch.cos(2 * math.pi * a / N)) * torch.cos(2 * math.pi * (a + b - c) / N)
    assert clock.difference_share(uneven) < 0.01


def test_periods_of_numbers_are_found():
    angle = 2 * np.pi * np.arange(60) / 10
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1)
    shares = clock.period_shares(vectors, [10, 12, 2])
    assert shares[0] == pytest.approx(1)
    assert max(shares[1:]) < 0.01


def test_what_is_kept_and_what_is_dropped():
    model = Clock()
    known = arithmetic.split(TASK)[0]
    h = streams.read(model, known.tokens, arithmetic.FINAL)[1]
    classes = known.answer - TASK.first_item(0)
    where = spaces.space(spaces.centroids(h, classes, N), training.generator(0))
    axes = where.planes.flatten(0, 1)
    assert torch.allclose(clock.kept(h, where, range(1, 7)), h, atol=1e-5)
    none = clock.kept(h, where, [])
    assert torch.allclose((none - where.mean) @ axes.mT, torch.zeros(len(h), 12), atol=1e-4)
    assert torch.allclose(clock.without_random_planes(h, where, 0), h)


def test_a_clock_needs_its_planes_and_not_random_ones():
    found = clock.ablation(Clock(), TASK, 1)
    assert found["strongest"][0] < 0.3
    assert found["strongest"][-1] == 1
    assert found["random planes"].min() == 1
    assert len(found["first"]) == 7


def test_one_strong_harmonic_is_enough_for_a_clock_without_noise():
    found = clock.ablation(Clock(strengths=(9, 1, 1, 1, 1, 1)), TASK, 1)
    assert found["first"][1] == 1


def test_bad_input_is_refused():
    model = arithmetic.build(
        TASK, arithmetic.NetConfig(n_layers=1, d_model=16, d_mlp=16, n_heads=2)
    )
    some = arithmetic.sums(TASK).take(torch.arange(5))
    assert clock.neurons(model, some, 0).shape == (5, 16)
    with pytest.raises(ValueError, match="layer is 1"):
        clock.neurons(model, some, 1)
    with pytest.raises(ValueError, match="is missing"):
        clock.by_residue(torch.ones(5), some, N)
    with pytest.raises(ValueError, match="as many"):
        clock.spectrum(torch.randn(3, 4, 1))
    with pytest.raises(ValueError, match="constant"):
        clock.spectrum(torch.ones(3, 3, 1))
    with pytest.raises(ValueError, match="no neuron"):
        clock.tuned(torch.ones(3, 3, 1))
    with pytest.raises(ValueError, match="n offsets"):
        clock.readout(torch.randn(3, 3, 4))
    with pytest.raises(ValueError, match="all equal"):
        clock.readout(torch.ones(3, 3, 3))
    with pytest.raises(ValueError, match="2 or more"):
        clock.period_shares(np.random.default_rng(0).normal(size=(9, 2)), [1])
    with pytest.raises(ValueError, match="no round"):
        clock.whole(Task(offsets=5, cycles=1))
