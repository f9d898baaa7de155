import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mechbook.residual import gradients


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from threads, and wait long for them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(depth, *, skip, gain=0.7, seeds=(0,)):
    return gradients.random_stack(depth, skip=skip, gain=gain, width=5, hidden=7, seeds=seeds)


def jacobian_by_autodiff(stack, x):
    return gradients.function_jacobian(lambda v: gradients.forward(stack, v[None])[0], x[0])


@pytest.mark.parametrize("skip", [True, False])
def test_product_of_factors_is_the_jacobian(skip):
    stack = small(6, skip=skip)
    x = gradients.random_input(stack)
    product = gradients.whole_jacobian(gradients.branch_jacobians(stack, x), skip=skip)
    torch.testing.assert_close(product[0], jacobian_by_autodiff(stack, x))


def test_path_sums_are_the_sums_over_all_subsets():
    J = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    sums = gradients.path_sums(J)
    for k in range(5):
        expected = torch.zeros(2, 3, 3, dtype=torch.float64)
        for layers in itertools.combinations(range(4), k):
            product = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
            for layer in layers:
                product = J[layer] @ product
            expected = expected + product
        torch.testing.assert_close(sums[k], expected)


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(1, 12), gain=st.floats(0, 2), seed=st.integers(0, 99))
def test_path_sums_add_up_to_the_jacobian(depth, gain, seed):
    stack = small(depth, skip=True, gain=gain, seeds=(seed,))
    J = gradients.branch_jacobians(stack, gradients.random_input(stack))
    whole = gradients.whole_jacobian(J, skip=True)
    torch.testing.assert_close(gradients.path_sums(J).sum(0), whole)


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(1, 20), gain=st.floats(0, 3))
def test_shares_add_up_to_one(depth, gain):
    stack = small(depth, skip=True, gain=gain, seeds=(0, 1))
    J = gradients.branch_jacobians(stack, gradients.random_input(stack))
    shares = gradients.path_shares(gradients.path_sums(J))
    torch.testing.assert_close(shares.sum(0), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(("skip", "expected"), [(True, torch.eye(5)), (False, torch.zeros(5, 5))])
def test_silent_branches(skip, expected):
    stack = small(9, skip=skip, gain=0.0)
    J = jacobian_by_autodiff(stack, gradients.random_input(stack))
    torch.testing.assert_close(J, expected.double(), rtol=0, atol=0)


def test_a_branch_can_cancel_the_identity():
    J = -torch.eye(3, dtype=torch.float64).expand(2, 1, 3, 3)
    assert float(gradients.whole_jacobian(J, skip=True).abs().max()) == 0


def test_gain_is_the_mean_stretch_of_a_branch():
    stack = gradients.random_stack(1, skip=False, gain=0.8, seeds=range(300))
    J = gradients.branch_jacobians(stack, gradients.random_input(stack))
    mean_square = float((gradients.jacobian_gain(J[0]) ** 2).mean())
    assert math.sqrt(mean_square) == pytest.approx(0.8, rel=0.03)


def test_size_measures_of_a_known_matrix():
    J = torch.diag(torch.tensor([3.0, 2.0, 1.0]))[None]
    assert float(gradients.jacobian_gain(J)[0]) == pytest.approx(math.sqrt(14 / 3))
    assert float(gradients.median_singular_value(J)[0]) == pytest.approx(2)


def test_expected_shares_are_binomial():
    assert gradients.expected_shares(3, 1.0) == pytest.approx(binom.pmf([0, 1, 2, 3], 3, 0.5))


def test_sweep_shapes_and_vanishing():
    sweep = gradients.depth_sweep("x", skip=False, gain=0.5, depths=(2, 8), seeds=(0, 1, 2))
    assert sweep.gain.shape == sweep.median.shape == (2, 3)
    assert (sweep.gain[1] < sweep.gain[0]).all()


@pytest.mark.parametrize("placement", gradients.PLACEMENTS)
@pytest.mark.parametrize("skip", [True, False])
def test_block_is_its_equation(placement, skip):
    block, x = gradients.Block(8, 2, placement, skip=skip), torch.randn(2, 4, 8)
    norm, expected = torch.nn.LayerNorm(8, elementwise_affine=False), x
    for branch in (block.attention, block.mlp):
        change = branch(norm(expected) if placement == "pre" else expected)
        expected = expected + change if skip else change
        expected = norm(expected) if placement == "post" else expected
    torch.testing.assert_close(block(x), expected)


def test_attention_is_causal():
    torch.manual_seed(0)
    block, x = gradients.Block(8, 2, "pre"), torch.randn(1, 5, 8)
    changed = x.clone()
    changed[:, 3:] += 1
    torch.testing.assert_close(block(changed)[:, :3], block(x)[:, :3])


def test_layer_gradients_agree_with_backward():
    from mechbook.training import seeded

    result = gradients.layer_gradients("pre", 3, seeds=[4])
    with seeded(4):
        model = gradients.DeepTransformer(3, "pre")
        tokens = torch.randint(32, (8, 16))
    logits = model(tokens)[:, :-1]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    expected = [float(block.W_out.weight.grad.norm()) for block in model.blocks]
    assert result.weights[0] == pytest.approx(np.array(expected), rel=1e-4)
    assert result.scales.shape == (1, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients.random_stack(0, skip=True), "at least 1"),
        (lambda: gradients.random_stack(1, skip=True, seeds=[]), "at least 1"),
        (lambda: gradients.random_stack(1, skip=True, gain=-1), "finite number"),
        (lambda: gradients.expected_shares(2, math.nan), "finite gain"),
        (lambda: gradients.depth_sweep("x", skip=True, gain=1, depths=()), "at least one"),
        (lambda: gradients.DeepTransformer(1, "middle"), "choose one of"),
        (lambda: gradients.DeepTransformer(1, "pre", n_heads=5), "divides d_model"),
        (lambda: gradients.layer_gradients("pre", 1, seeds=[]), "at least one"),
    ],
)
def test_bad_input_says_what_to_give(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_final_norm_is_what_shrinks_late_gradients():
    with_norm = gradients.layer_gradients("pre", 16, seeds=range(2)).weights[:, -1]
    without = gradients.layer_gradients("pre", 16, seeds=range(2), final_norm=False).weights[:, -1]
    assert (without > 2 * with_norm).all()
