import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook.residual import rotation
from mechbook.residual.rotation import NORMS, Size, random_orthogonal, rotation_error

SMALL = Size(d_model=8, n_heads=2, d_head=4, d_mlp=12, n_layers=2, n_ctx=5, d_vocab=7)
TOKENS = torch.tensor([[0, 3, 6, 1, 2], [5, 5, 4, 0, 3]])


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from threads, and wait long for them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model(norm, seed=0):
    return rotation.random_transformer(norm, seed=seed, size=SMALL).to(torch.float64)


def folded(norm, seed=0):
    return rotation.fold_norms(model(norm, seed))


def by_loops(net, tokens):
    """The logits of the last position, head by head and position by position."""
    w = net.tensors

    def read(x, place):
        return rotation.normalize(x, net.norm) * w[f"{place}.w"] + w[f"{place}.b"]

    xs = [w["embed.W_E"][t] + w["pos_embed.W_pos"][p] for p, t in enumerate(tokens)]
    for layer in range(net.n_layers):
        a, m = f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
        seen, new = [read(x, f"blocks.{layer}.ln1") for x in xs], []
        for i, x in enumerate(xs):
            out = x + w[a + "b_O"]
            for h in range(2):
                q = seen[i] @ w[a + "W_Q"][h] + w[a + "b_Q"][h]
                keys = [s @ w[a + "W_K"][h] + w[a + "b_K"][h] for s in seen[: i + 1]]
                values = [s @ w[a + "W_V"][h] + w[a + "b_V"][h] for s in seen[: i + 1]]
                pattern = torch.stack([q @ k / math.sqrt(4) for k in keys]).softmax(0)
                z = sum(p * v for p, v in zip(pattern, values, strict=True))
                out = out + z @ w[a + "W_O"][h]
            new.append(out)
        xs = [
            x
            + (read(x, f"blocks.{layer}.ln2") @ w[m + "W_in"] + w[m + "b_in"]).clamp(min=0)
            @ w[m + "W_out"]
            + w[m + "b_out"]
            for x in new
        ]
    return read(xs[-1], "ln_final") @ w["unembed.W_U"] + w["unembed.b_U"]


@pytest.mark.parametrize("norm", ["LN", "RMS"])
def test_run_is_the_model_written_as_loops(norm):
    net = model(norm)
    logits = rotation.run(net, TOKENS).logits[1, -1]
    torch.testing.assert_close(logits, by_loops(net, TOKENS[1]))


def test_writes_add_up_to_the_final_stream():
    result = rotation.run(model("LN"), TOKENS)
    torch.testing.assert_close(sum(result.writes.values()), result.streams[-1])


def test_layernorm_without_gain_is_torchs():
    x = torch.randn(3, 8, dtype=torch.float64)
    expected = torch.nn.functional.layer_norm(x, (8,))
    torch.testing.assert_close(rotation.normalize(x, "LN"), expected)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_without_norm_any_rotation_leaves_the_logits(seed):
    assert rotation_error(model("none", seed), random_orthogonal(8, seed=seed), TOKENS) < 1e-10


def test_turning_turns_the_stream():
    R = random_orthogonal(8, seed=3)
    before = rotation.run(model("none"), TOKENS).streams
    after = rotation.run(rotation.rotate(model("none"), R), TOKENS).streams
    torch.testing.assert_close(after, before @ R)


def turnable():
    return [n for n in model("none").tensors if rotation.role(n) in ("writer", "reader")]


@pytest.mark.parametrize("name", turnable())
def test_each_tensor_left_out_breaks_it(name):
    R = random_orthogonal(8, seed=1)
    assert rotation_error(model("none"), R, TOKENS, leave_out=[name]) > 1e-4


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), exponent=st.floats(0, 4))
def test_without_norm_any_invertible_matrix_leaves_the_logits(seed, exponent):
    R = rotation.random_invertible(8, condition=10**exponent, seed=seed)
    assert rotation_error(model("none", seed), R, TOKENS) < 1e-8


@pytest.mark.parametrize("norm", NORMS)
def test_folding_keeps_the_function(norm):
    before, after = (rotation.run(m, TOKENS).logits for m in (model(norm), folded(norm)))
    torch.testing.assert_close(after, before)


def test_rmsnorm_needs_the_gain_folded():
    R = random_orthogonal(8, seed=2)
    assert rotation_error(folded("RMS"), R, TOKENS) < 1e-10
    assert rotation_error(model("RMS"), R, TOKENS) > 0.05


def test_rmsnorm_needs_an_orthogonal_matrix():
    R = rotation.random_invertible(8, condition=10, seed=0)
    assert rotation_error(folded("RMS"), R, TOKENS) > 0.05


def test_layernorm_is_broken_by_a_general_rotation_only():
    fixing = rotation.rotation_fixing_ones(8, seed=5)
    assert rotation_error(folded("LN"), random_orthogonal(8, seed=5), TOKENS) > 0.05
    assert rotation_error(folded("LN"), fixing, TOKENS) < 1e-10
    assert rotation_error(model("LN"), fixing, TOKENS) > 0.05  # gains not folded


def test_centered_writers_make_layernorm_rmsnorm():
    centered = rotation.center_writers(folded("LN"))
    before = rotation.run(model("LN"), TOKENS).logits
    torch.testing.assert_close(rotation.run(centered, TOKENS).logits, before)
    assert rotation_error(centered, random_orthogonal(8, seed=7), TOKENS) < 1e-10


@settings(max_examples=20, deadline=None)
@given(d=st.integers(2, 12), seed=st.integers(0, 999), degrees=st.floats(-360, 360))
def test_matrices_are_what_they_are_called(d, seed, degrees):
    eye = torch.eye(d, dtype=torch.float64)
    fixing = rotation.rotation_fixing_ones(d, seed=seed)
    for Q in (random_orthogonal(d, seed=seed), fixing):
        torch.testing.assert_close(Q @ Q.T, eye)
    torch.testing.assert_close(fixing.sum(0), torch.ones(d, dtype=torch.float64))
    if d % 2 == 0:
        R = rotation.rotation_by_angle(d, degrees, seed=seed)
        x = torch.randn(d, dtype=torch.float64)
        cosine = (x @ R) @ x / (x @ x)
        assert float(cosine) == pytest.approx(math.cos(math.radians(degrees)), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(condition=st.floats(1, 1e6), seed=st.integers(0, 99))
def test_condition_number_is_the_one_asked_for(condition, seed):
    A = rotation.random_invertible(6, condition=condition, seed=seed)
    assert float(torch.linalg.cond(A)) == pytest.approx(condition, rel=1e-4)


def test_orders_of_the_factors():
    assert rotation.product_orders(seed=4) == {
        ("WR", "WR⁻¹"): (False, False),
        ("WR", "R⁻¹W"): (True, False),
        ("RW", "WR⁻¹"): (False, True),
        ("RW", "R⁻¹W"): (False, False),
    }


def test_kl_of_known_logits():
    p, q = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert rotation.mean_kl(q.log(), p.log()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotation.random_transformer("batch", seed=0), "choose one of"),
        (lambda: rotation.normalize(torch.ones(2), "batch"), "choose one of"),
        (lambda: rotation.rotate(model("none"), torch.eye(3)), "this stream needs"),
        (lambda: rotation.rotate(model("none"), torch.zeros(8, 8)), "singular"),
        (lambda: rotation.rotate(model("none"), torch.eye(8), leave_out=["x"]), "can name"),
        (lambda: rotation.center_writers(model("RMS")), "only LayerNorm"),
        (lambda: rotation.run(model("none"), torch.tensor([[7]])), "keep them from 0 to 6"),
        (lambda: rotation.run(model("none"), torch.zeros(1, 6).long()), "posn ≤ 5"),
        (lambda: rotation.random_invertible(4, condition=0.5, seed=0), "from 1 to"),
        (lambda: rotation.rotation_by_angle(3, 10, seed=0), "even width"),
        (lambda: rotation.random_orthogonal(0, seed=0), "at least 1"),
        (lambda: rotation.relative_error(torch.ones(2), torch.ones(3)), "like with like"),
    ],
)
def test_bad_input_says_what_to_give(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- TransformerLens --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def boot():
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    def make(norm, **options):
        sizes = {"n_layers": 2, "d_model": 8, "n_ctx": 5, "d_head": 4, "n_heads": 2, "d_vocab": 7}
        cfg = TransformerBridgeConfig(
            **sizes, d_mlp=12, act_fn="gelu", normalization_type=norm, seed=0, **options
        )
        bridge = TransformerBridge.boot_native(cfg)
        with torch.no_grad():
            for seed, p in enumerate(bridge.original_model.parameters()):
                p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)))
        return bridge

    return make


@pytest.mark.parametrize("norm", [None, "LN", "RMS", "LNPre", "RMSPre"])
def test_from_bridge_computes_what_the_bridge_computes(boot, norm):
    bridge = boot(norm)
    logits = rotation.run(rotation.from_bridge(bridge), TOKENS).logits
    torch.testing.assert_close(logits, bridge(TOKENS), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attn_only", [False, True])
def test_rotated_bridge_computes_the_same_logits(boot, attn_only):
    bridge = boot("RMS", attn_only=attn_only)
    before = bridge(TOKENS)
    twin = rotation.rotate_bridge(bridge, random_orthogonal(8, seed=0))
    torch.testing.assert_close(twin(TOKENS), before, atol=1e-5, rtol=1e-4)
    assert not torch.equal(twin.W_E, bridge.W_E)
    torch.testing.assert_close(bridge(TOKENS), before)  # left as it was


def test_rotated_layernorm_bridge_does_not(boot):
    bridge = boot("LN")
    twin = rotation.rotate_bridge(bridge, random_orthogonal(8, seed=0))
    assert rotation.relative_error(twin(TOKENS).detach(), bridge(TOKENS).detach()) > 0.05


def test_bridge_with_rotary_positions_is_refused(boot):
    with pytest.raises(ValueError, match="learned vectors"):
        rotation.from_bridge(boot(None, positional_embedding_type="rotary"))


def test_weights_for_another_norm_are_refused(boot):
    bridge = boot("LN")
    with pytest.raises(ValueError, match="same norm"):
        rotation.to_bridge(rotation.center_writers(rotation.from_bridge(bridge)), bridge)
