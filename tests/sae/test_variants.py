"""Each variant against a loop or a closed form, its gradients where they are made by hand, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, stack_module_state, vmap

from mechbook.sae import variants
from mechbook.sae.variants import SAEConfig, build

K = {"topk": 3, "batchtopk": 3}


def make(variant, seed=0, d_in=6, d_sae=15, **config):
    """An autoencoder with every parameter away from its start."""
    sae = build(SAEConfig(d_in, d_sae, variant, k=K.get(variant, 0), **config), seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return sae


@pytest.fixture
def h():
    return torch.randn(7, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", variants.VARIANTS)
def test_a_latent_sees_the_activation_less_b_dec(variant, h):
    sae = make(variant)
    centered, W_enc, b_enc = h - sae.b_dec.detach(), sae.W_enc.detach(), sae.b_enc.detach()
    by_hand = [[float(row @ W_enc[:, i] + b_enc[i]) for i in range(15)] for row in centered]
    torch.testing.assert_close(sae.pre_activations(h), torch.tensor(by_hand), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", [v for v in variants.VARIANTS if v != "decoder-relu"])
def test_the_reconstruction_is_b_dec_and_a_sum_of_directions(variant, h):
    sae = make(variant)
    z = sae.encode(h)
    wanted = sae.b_dec + sum(z[:, i, None] * sae.W_dec[i] for i in range(15))
    torch.testing.assert_close(sae(h), wanted)


@pytest.mark.parametrize(
    "variant", [v for v in variants.VARIANTS if v not in ("linear", "decoder-relu")]
)
def test_a_code_is_never_negative(variant, h):
    assert make(variant).encode(h).min().item() >= 0


def test_the_reconstruction_error_is_a_sum_over_dimensions_and_a_mean_over_the_batch(h):
    sae = make("relu")
    wanted = sum(float((row - sae(row)).pow(2).sum()) for row in h) / len(h)
    assert float(sae.losses(h).reconstruction) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("config", "price"),
    [
        ({}, lambda z, norms: z.sum()),
        ({"mean": True}, lambda z, norms: z.sum() / 15),
        ({"penalty": "l2"}, lambda z, norms: (z**2).sum()),
        ({"penalty": "none"}, lambda z, norms: 0 * z.sum()),
        ({"decoder": "weighted"}, lambda z, norms: (z * norms).sum()),
        ({"decoder": "free"}, lambda z, norms: z.sum()),
    ],
)
def test_what_a_relu_autoencoder_pays(config, price, h):
    sae = make("relu", **config)
    norms = sae.W_dec.pow(2).sum(-1).sqrt()
    wanted = sum(float(price(sae.encode(row), norms)) for row in h) / len(h)
    assert float(sae.losses(h).sparsity) == pytest.approx(wanted, rel=1e-5)


def test_a_linear_code_pays_for_its_absolute_values(h):
    sae = make("linear")
    wanted = sae.pre_activations(h).abs().sum() / len(h)
    assert float(sae.losses(h).sparsity) == pytest.approx(float(wanted), rel=1e-5)


def test_tied_weights_have_one_matrix(h):
    sae = make("tied")
    assert "W_enc" not in dict(sae.named_parameters())
    assert torch.equal(sae.W_enc, sae.W_dec.T)


@settings(max_examples=25, deadline=None)
@given(k=st.integers(1, 15), seed=st.integers(0, 99))
def test_topk_keeps_the_k_largest_that_are_above_zero(k, seed):
    sae = build(SAEConfig(6, 15, "topk", k=k), seed)
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    for row in rows:
        pre = sae.pre_activations(row)
        wanted = torch.zeros(15)
        for i in sorted(range(15), key=lambda i: -float(pre[i]))[:k]:
            wanted[i] = max(float(pre[i]), 0)
        torch.testing.assert_close(sae.encode(row).detach(), wanted)


def test_batchtopk_keeps_k_an_example_over_the_whole_batch(h):
    sae = make("batchtopk")
    pre = sae.pre_activations(h)
    kept = sorted(pre.relu().flatten().tolist(), reverse=True)[: 3 * len(h)]
    z = sae.activate_in_training(pre)
    assert sorted(z[z > 0].tolist(), reverse=True) == pytest.approx([v for v in kept if v > 0])
    assert len(set((z > 0).sum(-1).tolist())) > 1


def test_batchtopk_uses_its_threshold_afterwards(h):
    sae = make("batchtopk")
    sae.threshold.fill_(0.7)
    pre = sae.pre_activations(h)
    assert torch.equal(sae.encode(h), torch.where(pre > 0.7, pre, 0.0))


def test_jumprelu_is_silent_up_to_its_threshold_and_untouched_above(h):
    sae = make("jumprelu")
    pre = sae.pre_activations(h)
    theta = sae.log_threshold.exp().expand_as(pre)
    pairs = zip(pre.flatten().tolist(), theta.flatten().tolist(), strict=True)
    wanted = torch.tensor([p if p > t else 0.0 for p, t in pairs])
    torch.testing.assert_close(sae.encode(h).flatten(), wanted)
    assert float(sae.losses(h).sparsity) == pytest.approx(float((wanted > 0).sum() / len(h)))


def test_jumprelus_threshold_gets_the_gradients_of_the_paper(h):
    """-1/ε per example in the window for the step, -θ/ε for the code (Rajamanoharan et al. 2024)."""
    sae = make("jumprelu", bandwidth=0.5)
    pre, theta = sae.pre_activations(h).detach(), sae.threshold.detach()
    window = ((pre - theta).abs() < 0.25).float()
    assert 0 < float(window.sum()) < window.numel()
    (step,) = torch.autograd.grad(sae.losses(h).sparsity, sae.log_threshold)
    torch.testing.assert_close(step, -(theta * window / 0.5).sum(0) / len(h))
    (code,) = torch.autograd.grad(sae.encode(h).sum(), sae.log_threshold)
    torch.testing.assert_close(code, -(theta * theta * window / 0.5).sum(0))


def test_jumprelu_passes_the_gradient_of_what_is_above_the_threshold():
    sae = make("jumprelu")
    pre = (sae.threshold.detach() * torch.tensor([[0.5], [1.5]])).requires_grad_()
    sae.activate(pre).sum().backward()
    assert pre.grad.tolist() == [[0.0] * 15, [1.0] * 15]


def test_the_gate_decides_whether_and_the_magnitude_how_much(h):
    sae = make("gated")
    gate = (h - sae.b_dec) @ sae.W_enc + sae.b_enc
    magnitude = ((h - sae.b_dec) @ (sae.W_enc * sae.r_mag.exp()) + sae.b_mag).relu()
    torch.testing.assert_close(sae.encode(h), torch.where(gate > 0, magnitude, 0.0))


def test_the_gates_auxiliary_loss_leaves_the_decoder_alone(h):
    sae = make("gated")
    wanted = (h - (sae.pre_activations(h).relu() @ sae.W_dec + sae.b_dec)).pow(2).sum(-1).mean()
    loss = sae.losses(h).auxiliary
    torch.testing.assert_close(loss, wanted)
    of_decoder, of_gate = torch.autograd.grad(loss, [sae.W_dec, sae.b_enc], allow_unused=True)
    assert of_decoder is None
    assert float(of_gate.abs().sum()) > 0


def test_the_auxiliary_loss_reconstructs_the_error_with_dead_latents_alone(h):
    sae = make("topk", k_auxiliary=2, auxiliary=0.5)
    dead = torch.arange(15) >= 9
    error = (h - sae(h)).detach()
    pre, total = sae.pre_activations(h), 0.0
    for row, left in zip(pre, error, strict=True):
        best = sorted(range(9, 15), key=lambda i: -float(row[i]))[:2]
        total += float((left - sum(row[i].relu() * sae.W_dec[i] for i in best)).pow(2).sum())
    loss = sae.losses(h, dead).auxiliary
    assert float(loss) == pytest.approx(0.5 * total / len(h), rel=1e-4)
    (of_encoder,) = torch.autograd.grad(loss, sae.W_enc)
    assert float(of_encoder[:, ~dead].abs().sum()) == 0 < float(of_encoder.abs().sum())


def test_without_dead_latents_the_auxiliary_loss_is_nothing(h):
    assert float(make("topk").losses(h, torch.zeros(15, dtype=torch.bool)).auxiliary) == 0


@pytest.mark.parametrize("variant", variants.VARIANTS)
def test_many_at_once_are_as_one_by_one(variant, h):
    saes = [make(variant, seed) for seed in (0, 1)]
    parameters, _ = stack_module_state(saes)

    def loss(parameters, sae=saes[0]):
        terms = functional_call(_Losses(sae), {f"sae.{n}": p for n, p in parameters.items()}, (h,))
        return terms.reconstruction + 0.3 * terms.sparsity + terms.auxiliary

    together = vmap(grad(loss))(parameters)
    for member, sae in enumerate(saes):
        alone = grad(loss)(dict(sae.named_parameters()))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][member], value, atol=1e-5, rtol=1e-4)


class _Losses(torch.nn.Module):
    def __init__(self, sae):
        super().__init__()
        self.sae = sae

    def forward(self, h):
        return self.sae.losses(h)


def test_the_encoder_starts_tied_or_on_its_own():
    tied, own = (build(SAEConfig(6, 15, start=start), 3) for start in variants.STARTS)
    assert torch.equal(tied.W_enc, tied.W_dec.T)
    cosines = torch.nn.functional.cosine_similarity(own.W_enc.T, own.W_dec, dim=-1)
    assert float(cosines.abs().mean()) < 0.7


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"d_sae": 0}, "at least 1 dimension"),
        ({"d_in": 0}, "at least 1 dimension"),
        ({"variant": "sparse"}, "variant is 'sparse'; give one of relu"),
        ({"penalty": "l3"}, "penalty is 'l3'"),
        ({"decoder": "long"}, "decoder is 'long'"),
        ({"start": "random"}, "start is 'random'"),
        ({"variant": "topk"}, "k is 0 for 15 latents"),
        ({"variant": "topk", "k": 16}, "k is 16 for 15 latents; topk keeps from 1 to 15"),
        ({"variant": "batchtopk", "k": 16}, "k is 16"),
        ({"bandwidth": 0.0}, "above 0"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        SAEConfig(**({"d_in": 6, "d_sae": 15} | config))
