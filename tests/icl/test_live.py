import numpy as np
import pytest
import torch

from mechbook.icl import decay, live, verdict
from mechbook.icl.config import paper
from mechbook.icl.live import Race

SMALL = {"steps": 6, "evaluate_every": 3, "episodes": 16, "batch": 8}


@pytest.fixture(scope="module")
def maps():
    return live.make_maps("smoke")


def test_the_live_run_has_the_columns_of_the_artifact():
    found = live.contrast(classes=(16, 32), progress=False, **SMALL)
    assert found["n_classes"].tolist() == [16] * 3 + [32] * 3
    steps, values = verdict.curves(found, "novel_open")
    assert steps.tolist() == [0, 3, 6]
    assert values.shape == (2, 3)
    assert verdict.peaks(found, "novel_open", 0.25)["seed"].tolist() == [live.SEED] * 2


def test_a_shorter_live_run_is_the_beginning_of_a_longer_one():
    short, long = (
        live.contrast(classes=(16,), progress=False, **{**SMALL, "steps": steps})
        for steps in (3, 6)
    )
    np.testing.assert_allclose(short["novel_ece"], long["novel_ece"][:2], atol=1e-6)


def test_the_seed_of_the_live_run_is_none_of_the_artifacts():
    assert live.SEED > 4


# --- the race ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [50, 100, 1600])
def test_the_orbit_is_the_closed_form(count):
    config = Race(n_classes=count, p_bursty=1.0, length=50, points=60)
    course = live.race(config)
    np.testing.assert_allclose(
        np.log(course.context), np.log(live.orbit(config, course.weights)), atol=1e-6
    )


def test_with_other_sequences_the_orbit_is_left():
    config = Race(p_bursty=0.9)
    course = live.race(config)
    gone = np.log(course.context) - np.log(live.orbit(config, course.weights))
    assert abs(gone).max() > 0.1


def test_at_the_takeover_the_contexts_margin_is_one():
    config = Race(n_classes=300)
    assert live.orbit(config, np.array([live.takeover(config)])) == pytest.approx(1.0)


def test_sixteen_times_the_classes_know_a_sixteenth_at_the_takeover():
    few, many = (live.takeover(Race(n_classes=count)) for count in (100, 1600))
    assert few == pytest.approx(16 * many)


def test_steps_by_hand_follow_the_same_course():
    config = Race(decay=0.01, length=5, points=6)
    u, w, step = config.start**0.5, 0.0, 1e-3
    for _ in range(5000):
        du, dw = live._slope(config, [u, w])
        u, w = u + step * du, w + step * dw
    course = live.race(config)
    assert u * u == pytest.approx(course.context[-1], rel=0.01)
    assert w == pytest.approx(course.weights[-1], rel=0.01)


@pytest.mark.parametrize("count", [50, 100, 400])
def test_below_the_strongest_decay_the_contexts_circuit_grows_and_above_it_dies(count):
    edge = live.strongest(Race(n_classes=count))
    ends = [
        live.race(Race(n_classes=count, decay=factor * edge, length=300 / edge)).context[-1]
        for factor in (0.6, 1.4)
    ]
    assert ends[1] < Race().start < 10 * Race().start < ends[0]


def test_at_the_strongest_decay_pull_and_decay_balance():
    config = Race(n_classes=100)
    edge, p = live.strongest(config), config.p_bursty
    w = config.rate / (2 * p * config.n_classes)
    pull = 1 / (1 + np.exp(w))
    assert config.rate / config.n_classes * pull == pytest.approx(edge * w)
    assert 2 * p * pull == pytest.approx(edge)


def test_the_notes_strongest_decay_is_a_quarter_of_an_e_fold_in_the_papers_schedule():
    assert decay.efolds(paper(decay=1e-2), [500_000]) == pytest.approx(0.25, abs=0.01)


# --- attention on fixed episodes --------------------------------------------------------------


def test_the_maps_are_patterns_over_training(maps):
    found = live.Maps.of(maps[0])
    run, measured, episode, layer, query, key = found.patterns.shape
    assert (run, episode, layer, query, key) == (4, live.WATCHED, 2, 17, 17)
    assert measured == len(found.step) == found.icl.shape[1]
    np.testing.assert_allclose(found.patterns.sum(-1), 1.0, atol=5e-3)


def test_the_runs_of_the_maps_are_few_and_many_with_and_without_decay(maps):
    found = live.Maps.of(maps[0])
    assert list(zip(found.n_classes, found.decay, strict=True)) == [
        (12, 0.0), (12, 0.3), (30, 0.0), (30, 0.3)
    ]  # fmt: skip


def test_the_full_maps_are_small_enough_for_the_book():
    configs = live.map_configs()
    measured = 1 + configs[0].steps // configs[0].evaluate_every
    numbers = len(configs) * measured * live.WATCHED * configs[0].n_layers * 17 * 17
    assert 2 * numbers < 2**20
    assert measured == 25


def test_an_episode_shows_its_class_four_times(maps):
    tokens = live.Maps.of(maps[0]).tokens(0)
    assert tokens[0:-1:2].count("A") == tokens[0:-1:2].count("B") == 4
    assert set(tokens[1::2]) == {"0", "1"}
    assert tokens[-1] == "?"


def test_a_class_has_one_label_throughout_an_episode(maps):
    found = live.Maps.of(maps[0])
    for labels, match in zip(found.labels, found.match, strict=True):
        assert len({*labels[match]}) == len({*labels[~match]}) == 1


def test_the_path_is_one_where_the_query_looks_at_its_labels_alone():
    patterns = np.zeros((2, 17, 17))
    patterns[1, 16, [1, 5]] = 0.5
    match = np.array([True, False, True] + [False] * 5)
    np.testing.assert_allclose(live.path_of(patterns, match), [0.0, 1.0])
    np.testing.assert_allclose(live.path_of(patterns, ~match), [0.0, -1.0])


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="laptop, smoke"):
        live.make_maps("huge")


def test_the_tensors_can_be_kept(maps, tmp_path):
    from mechbook.artifacts import Card, load_tensors, save_tensors

    card = Card(about="a trial", made_by="a:b", command="c", seeds=[0], seconds=1.0)
    save_tensors("icl-maps", maps[0], card=card, data=tmp_path)
    again = load_tensors("icl-maps", data=tmp_path)
    assert again["patterns"].dtype == torch.float16
    assert set(again) == set(maps[0])
