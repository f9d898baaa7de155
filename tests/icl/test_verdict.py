"""On tables that are made up, so that the answers are known beforehand."""

from itertools import product

import numpy as np
import pytest

from mechbook.icl import verdict
from mechbook.icl.verdict import Interval

STEPS = np.arange(0, 12_001, 250)
DECAYS = (0.0, 1e-3, 1e-2, 0.3)


def run(count, decay, seed, top, **changes):
    """Rows of one run: in-context accuracy rises in the middle to ``top`` and stays."""
    rise = np.clip((STEPS - 1000) / 1000, 0, 1)
    rows = {
        "stage": np.full(len(STEPS), "icl-main"),
        "run": np.full(len(STEPS), f"{count}-{decay}-{seed}"),
        "step": STEPS,
        "seed": np.full(len(STEPS), seed),
        "n_classes": np.full(len(STEPS), count),
        "decay": np.full(len(STEPS), decay),
        "efolds": decay * 1e-3 * STEPS,
        "icl": 0.5 + (top - 0.5) * rise,
        "iwl": 0.6 * np.clip(STEPS / 6000, 0, 1) if count == 100 else 0.01 * rise,
        "ciwl": 0.9 * rise,
        "label_gap": (top - 0.5) * rise,
        "icl_ece": 0.1 * rise,
    }
    return rows | {name: np.full(len(STEPS), value) for name, value in changes.items()}


def table(top, seeds=(0, 1, 2), counts=(100, 1600), decays=DECAYS):
    """Every cell of a grid; ``top(count, decay, seed)`` is its peak."""
    runs = [run(*cell, top(*cell)) for cell in product(counts, decays, seeds)]
    return {name: np.concatenate([own[name] for own in runs]) for name in runs[0]}


def grid(low=0.55, best=0.6, many=0.95, seeds=(0, 1, 2)):
    """Few classes at ``low``, and at decay 1e-2 at ``best``; many classes at ``many``."""
    return table(
        lambda count, decay, seed: many if count == 1600 else best if decay == 1e-2 else low, seeds
    )


# --- reading ----------------------------------------------------------------------------------


def test_selecting_meets_numbers_of_single_precision():
    columns = {"decay": np.array([0.1, 0.3], dtype=np.float32), "step": np.array([1, 2])}
    assert verdict.select(columns, decay=0.3)["step"].tolist() == [2]


def test_selecting_takes_several_values():
    assert len(verdict.select(grid(), n_classes=100, decay=[0.0, 1e-3])["step"]) == 6 * len(STEPS)


def test_runs_of_different_lengths_can_be_cut_to_one():
    long, short = run(100, 0.0, 0, 0.6), run(1600, 0.0, 0, 0.9)
    short = {name: column[: len(STEPS) // 2] for name, column in short.items()}
    both = {name: np.concatenate([long[name], short[name]]) for name in long}
    cut = verdict.until(both, 5000)
    assert sorted(cut["step"]) == sorted(2 * [*range(0, 5001, 250)])
    with pytest.raises(ValueError, match=r"run 1600-0\.0-0 ended at step 5750"):
        verdict.until(both, 6000)


@pytest.mark.parametrize(
    ("fields", "says"), [({"layers": 2}, "no column"), ({"seed": 9}, "no row")]
)
def test_selecting_refuses_what_is_not_there(fields, says):
    with pytest.raises(ValueError, match=says):
        verdict.select(grid(), **fields)


def test_the_primary_cells_are_the_grid_alone():
    other = run(100, 0.0, 0, 0.9, stage="icl-zipf", run="other")
    both = {name: np.concatenate([column, other[name]]) for name, column in grid().items()}
    assert "other" not in verdict.primary(both)["run"]


def test_a_table_without_the_grid_is_refused():
    with pytest.raises(ValueError, match="give icl-laptop"):
        verdict.primary(run(100, 0.0, 0, 0.9, stage="icl-zipf"))


def test_curves_have_a_row_for_each_run_in_the_order_of_steps():
    shuffled = np.random.default_rng(0).permutation(2 * len(STEPS))
    two = table(lambda *_: 0.9, seeds=(0,), decays=(0.0,))
    steps, values = verdict.curves({n: c[shuffled] for n, c in two.items()}, "icl")
    assert steps.tolist() == STEPS.tolist()
    assert (np.diff(values) >= 0).all()


def test_curves_of_different_lengths_are_refused():
    two = table(lambda *_: 0.9, seeds=(0,), decays=(0.0,))
    with pytest.raises(ValueError, match="different steps"):
        verdict.curves({n: c[:-1] for n, c in two.items()}, "icl")


def test_a_lucky_evaluation_is_no_peak():
    lucky = run(100, 0.0, 0, 0.6)
    lucky["icl"] = lucky["icl"].copy()
    lucky["icl"][20] = 1.0
    assert verdict.peaks(lucky)["peak"] == pytest.approx([0.6])


def test_what_was_at_the_peak_stands_beside_it():
    found = verdict.peaks(run(100, 1e-2, 0, 0.9))
    assert found["peak_step"] == [2000]
    assert found["label_gap_at_peak"] == pytest.approx([0.4])
    assert found["iwl_final"] == pytest.approx([0.6])
    assert found["efolds"] == pytest.approx([0.12])


def test_half_of_the_final_value_is_reached_half_way():
    assert verdict.peaks(run(100, 0.0, 0, 0.9))["iwl_half_step"] == [3000]


def test_formed_is_the_first_of_three_evaluations_in_a_row_above_half_way():
    steps, values = [0, 10, 20, 30, 40, 50], [0.5, 0.9, 0.5, 0.8, 0.76, 0.9]
    assert verdict.formed(steps, values) == 30
    assert verdict.formed(steps, [0.5] * 6) == 50
    assert verdict.formed(steps, values, chance=0.1) == 30


def test_cells_are_seeds_by_decays():
    values = verdict.cells(verdict.peaks(grid()), 100).values
    np.testing.assert_allclose(values, np.tile([0.55, 0.55, 0.6, 0.55], (3, 1)))


def test_a_missing_run_is_named():
    found = verdict.peaks(grid())
    without = {name: column[found["run"] != "100-0.3-1"] for name, column in found.items()}
    with pytest.raises(ValueError, match=r"0 runs have 100 classes, decay 0.3 and seed 1"):
        verdict.cells(without, 100)


def test_cells_need_a_baseline():
    found = verdict.peaks(table(lambda *_: 0.9, decays=(0.1,)))
    with pytest.raises(ValueError, match="without decay"):
        verdict.cells(found, 100)


# --- choosing and redrawing -------------------------------------------------------------------


def test_the_choice_never_sees_the_seed_that_it_is_scored_on():
    lucky = np.array([[1.0, 0.0, 0.0, 0.1], [0.0, 1.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.1]])
    chosen = verdict.choose(lucky)
    assert chosen.mean < 0.05 < lucky.mean(0).max()


def test_a_decay_that_is_best_for_all_is_chosen_for_all():
    chosen = verdict.choose(np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]))
    assert chosen.columns.tolist() == [1, 1, 1]
    assert chosen.mean == pytest.approx(0.8)


@pytest.mark.parametrize("bad", [np.zeros((1, 4)), np.zeros(4)])
def test_one_seed_leaves_nothing_to_choose_on(bad):
    with pytest.raises(ValueError, match="two seeds or more"):
        verdict.choose(bad)


def test_redrawing_equal_seeds_gives_their_value():
    drawn = verdict.redrawn(np.tile([0.3, 0.7], (4, 1)), 50)
    np.testing.assert_allclose(drawn, 0.7)


def test_redrawing_one_column_is_the_usual_bootstrap_of_a_mean():
    values = np.random.default_rng(1).normal(size=(8, 1))
    drawn = verdict.redrawn(values, 20_000)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(8), rel=0.05)


def test_each_draw_is_that_of_a_loop():
    values = np.random.default_rng(2).random((4, 3))
    copies = verdict._copies(4, 200, np.random.default_rng([0, 1]), least=2)
    for drawn, row in zip(verdict.redrawn(values, 200), copies, strict=True):
        sample = np.repeat(np.arange(4), row)
        scores = []
        for seed in sample:
            others = values[sample[sample != seed]]
            scores.append(values[seed, others.mean(0).argmax()])
        assert drawn == pytest.approx(np.mean(scores))


def test_no_draw_is_of_one_seed_alone():
    copies = verdict._copies(3, 2000, np.random.default_rng(0), least=2)
    assert ((copies > 0).sum(1) >= 2).all()
    assert (copies.sum(1) == 3).all()


# --- success ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.9, 1.0, "holds"), (0.2, 0.89, "does not hold"), (0.8, 0.95, "open")],
)
def test_the_verdict_of_an_interval(low, high, says):
    assert Interval(0.5, low, high).verdict == says


def test_a_share_is_of_the_distance_from_chance():
    assert verdict.share(0.6, 0.9, 0.5) == pytest.approx(0.25)
    assert verdict.share(0.45, 0.9) == pytest.approx(0.5)


def test_success_where_few_classes_reach_the_baseline():
    found = verdict.success(verdict.peaks(grid(best=0.95)), draws=200)
    assert found.verdict == "holds"
    assert found.decays == (1e-2,) * 3
    assert found.corrected.value == pytest.approx(1.0)


def test_no_success_where_they_stay_near_chance_though_the_raw_share_is_high():
    found = verdict.success(verdict.peaks(grid(low=0.85, best=0.87)), draws=200)
    assert found.raw.verdict == "holds"
    assert found.corrected.verdict == found.verdict == "does not hold"
    assert found.corrected.value == pytest.approx(0.37 / 0.45)


def test_an_uncertain_success_is_open():
    level = {0: 0.99, 1: 0.7, 2: 0.99, 3: 0.99, 4: 0.75}
    made = table(
        lambda count, decay, seed: 0.95 if count == 1600 else level[seed] if decay else 0.5,
        seeds=range(5),
    )
    assert verdict.success(verdict.peaks(made), draws=500).verdict == "open"


@pytest.mark.parametrize(("column", "factor"), [("label_gap", 0.4), ("ciwl", 0.7)])
def test_a_collapse_or_a_drop_undoes_success(column, factor):
    made = grid(best=0.95)
    chosen = (made["n_classes"] == 100) & (made["decay"] > 0)
    made[column] = np.where(chosen, factor * made[column], made[column])
    found = verdict.success(verdict.peaks(made), draws=200)
    assert found.corrected.verdict == "holds"
    assert found.verdict == "does not hold"


def test_a_seed_that_never_forms_stays_in_the_baseline():
    made = table(lambda count, decay, seed: 0.5 if count == 1600 and seed == 2 else 0.9)
    found = verdict.success(verdict.peaks(made), draws=500)
    assert found.baseline == pytest.approx(2.3 / 3)
    assert found.corrected.high == np.inf  # some draws have that seed alone
    assert found.corrected.verdict == "holds"


# --- path, exposure, forecast -----------------------------------------------------------------


def test_the_path_is_a_share_of_the_baselines():
    found = verdict.peaks(grid())
    np.testing.assert_allclose(verdict.path(found, 100, 0.1), [0.5, 0.5, 1.0, 0.5])


def test_dissociation_is_a_path_that_stands_and_an_answer_that_does_not_follow():
    gaps, accuracies = np.array([0.6, 0.6, 0.2, 0.2]), np.array([0.6, 0.9, 0.6, 0.9])
    found = verdict.dissociated(gaps, accuracies, 0.8, 0.9)
    assert found.tolist() == [True, False, False, False]


def test_the_cells_in_which_the_path_is_not_followed_are_named():
    made = grid()
    off = (made["n_classes"] == 100) & np.isin(made["decay"], [1e-3, 0.3])
    made["label_gap"] = np.where(
        off, 0.4, np.where(made["n_classes"] == 100, 0.1, made["label_gap"])
    )
    found = verdict.peaks(made)
    assert verdict.dissociated_cells(found, 100) == [1e-3, 0.3]
    assert verdict.dissociated_cells(found, 100, at_the_end=True) == [1e-3, 0.3]
    assert verdict.dissociated_cells(found, 1600) == []


def test_equal_exposure_reads_sixteen_times_as_late():
    (one,) = verdict.exposure(grid(), pairs=[(500, 8000)])
    np.testing.assert_allclose(one.few, 0.5)
    np.testing.assert_allclose(one.tokens, 0.5)
    np.testing.assert_allclose(one.sequences, 0.95)


def test_each_pair_of_steps_is_sixteen_fold():
    assert all(16 * t == s for t, s in verdict.EXPOSURE)


def test_a_step_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="the nearest: 250"):
        verdict.at(grid(), "icl", 260)


def test_line_1_memorizing():
    line = verdict.memorizes(verdict.peaks(grid()))
    np.testing.assert_allclose(line.peak, 0.55)
    np.testing.assert_allclose(line.in_weights, 0.6)
    np.testing.assert_allclose(line.in_weights_many, 0.01)
    assert line.half_step.tolist() == [3000] * 3
    assert line.baseline == pytest.approx(0.95)


def test_line_2_is_a_difference_seed_by_seed():
    made = table(lambda count, decay, seed: 0.55 + 0.01 * seed + (0.1 if decay == 1e-3 else 0))
    peak, known = verdict.moderate_helps(verdict.peaks(made))
    np.testing.assert_allclose(peak, 0.1)
    np.testing.assert_allclose(known, 0.0)


def test_line_3_begins_at_its_decay_and_counts_e_folds():
    lines = verdict.too_much_hurts(verdict.peaks(grid()))
    assert lines[100].decays == (1e-2, 0.3)
    np.testing.assert_allclose(lines[100].efolds, [0.12, 3.6])
    np.testing.assert_allclose(lines[100].in_context[:, 0], 0.05)
    np.testing.assert_allclose(lines[1600].in_context, 0.0, atol=1e-12)


def test_a_decay_that_was_not_run_is_refused():
    with pytest.raises(ValueError, match="was not run"):
        verdict.moderate_helps(verdict.peaks(grid()), decay=0.5)


def test_line_4_compares_the_best_cell_with_the_baseline():
    assert verdict.many_is_best(verdict.peaks(grid())) == pytest.approx((0.6, 0.95))


def test_line_5_is_the_share_of_the_gap():
    assert verdict.closes_gap(verdict.peaks(grid(best=0.75))) == pytest.approx(0.5)


def test_without_a_gap_none_can_be_closed():
    with pytest.raises(ValueError, match="no gap"):
        verdict.closes_gap(verdict.peaks(grid(low=0.95, best=0.95)))


def test_a_drop_is_from_the_peak_to_the_end():
    falling = run(100, 0.0, 0, 0.9)
    falling["icl"] = np.where(STEPS > 6000, 0.6, falling["icl"])
    assert verdict.drop(verdict.peaks(falling), n_classes=100) == pytest.approx([0.3])


def test_means_with_and_without_decay_stand_side_by_side():
    parts = table(lambda count, decay, seed: 0.6 + decay + seed / 100, decays=(0.0, 0.3))
    found = verdict.peaks(parts)
    found["decayed"] = np.where(found["decay"] > 0, "mlp", "all")
    pair = verdict.with_and_without(found, "peak", n_classes=100, decayed="mlp")
    assert pair == pytest.approx((0.61, 0.91))
    without, missing = verdict.with_and_without(found, "peak", decay=0.1, n_classes=100)
    assert without == pytest.approx(0.61)
    assert np.isnan(missing)
