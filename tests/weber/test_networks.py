"""Pooling networks and transformers: rows, what is seen, what they learn, interventions, the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechbook import training
from mechbook.weber import mechanism, pooling, scaling, seeds, transformer
from mechbook.weber.pooling import FOUR, PoolingConfig
from mechbook.weber.transformer import ModelConfig, Task, TrainingConfig

TASK = Task(n_types=6, low=4, high=8, longest=40)
TINY = ModelConfig(d_model=8, n_heads=2)


@pytest.fixture(scope="module")
def model():
    return transformer.build(TASK, TINY)


def given(m, n, seed=0):
    return transformer.rows(TASK, torch.tensor(m), torch.tensor(n), training.generator(seed))


# --- pooling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", FOUR, ids=lambda c: f"{c.pool}, {c.noise}")
def test_the_closed_form_is_the_threshold_of_values_of_plus_and_minus_one(config):
    draw, mean = np.random.default_rng(0), 20
    threshold = pooling.ideal_jnd(config, mean)
    signs = np.repeat([-1.0, 1.0], mean)
    share = 1.0 if config.pool == "sum" else 1 / 40
    inside = config.deviation * draw.standard_normal((20_000, 40)) * (config.noise == "each word")
    after = config.deviation * draw.standard_normal(20_000) * (config.noise == "after pooling")
    pooled = share * (signs + inside).sum(1) + share * threshold + after
    assert (pooled > 0).mean() == pytest.approx(0.75, abs=0.015)


@pytest.mark.parametrize("config", FOUR, ids=lambda c: f"{c.pool}, {c.noise}")
def test_the_closed_form_grows_with_the_exponent(config):
    ratio = pooling.ideal_jnd(config, 40) / pooling.ideal_jnd(config, 10)
    assert np.log(ratio) / np.log(4) == pytest.approx(config.exponent)


def test_at_the_typical_number_of_words_all_four_are_equally_hard():
    assert len({round(pooling.ideal_jnd(config, 20), 6) for config in FOUR}) == 1


def test_the_pool_is_a_loop_over_the_words():
    config = PoolingConfig(level=1e-9)
    model = pooling.Pooling(config)
    trials = pooling.sample(
        config, torch.tensor([2, 3]), torch.tensor([1, 3]), training.generator(0)
    )
    for row, count in enumerate((3, 6)):
        mixed = torch.zeros(config.d_model)
        for place in range(count):
            value = (
                model.words[trials["words"][row, place]] + model.sides[trials["sides"][row, place]]
            )
            value = value @ model.W_V
            mixed += value / value.norm() / count
        assert model(trials)[row].item() == pytest.approx(
            float((mixed @ model.readout).detach()), abs=1e-5
        )


def test_the_first_m_words_are_left():
    trials = pooling.sample(FOUR[0], torch.tensor([2]), torch.tensor([3]), training.generator(0))
    assert trials["sides"][0].tolist() == [0, 0, 1, 1, 1]
    assert trials["right"].tolist() == [1.0]


def test_training_counts_are_never_equal():
    m, n = pooling.training_counts(replace(FOUR[0], batch=2000, high=3), training.generator(0))
    assert (m != n).all()
    assert {*m.tolist()} == {*n.tolist()} == {1, 2, 3}


def test_a_network_that_averages_learns_webers_law_in_seconds():
    config = PoolingConfig(n_types=5, steps=120, batch=64, high=30, learning_rate=1e-2)
    (model,) = pooling.train([config], progress=False)
    counts = pooling.answers(model, config, means=(10, 40), per_cell=400)
    found = scaling.exponent(counts)
    assert found.low > 0.6
    assert scaling.interaction_test(counts).p_value < 1e-3


@pytest.mark.parametrize(
    "bad", [{"pool": "max"}, {"noise": "nowhere"}, {"level": 0}, {"low": 0}, {"high": 1}]
)
def test_bad_pooling_settings_are_refused(bad):
    with pytest.raises(ValueError, match=r"pool|noise|level"):
        PoolingConfig(**bad)


def test_networks_of_different_kinds_are_not_trained_together():
    with pytest.raises(ValueError, match="nothing but their seed"):
        pooling.train(FOUR)
    with pytest.raises(ValueError, match="even ones"):
        pooling.answers(None, FOUR[0], differences=(1,))


# --- rows -------------------------------------------------------------------------------------


def test_a_row_reads_bos_left_sep_right_ask():
    row = given([2, 1], [1, 3]).tokens
    mark = TASK.BOS
    assert (row >= mark).tolist() == [
        [True, False, False, True, False, True, True],
        [True, False, True, False, False, False, True],
    ]
    assert row[0, [0, 3, 5, 6]].tolist() == [mark, mark + 1, mark + 2, mark + 2]


def test_what_follows_the_question_is_not_seen(model):
    short, both = given([3], [2]), given([3, 9], [2, 9])
    both.tokens[0, : short.tokens.shape[1]] = short.tokens[0]
    alone, together = (transformer.log_odds(model, x, TASK)[0] for x in (short, both))
    assert alone.item() == pytest.approx(together.item(), abs=1e-5)


def test_a_batch_has_one_mean_and_both_sides():
    rows = transformer.sample(TASK, 400, training.generator(1))
    sums = (rows.m + rows.n).float()
    assert sums.max() - sums.min() <= 2
    assert (rows.n > rows.m).float().mean() == pytest.approx(0.5, abs=0.08)
    assert (rows.m != rows.n).all()
    assert min(rows.m.min(), rows.n.min()) >= 1


def test_without_positions_the_words_order_within_a_side_cannot_matter_to_the_first_layer():
    model = transformer.build(TASK, replace(TINY, positions="none"))
    assert not model.pos_embed.weight.any()
    assert not model.pos_embed.weight.requires_grad


def test_answers_have_every_cell_and_their_sums_are_balanced(model):
    found = transformer.answers(model, TASK, means=(5, 8), differences=(1, 2), per_cell=4)
    assert len(found.chosen.mean) == 8
    assert found.odds.shape == (8, 4)
    assert ((found.odds > 0).sum(1) == found.chosen.right).all()
    believed = 1 / (1 + np.exp(-found.odds.astype(float)))
    assert found.believed.right == pytest.approx(believed.sum(1), abs=1e-5)


def test_evidence_has_the_exponent_of_the_judge_that_made_it(model):
    def judge(gamma):
        def ask(model, rows):
            return (rows.n - rows.m) / ((rows.n + rows.m) / 2) ** gamma + 0.3

        return ask

    for gamma in (0.0, 0.5, 1.0):
        found = transformer.answers(model, TASK, means=(5, 10, 15), judge=judge(gamma))
        line = transformer.evidence(found)
        assert line.exponent == pytest.approx(gamma, abs=0.02)
        assert line.bias == pytest.approx([0.3] * 3, abs=0.02)


def test_a_transformer_learns_to_compare_short_lists():
    task = Task(n_types=4, low=3, high=5, longest=12)
    model = transformer.build(task, ModelConfig(d_model=16, n_heads=2))
    config = TrainingConfig(steps=120, batch=32, learning_rate=3e-3, measure_at=(60,))
    seen = []

    def measure(model):
        found = transformer.answers(model, task, means=(4,), differences=(2, 4), per_cell=20)
        seen.append(seeds.accuracy(found.chosen))
        return {"accuracy": seen[-1]}

    history = transformer.train(model, task, config, measure=measure, progress=False)
    assert len(seen) == 2
    assert history.loss[-20:].mean() < 0.8 * history.loss[:20].mean()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Task(largest=20, low=5),
        lambda: Task(low=9, high=8),
        lambda: Task(longest=40),
        lambda: ModelConfig(positions="rotary"),
        lambda: given([0], [3]),
        lambda: given([30], [30]),
        lambda: transformer.answers(None, TASK, per_cell=3),
    ],
)
def test_bad_input_is_refused(bad):
    with pytest.raises(ValueError, match=r"low|longest|positions|counts|per_cell"):
        bad()


# --- mechanism --------------------------------------------------------------------------------


def test_rows_of_the_probes_have_independent_sums_and_differences():
    found = mechanism.targets(mechanism.independent(TASK, 4000))
    assert abs(np.corrcoef(found["n - m"], found["n + m"])[0, 1]) < 0.05
    assert found["(n - m) / (n + m)"] == pytest.approx(found["n - m"] / found["n + m"])


def test_uniform_attention_is_uniform_and_ends_with_the_context(model):
    from mechbook import heads

    tokens = given([3], [4]).tokens
    with mechanism.uniform(model, [0]):
        inside = heads.patterns(model, tokens)
    posn = tokens.shape[1]
    average = torch.ones(posn, posn).tril() / torch.arange(1.0, posn + 1)[:, None]
    assert torch.allclose(inside[0, 0, 0], average)
    assert not torch.allclose(heads.patterns(model, tokens)[0, 0, 0], average)
    with pytest.raises(ValueError, match="counted from 0"):
        mechanism.uniform(model, [5])


def test_a_transformer_whose_last_mlp_is_silent_is_one_whose_weights_say_so(model):
    import copy

    rows, silent = given([3, 4], [5, 2]), copy.deepcopy(model)
    own = [p for name, p in silent.named_parameters() if "mlp" in name and ".1." in name]
    assert len(own) == 4
    for parameter in own:
        torch.nn.init.zeros_(parameter)
    with mechanism.without_mlp(model, 1):
        inside = transformer.log_odds(model, rows, TASK)
    assert torch.allclose(inside, transformer.log_odds(silent, rows, TASK), atol=1e-6)
    assert not torch.allclose(inside, transformer.log_odds(model, rows, TASK))
    with pytest.raises(ValueError, match="layer 2"):
        mechanism.without_mlp(model, 2)


def test_without_mlps_there_is_none():
    names = [n for n, _ in transformer.build(TASK, replace(TINY, mlps=False)).named_parameters()]
    assert not [name for name in names if "mlp" in name]


def test_words_without_scores_are_attended_alike():
    model = transformer.build(TASK, replace(TINY, positions="none"))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert mechanism.unevenness(model, given([4, 3], [5, 6])).max() < 1e-4


def test_a_line_on_a_scale_is_told_by_its_scale():
    counts = range(2, 30)
    for name, scale in (
        ("linear", lambda m: m),
        ("logarithmic", np.log),
        ("inverse", lambda m: 1 / m),
    ):
        line = torch.tensor([[scale(float(m)), 0.0] for m in counts])
        found = mechanism.line_fit(line, list(counts))
        assert max(found, key=found.get) == name
        assert found[name] == pytest.approx(1)


def test_the_number_line_has_a_point_for_each_count(model):
    assert mechanism.number_line(model, TASK, (2, 5, 9), each=3).shape == (3, 8)


def test_the_direction_of_a_target_is_found_in_noise():
    draw = torch.Generator().manual_seed(0)
    target, true = np.random.default_rng(0).standard_normal(3000), torch.randn(8, generator=draw)
    stream = torch.tensor(target[:, None]) * true + torch.randn(3000, 8, generator=draw)
    found = mechanism.direction(stream, target)
    assert torch.cosine_similarity(found, true.double(), dim=0) > 0.99


def test_an_exchange_along_no_direction_changes_nothing_and_along_all_gives_the_donors(model):
    rows = given([3, 4, 6], [5, 2, 6])
    before = transformer.log_odds(model, rows, TASK)
    after, donor = mechanism.swapped_odds(model, rows, TASK, torch.zeros(8), 1)
    assert torch.allclose(after, before)
    assert donor.tolist() == [1, 2, 0]


def test_probes_have_a_table_of_depths_and_targets(model):
    table = mechanism.probe_table(model, mechanism.independent(TASK, 60))
    assert list(table) == ["embedding", "attention 0", "MLP 0", "attention 1", "MLP 1"]
    assert list(table["MLP 1"]) == list(mechanism.TARGETS)
    assert table["embedding"]["m"] < table["attention 1"]["n + m"] + 1


# --- the artifact -----------------------------------------------------------------------------


def test_the_table_has_every_kind_and_can_be_read(monkeypatch):
    first = seeds.VARIANTS[0]
    small = Task(n_types=4, low=6, high=7, longest=26)
    tiny = replace(first, task=small, model=replace(first.model, d_model=8))
    whole = seeds.run
    monkeypatch.setattr(seeds, "VARIANTS", (tiny,))
    monkeypatch.setattr(seeds, "run", lambda variant, seed: whole(variant, seed, (1,)))
    quick = tuple(replace(config, steps=3, batch=8, n_types=3) for config in FOUR)
    monkeypatch.setattr(pooling, "FOUR", quick)
    monkeypatch.setattr(seeds, "POOLING_MEANS", (5, 10))
    monkeypatch.setattr(seeds, "MEANS", (8, 10))
    monkeypatch.setattr(seeds, "OUTSIDE", (11, 12))
    table, facts = seeds.make_seeds(2)
    assert {len(column) for column in table.values()} == {len(table["value"])}
    assert set(table["variant"]) >= {"sum, noise in each word", "average, noise after pooling"}
    assert seeds.values(table, "no positions", "accuracy").shape == (2, 2)
    assert seeds.values(table, "no positions", "without the last MLP: exponent").shape == (2, 1)
    assert seeds.values(table, "sum, noise after pooling", "exponent").shape == (2, 1)
    assert facts["seeds"] == [0, 1]
    with pytest.raises(ValueError, match="no rows"):
        seeds.values(table, "no positions", "happiness")


def test_a_threshold_that_is_none_is_not_a_number():
    counts = transformer.Counts(*(np.array(x, float) for x in ([5, 5], [-1, 1], [0, 0], [4, 4])))
    assert np.isnan(seeds.jnd(counts))
    assert seeds.accuracy(counts) == 0.5
