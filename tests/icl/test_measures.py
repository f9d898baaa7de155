"""Measures: of models that know everything, nothing or the wrong thing; told by loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook.icl import measures


def test_restricted_accuracy_asks_only_among_what_is_offered():
    logits = torch.tensor([[5.0, 1.0, 2.0], [5.0, 2.0, 1.0]])
    target = torch.tensor([2, 2])
    offered = torch.tensor([[False, True, True]] * 2)
    assert measures.accuracy(logits, target) == 0
    assert measures.accuracy(measures.restricted(logits, offered), target) == 0.5


@given(seed=st.integers(0, 1000), bins=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_the_calibration_error_is_that_of_a_loop(seed, bins):
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(40, 4, generator=draw)
    target = torch.randint(4, (40,), generator=draw)
    gaps = [0.0] * bins
    for row, right in zip(logits.softmax(-1).tolist(), target.tolist(), strict=True):
        sure = max(row)
        gaps[min(int(sure * bins), bins - 1)] += (row.index(sure) == right) - sure
    expected = sum(map(abs, gaps)) / 40
    assert float(measures.calibration_error(logits, target, bins)) == pytest.approx(
        expected, abs=1e-5
    )


def test_who_is_sure_and_right_is_calibrated_and_who_is_sure_and_wrong_is_not():
    right = 50.0 * torch.eye(4)
    assert measures.calibration_error(right, torch.arange(4)) < 1e-5
    assert measures.calibration_error(right, torch.arange(4).roll(1)) > 0.99


def test_members_are_measured_apart():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 20, 5, generator=draw)
    target = torch.randint(5, (3, 20), generator=draw)
    together = measures.calibration_error(logits, target)
    for i in range(3):
        torch.testing.assert_close(together[i], measures.calibration_error(logits[i], target[i]))


def test_swapped_labels_tell_context_from_weights():
    logits = 9.0 * torch.eye(4)[[0, 0, 1]]
    target, own = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1])
    offered = torch.ones(3, 4, dtype=torch.bool)
    found = measures.answers("swap", logits, target, own, offered)
    assert float(found["swap_open"]) == pytest.approx(1 / 3)
    assert float(found["swap_own"]) == pytest.approx(2 / 3)
    assert set(measures.answers("iwl", logits, target, own, offered)) == {"iwl", "iwl_ece"}


def test_looks_are_those_of_loops():
    draw = torch.Generator().manual_seed(0)
    patterns = torch.rand(5, 2, 3, 17, 17, generator=draw)
    match = torch.rand(5, 8, generator=draw) < 0.4
    found = measures.looks(patterns, match)
    sums = dict.fromkeys(measures.LOOKS, 0.0)
    for episode in range(5):
        pattern = patterns[episode, 1, 2]
        for pair in range(8):
            image, label = pattern[16, 2 * pair], pattern[16, 2 * pair + 1]
            sums["previous_mass"] += float(pattern[2 * pair + 1, 2 * pair]) / 8
            if match[episode, pair]:
                sums["image_mass"] += float(image)
                sums["label_mass"] += float(label)
                sums["label_gap"] += float(label)
            else:
                sums["wrong_label_mass"] += float(label)
                sums["label_gap"] -= float(label)
    for name, total in sums.items():
        assert found[name].shape == (2, 3)
        assert float(found[name][1, 2]) == pytest.approx(total / 5, rel=1e-5)


def test_a_curve_that_rises_and_falls():
    curve = measures.transience([0, 10, 20, 30, 40, 50], [0.5, 0.9, 0.9, 0.8, 0.6, 0.5])
    assert curve.peak == pytest.approx(0.9)
    assert curve.peak_step == 10
    assert curve.final == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    assert curve.half_life == 30


def test_a_curve_that_stays_has_no_half_life():
    assert math.isnan(measures.transience([0, 1, 2], [0.5, 0.9, 0.9]).half_life)
    assert math.isnan(measures.transience([0, 1, 2], [0.4, 0.4, 0.4]).half_life)


def test_one_lucky_evaluation_is_no_peak():
    values = [0.5, 0.5, 0.99, 0.5, 0.5]
    assert measures.transience(range(5), values).peak == pytest.approx(0.5)
    assert measures.transience(range(3), values[:3]).peak == pytest.approx(0.5)


def test_no_curve_is_refused():
    with pytest.raises(ValueError, match="0 steps and 0 values"):
        measures.transience([], [])


def test_a_summary_has_one_row_a_run_whatever_the_order_of_the_rows():
    def row(run, step, value):
        masses = {"label_mass": step / 10, "label_gap": 0.1}
        return {"run": run, "step": step, "icl": value, "iwl": step, "ciwl": 0.3, **masses}

    rows = [row("a", 2, 0.8), row("b", 0, 0.5), row("a", 0, 0.5), row("a", 1, 0.9)]
    first, second = measures.summary(rows)
    assert first["run"] == "a"
    assert first["peak"] == pytest.approx(0.8)
    assert first["label_mass_at_peak"] == pytest.approx(first["peak_step"] / 10)
    assert first["iwl_final"] == 2
    assert second["final"] == 0.5
