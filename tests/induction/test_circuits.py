"""Circuits against sums over indices, against the column convention, and against a running model."""

import einops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from mechbook.induction import circuits
from mechbook.induction.circuits import Head

N, D, H = 7, 6, 3


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head(seed=0, *axes):
    shapes = [(D, H)] * 3 + [(H, D)]
    return Head(*(draw(*axes, *shape, seed=10 * seed + i) for i, shape in enumerate(shapes)))


W_E, W_U = draw(N, D, seed=91), draw(D, N, seed=92)


@pytest.fixture
def model():
    config = TransformerBridgeConfig(
        n_layers=2, d_model=8, d_head=4, n_heads=2, d_mlp=8, d_vocab=10, n_ctx=12, act_fn="gelu",
        normalization_type=None, attn_only=True, seed=0,
    )  # fmt: skip
    bridge = TransformerBridge.boot_native(config).eval()
    with torch.no_grad():
        for name, parameter in bridge.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return bridge


def test_the_ov_circuit_is_a_sum_over_indices():
    own, found = head(), circuits.full_ov(W_E, head(), W_U)
    expected = torch.einsum("sd,dh,he,eo->so", W_E, own.W_V, own.W_O, W_U)
    torch.testing.assert_close(found, expected)


def test_the_columns_of_the_notes_are_the_rows_here():
    own = head()
    columns = W_U.T @ own.W_O.T @ own.W_V.T @ W_E.T  # W_U W_O W_V W_E of the notes
    torch.testing.assert_close(circuits.full_ov(W_E, own, W_U), columns.T)
    columns = W_E @ own.W_Q @ own.W_K.T @ W_E.T
    torch.testing.assert_close(circuits.full_qk(W_E, own), columns)


def test_the_circuits_are_what_a_model_computes(model):
    with torch.no_grad():
        model.W_pos.zero_()
    own, tokens = circuits.heads_of(model), torch.randint(10, (3, 9))
    _, cache = model.run_with_cache(tokens)
    scores = circuits.full_qk(model.W_E, own[0])
    later = ~torch.ones(9, 9, dtype=torch.bool).tril()
    for b in range(3):
        wanted = scores[:, tokens[b]][:, :, tokens[b]].detach() / 4**0.5
        pattern = wanted.masked_fill(later, -torch.inf).softmax(-1)
        torch.testing.assert_close(cache["blocks.0.attn.hook_pattern"][b], pattern)
    write = einops.einsum(
        cache["blocks.0.attn.hook_pattern"],
        (model.W_E @ own.OV[0])[:, tokens],
        "batch head query key, head batch key d_model -> batch query d_model",
    )
    torch.testing.assert_close(write, cache["blocks.0.hook_attn_out"])


def test_composed_circuits_are_sums_over_indices():
    first, second = head(1), head(2)
    tag = torch.einsum("td,dh,he->te", W_E, first.W_V, first.W_O)
    k = torch.einsum("qd,dh,eh,be->qb", W_E, second.W_Q, second.W_K, tag)
    torch.testing.assert_close(circuits.k_composed_qk(W_E, first, second), k)
    q = torch.einsum("bd,dh,eh,ke->bk", tag, second.W_Q, second.W_K, W_E)
    torch.testing.assert_close(circuits.q_composed_qk(W_E, first, second), q)
    v = torch.einsum("td,dh,he,eo->to", tag, second.W_V, second.W_O, W_U)
    torch.testing.assert_close(circuits.v_composed_ov(W_E, first, second, W_U), v)


def test_the_circuit_through_both_sides_is_a_sum_over_indices():
    by_query, by_key, reader = head(1), head(2), head(3)
    found = circuits.both_composed_qk(W_E, by_query, by_key, reader)
    for a in range(len(W_E)):
        for b in range(len(W_E)):
            query = W_E[a] @ by_query.W_V @ by_query.W_O @ reader.W_Q
            key = W_E[b] @ by_key.W_V @ by_key.W_O @ reader.W_K
            assert float(found[a, b]) == pytest.approx(float(query @ key), rel=1e-3, abs=1e-4)


def test_many_heads_at_once_are_each_head_alone():
    many = head(3, 2, 2)
    found = circuits.full_ov(W_E, many, W_U)
    one = circuits.full_ov(W_E, many[1, 0], W_U)
    torch.testing.assert_close(found[1, 0], one)


def test_the_identity_copies_and_its_negative_does_the_opposite():
    eye = torch.eye(5)
    assert float(circuits.diagonal_share(eye)) == 1
    assert float(circuits.positive_ratio(eye)) == pytest.approx(1)
    assert float(circuits.positive_ratio(-eye)) == pytest.approx(-1)
    shift = eye.roll(1, 0)
    assert float(circuits.diagonal_share(shift)) == 0
    assert float(circuits.positive_ratio(shift)) == pytest.approx(0, abs=1e-6)


def test_rows_and_columns_are_told_apart():
    circuit = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    assert float(circuits.diagonal_share(circuit, axis=-1)) == 0.5
    assert float(circuits.diagonal_share(circuit, axis=-2)) == 1.0
    assert float(circuits.diagonal_share(circuit.T, axis=-1)) == 1.0


@given(seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_constant_for_each_row_changes_no_row_maximum(seed):
    circuit, shift = draw(6, 6, seed=seed), draw(6, 1, seed=seed + 1)
    before, after = (circuits.diagonal_share(matrix) for matrix in (circuit, circuit + shift))
    assert float(before) == float(after)


def test_eigenvalues_are_those_of_numpy():
    import numpy as np

    circuit = draw(5, 5)
    ours = sorted(circuits.eigenvalues(circuit).tolist(), key=lambda z: (z.real, z.imag))
    theirs = sorted(np.linalg.eigvals(circuit.numpy()).tolist(), key=lambda z: (z.real, z.imag))
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_random_heads_have_the_sizes_of_the_head():
    own = head(4)
    many = circuits.random_heads(own, 5, torch.Generator().manual_seed(0))
    for mine, theirs in zip(vars(own).values(), vars(many).values(), strict=True):
        assert theirs.shape == (5, *mine.shape)
        norms = torch.linalg.matrix_norm(theirs)
        torch.testing.assert_close(norms, torch.linalg.matrix_norm(mine).expand(5))


def test_random_heads_copy_nothing_on_average():
    many = circuits.random_heads(head(5), 400, torch.Generator().manual_seed(0))
    ratios = circuits.positive_ratio(circuits.full_ov(W_E, many, W_U))
    assert float(ratios.mean()) == pytest.approx(0, abs=0.1)


def test_matrices_that_do_not_fit_are_refused():
    own = head()
    with pytest.raises(ValueError, match="d_model, d_head"):
        Head(own.W_Q, own.W_K, own.W_V, own.W_O.T)
    with pytest.raises(ValueError, match="2 × 3"):
        circuits.diagonal_share(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="-1 for rows"):
        circuits.diagonal_share(torch.eye(2), axis=0)
    assert float(circuits.positive_ratio(torch.zeros(3, 3))) == 0


def test_a_model_with_a_norm_or_with_biases_is_refused(model):
    with torch.no_grad():
        model.blocks[1].attn.v.bias[0] = 1.0
    with pytest.raises(ValueError, match="biases"):
        circuits.heads_of(model)
    config = TransformerBridgeConfig(
        n_layers=1, d_model=8, d_head=4, n_heads=2, d_mlp=8, d_vocab=10, n_ctx=12, act_fn="gelu",
        normalization_type="RMS", attn_only=True, seed=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"has a norm \(RMS\)"):
        circuits.heads_of(TransformerBridge.boot_native(config))
