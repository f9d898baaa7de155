"""Codes for magnitudes, and drift-diffusion, against their closed forms."""

import numpy as np
import pytest

from mechbook.weber import codes
from mechbook.weber.codes import Diffusion, code, power_law

POWERS = np.linspace(0, 1.6, 17)


def test_the_code_of_power_one_is_the_cdf_and_of_power_zero_linear():
    skewed = power_law(1.0, points=200)
    assert code(skewed, 1.0) == pytest.approx(np.cumsum(skewed.p) - skewed.p / 2)
    assert np.ptp(np.diff(code(skewed, 0.0))) < 1e-12


def test_with_density_one_over_x_the_cdf_is_the_logarithm():
    skewed = power_law(1.0, points=2000)
    assert np.corrcoef(code(skewed, 1.0), np.log(skewed.x))[0, 1] > 0.9999


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_ranks_are_best_for_comparing_and_not_for_guessing(power):
    skewed = power_law(power)
    assert codes.best_power(skewed, "confusion", 0.01, POWERS) == pytest.approx(1, abs=0.11)
    assert codes.best_power(skewed, "squared error", 0.01, POWERS) == pytest.approx(1 / 3, abs=0.11)


def test_large_noise_confuses_half_of_the_pairs():
    assert codes.confusion(power_law(1.0), code(power_law(1.0), 1.0), 1e3) == pytest.approx(
        0.5, abs=0.01
    )


def test_the_squared_error_without_knowledge_is_the_variance():
    flat = power_law(0.0, points=50)
    assert codes.squared_error(flat, code(flat, 0.0), 100.0) == pytest.approx(
        np.var(flat.x), rel=0.02
    )


def test_a_simulated_diffusion_has_the_choices_and_times_of_the_closed_form():
    diffusion = Diffusion(0.4, 1.2, 0.9)
    upper, time = codes.simulate(diffusion, 3000, step=0.0005)
    assert upper.mean() == pytest.approx(diffusion.p_upper, abs=0.025)
    assert time.mean() == pytest.approx(diffusion.mean_time, rel=0.06)


def test_without_drift_the_mean_time_is_the_limit():
    assert Diffusion(0.0, 2.0, 0.5).mean_time == pytest.approx(Diffusion(1e-5, 2.0, 0.5).mean_time)


def test_choices_tell_one_number_and_mean_times_one_more_of_three():
    assert codes.identifiable(Diffusion(0.4, 1.2, 0.9), times=False) == 1
    assert codes.identifiable(Diffusion(0.4, 1.2, 0.9), times=True) == 2


def test_all_three_together_can_be_scaled():
    one, other = Diffusion(0.4, 1.2, 0.9), Diffusion(0.8, 2.4, 1.8)
    assert (one.p_upper, one.mean_time) == pytest.approx((other.p_upper, other.mean_time))


@pytest.mark.parametrize(
    "call",
    [
        lambda: power_law(1, largest=1),
        lambda: Diffusion(1, 0),
        lambda: codes.best_power(power_law(1), "variance", 0.1, POWERS),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match=r"give|above 0"):
        call()
