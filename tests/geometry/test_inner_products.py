import math

import pytest
import torch

from mechbook import training
from mechbook.geometry import inner_products as ip


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=training.generator(seed), dtype=torch.float64)


def test_the_notes_example_is_the_matrix_that_they_give():
    u, v = draw(50, 2), draw(50, 2, seed=1)
    assert torch.allclose(ip.example(u, v), torch.einsum("bi,ij,bj->b", u, ip.EXAMPLE, v))


def test_the_matrix_of_a_form_is_found_from_the_basis():
    assert torch.equal(ip.metric_of(ip.example, 2), ip.EXAMPLE)


def test_the_length_of_three_four_is_root_ten():
    u = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert float(ip.length(u, ip.EXAMPLE)) == pytest.approx(math.sqrt(10))
    assert float(ip.length(u, torch.eye(2, dtype=torch.float64))) == pytest.approx(5)


def test_the_example_satisfies_the_axioms():
    found = ip.violations(ip.example, 2, training.generator(0))
    assert found["positivity"] > 0
    assert max(found["symmetry"], found["linearity"]) < 1e-12


@pytest.mark.parametrize(
    ("form", "broken"),
    [
        (lambda u, v: u[..., 0] * v[..., 0] - u[..., 1] * v[..., 1], "positivity"),
        (lambda u, v: ip.example(u, v) + u[..., 0] * v[..., 1], "symmetry"),
        (lambda u, v: ip.example(u, v) ** 3, "linearity"),
    ],
)
def test_what_is_no_inner_product_breaks_its_axiom(form, broken):
    found = ip.violations(form, 2, training.generator(0))
    assert found["positivity"] <= 0 if broken == "positivity" else found[broken] > 0.01


def test_unit_vectors_have_length_one():
    around = ip.unit_ellipse(ip.EXAMPLE, points=17)
    assert torch.allclose(ip.example(around, around), torch.ones(17, dtype=torch.float64))


def test_angle_is_that_of_the_whitened_vectors():
    gamma = draw(100, 4)
    M = ip.causal(gamma)
    root = torch.linalg.cholesky(M)
    u, v = draw(4, seed=2), draw(4, seed=3)
    cosine = torch.cosine_similarity(u @ root, v @ root, dim=0)
    assert float(ip.angle(u, v, M).cos()) == pytest.approx(float(cosine))


def test_the_causal_metric_whitens():
    gamma = draw(200, 5) @ draw(5, 5, seed=1)
    half = ip.power(ip.covariance(gamma), 0.5)
    assert torch.allclose(ip.covariance(gamma @ half), torch.eye(5, dtype=torch.float64))


def test_power_zero_is_euclidean_and_one_the_inverse():
    cov = ip.covariance(draw(60, 4))
    assert torch.allclose(ip.power(cov, 0.0), torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(ip.power(cov, 1.0), torch.linalg.inv(cov))


def test_covariance_is_that_of_numpy():
    gamma = draw(30, 3)
    expected = torch.cov(gamma.mT, correction=0)
    assert torch.allclose(ip.covariance(gamma), expected)


def test_singular_covariance_is_refused_with_the_way_out_and_taken_with_a_ridge():
    few = draw(4, 9)
    with pytest.raises(ValueError, match=r"singular.*ridge=0\.01"):
        ip.causal(few)
    values = torch.linalg.eigvalsh(ip.causal(few, ridge=0.01))
    assert float(values.min()) > 0


def test_a_ridge_is_a_share_of_the_mean_variance():
    cov = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    expected = torch.diag(torch.tensor([1 / 1.2, 1 / 3.2], dtype=torch.float64))
    assert torch.allclose(ip.power(cov, 1.0, ridge=0.1), expected)


def test_rivals_lack_one_thing_each():
    cov = ip.covariance(draw(300, 5) @ draw(5, 5, seed=1))
    found = ip.rivals(cov, training.generator(0))
    inverse = torch.linalg.eigvalsh(torch.linalg.inv(cov))
    for name in ("shuffled spectrum", "random axes"):
        assert torch.allclose(torch.linalg.eigvalsh(found[name]), inverse)
    kept = found["shuffled spectrum"] @ cov
    assert torch.allclose(kept, kept.mT)  # the axes of the covariance: the two commute
    broken = found["random axes"] @ cov
    assert not torch.allclose(broken, broken.mT, rtol=0.1)
    assert torch.allclose(found["diagonal"].diagonal(), 1 / cov.diagonal())
    assert torch.allclose(found["wrong way"], cov)


def test_reparametrisation_leaves_inner_products():
    gamma, A = draw(80, 4), draw(4, 4, seed=1)
    M = ip.causal(gamma)
    u, v = draw(4, seed=2), draw(4, seed=3)
    moved = ip.reparametrised(M, A)
    assert float(ip.inner(A @ u, A @ v, moved)) == pytest.approx(float(ip.inner(u, v, M)))
    assert torch.allclose(ip.causal(gamma @ A.mT), moved)


def test_euclid_is_not_invariant():
    gamma, A = draw(80, 4), draw(4, 4, seed=1)
    eye = torch.eye(4, dtype=torch.float64)
    before, after = ip.cosines(gamma[:3], eye), ip.cosines((gamma @ A.mT)[:3], eye)
    assert float((before - after).abs().max()) > 0.1


def test_riesz_gives_the_vector_whose_dot_product_is_the_inner_product():
    M = ip.causal(draw(50, 4))
    gamma, v = draw(4, seed=2), draw(4, seed=3)
    assert float(ip.riesz(gamma, M) @ v) == pytest.approx(float(ip.inner(gamma, v, M)))


def test_between_is_the_cosine_of_each_two():
    pairs = draw(7, 2, 4)
    M = ip.causal(draw(50, 4, seed=1))
    expected = [float(ip.cosines(two, M)[0, 1].abs()) for two in pairs]
    assert ip.between(pairs, M).tolist() == pytest.approx(expected)


def test_there_is_an_orthogonalizing_metric_for_each_choice_of_lengths():
    G = draw(4, 4)
    for weights in (torch.ones(4, dtype=torch.float64), draw(4, seed=1).abs() + 0.1):
        M = ip.require_metric(ip.of_concepts(G, weights))
        assert torch.allclose(G @ M @ G.mT, torch.diag(weights), atol=1e-9)


def test_the_first_axis_alone_is_whitened():
    gamma = draw(400, 4) @ torch.diag(torch.tensor([9.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    cov = ip.covariance(gamma)
    M = ip.rivals(cov, training.generator(0))["first axis"]
    top = torch.linalg.eigh(cov).eigenvectors[:, -1]
    assert float(top @ M @ top * (top @ cov @ top)) == pytest.approx(1)
    assert len(torch.linalg.eigvalsh(M).round(decimals=9).unique()) == 2


@pytest.mark.parametrize(
    ("M", "words"),
    [
        (torch.ones(2, 3), "square"),
        (torch.tensor([[1.0, 1.0], [0.0, 1.0]]), "symmetric"),
        (torch.tensor([[1.0, 0.0], [0.0, -1.0]]), "positive definite"),
    ],
)
def test_what_is_no_metric_is_refused(M, words):
    with pytest.raises(ValueError, match=words):
        ip.require_metric(M)


def test_bad_input_is_refused():
    eye = torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="length 0"):
        ip.cosines(torch.zeros(2, 3, dtype=torch.float64), eye)
    with pytest.raises(ValueError, match="length 0"):
        ip.angle(torch.zeros(3, dtype=torch.float64), eye[0], eye)
    with pytest.raises(ValueError, match="no inverse"):
        ip.reparametrised(eye, torch.ones(3, 3))
    with pytest.raises(ValueError, match="covariance is 0"):
        ip.covariance(torch.ones(5, 3))
    with pytest.raises(ValueError, match="two or more"):
        ip.covariance(torch.ones(1, 3))
    with pytest.raises(ValueError, match="ridge is -1"):
        ip.power(eye, 1.0, ridge=-1)
    with pytest.raises(ValueError, match="as many independent concepts"):
        ip.of_concepts(torch.ones(3, 3), torch.ones(3))
    with pytest.raises(ValueError, match="positive weight"):
        ip.of_concepts(eye, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="two or more"):
        ip.diagonality(eye[:1], eye)
    with pytest.raises(ValueError, match="give 1 or more"):
        ip.violations(ip.example, 0, training.generator(0))


def test_one_axis_is_corrected_and_no_other():
    cov = torch.diag(torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64))
    assert torch.allclose(
        ip.one_axis(cov, 1), torch.diag(1 / torch.tensor([9.0, 2.5, 2.5]).double())
    )
    assert torch.allclose(
        ip.one_axis(cov, 2), torch.diag(1 / torch.tensor([5.0, 4.0, 5.0]).double())
    )
    with pytest.raises(ValueError, match="give 1 to 3"):
        ip.one_axis(cov, 4)
