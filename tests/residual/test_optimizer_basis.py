import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook.residual import optimizer_basis as ob
from mechbook.residual.rotation import random_orthogonal

TINY = ob.Settings(
    d_vocab=6, d_model=8, n_heads=2, d_mlp=12, n_layers=1, n_ctx=5, batch=3, steps=4, schedule=4
)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from threads, and wait long for them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_kurtosis_of_an_axis_and_of_a_diagonal():
    axis, diagonal = torch.eye(8)[:1], torch.ones(1, 8)
    assert float(ob.basis_kurtosis(axis)) == pytest.approx(8 - 24 / 10)
    assert float(ob.basis_kurtosis(diagonal)) == pytest.approx(1 - 24 / 10)


@settings(max_examples=30, deadline=None)
@given(d=st.integers(1, 20), seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
def test_kurtosis_bounds_and_scale(d, seed, scale):
    x = torch.randn(4, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    value, shift = float(ob.basis_kurtosis(x)), 3 * d / (d + 2)
    assert 1 - shift - 1e-9 <= value <= d - shift + 1e-9
    assert float(ob.basis_kurtosis(scale * x)) == pytest.approx(value)


def test_kurtosis_is_zero_on_average_over_rotations():
    x = torch.eye(6, dtype=torch.float64)[0]
    turned = torch.stack([x @ random_orthogonal(6, seed=s) for s in range(1500)])
    assert float(ob.basis_kurtosis(turned)) == pytest.approx(0, abs=0.15)


def test_kurtosis_keeps_leading_axes():
    x = torch.randn(2, 3, 4, 8)
    kept = ob.basis_kurtosis(x, keep=1)
    assert kept.shape == (2,)
    torch.testing.assert_close(kept[1], ob.basis_kurtosis(x[1]))


def test_scale_spread_of_known_scales():
    x = torch.ones(2, 10, 3) * torch.tensor([1.0, 2.0, 10.0])
    assert ob.scale_spread(x).tolist() == pytest.approx([5.0, 5.0])


def test_members_do_not_touch_each_other():
    tokens = torch.randint(6, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    both, second = ob.StackedTransformer(TINY, (3, 4)), ob.StackedTransformer(TINY, (4,))
    torch.testing.assert_close(both(tokens)[1], second(tokens[1:])[0])


def test_the_architecture_has_no_special_axis():
    model = ob.StackedTransformer(TINY, (0,)).double()
    tokens = torch.randint(6, (1, 3, 5), generator=torch.Generator().manual_seed(0))
    before, R = model(tokens), random_orthogonal(8, seed=1)
    with torch.no_grad():
        for name, w in model.weights.items():
            w.copy_(ob.rotated(name, w, R))
    torch.testing.assert_close(model(tokens), before)


def test_walks_follow_the_chain():
    chain = torch.zeros(6, 6)
    chain[torch.arange(6), (torch.arange(6) + 1) % 6] = 1
    tokens = ob.walks(chain, TINY, seed=0, step=0, count=2)
    assert tokens.shape == (2, 3, 5)
    assert ((tokens[..., 1:] - tokens[..., :-1]) % 6 == 1).all()


def test_entropy_rate_of_known_chains():
    assert ob.entropy_rate(torch.full((4, 4), 0.25)) == pytest.approx(math.log(4), rel=1e-6)
    two = torch.tensor([[0.9, 0.1], [0.5, 0.5]])  # stationary: 5/6, 1/6
    h = [-sum(p * math.log(p) for p in row) for row in two.tolist()]
    assert ob.entropy_rate(two) == pytest.approx(5 / 6 * h[0] + 1 / 6 * h[1], rel=1e-6)


def test_tensor_adam_is_adam_where_a_tensor_has_one_entry():
    ours, theirs = (torch.nn.Parameter(torch.tensor([[2.0], [3.0]])) for _ in range(2))
    pairs = [
        (ours, ob.TensorAdam([ours], lr=0.1)),
        (theirs, torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))),
    ]
    for _ in range(5):
        for p, optimizer in pairs:
            optimizer.zero_grad()
            (p**3).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["SGD with momentum", "one normalizer a tensor"])
def test_blind_optimizers_commute_with_a_rotation(name):
    assert ob.equivariance_gap(name, steps=5) < 1e-9


def test_adam_does_not():
    assert ob.equivariance_gap("Adam", steps=5) > 0.01


def test_table_has_a_row_for_each_seed_and_measurement():
    table = ob.measure_arms(TINY, names=["Adam", "SGD with momentum"], seeds=[0, 1])
    assert {len(column) for column in table.values()} == {2 * 2 * 2}
    rows = ob.final_rows(table, "Adam")
    assert rows["seed"].tolist() == [0, 1]
    assert set(rows["step"]) == {4}


def test_a_shorter_run_is_the_beginning_of_the_longer_one():
    from dataclasses import replace

    short = ob.train_arm("Adam", replace(TINY, steps=2), seeds=[0], every=1)
    long = ob.train_arm("Adam", TINY, seeds=[0], every=1)
    assert short["loss"][:3] == pytest.approx(long["loss"][:3])


def test_recipe_says_what_its_card_needs():
    columns, facts = ob.recipe(steps=1, members=1)
    assert set(columns["optimizer"]) == set(ob.ARMS)
    assert facts["seeds"] == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ob.arm("Adagrad"), "choose one of"),
        (lambda: ob.Settings(steps=0), "above 0"),
        (lambda: ob.Settings(n_heads=5), "divide the width"),
        (lambda: ob.StackedTransformer(TINY, []), "at least one"),
        (lambda: ob.rotated("W_X", torch.eye(2), torch.eye(2)), "no weight"),
        (lambda: ob.basis_kurtosis(torch.zeros(2, 3)), "is zero"),
        (lambda: ob.basis_kurtosis(torch.ones(3), keep=1), "fewer axes"),
        (lambda: ob.measure_arms(TINY, names=[]), "choose from"),
        (lambda: ob.recipe(members=0), "at least 1"),
        (lambda: ob.final_rows({"optimizer": np.array(["a"])}, "b"), "it has"),
        (lambda: ob.equivariance_gap("Adam", steps=0), "at least 1"),
    ],
)
def test_bad_input_says_what_to_give(call, message):
    with pytest.raises(ValueError, match=message):
        call()
