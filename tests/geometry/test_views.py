import numpy as np
import pytest
import torch

from mechbook import training
from mechbook.geometry import concepts, streams, views
from mechbook.geometry.concepts import Concept
from mechbook.language_model import weights
from mechbook.language_model.model import ModelConfig, build

TEXTS = ["The king said to the queen that the man and the woman saw the king and the queen ."] * 3
PAIR = Concept("man → woman", "gender", (("man", "woman"), ("king", "queen")))


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=16)
    return build(config, weights.load_tokenizer()).eval()


@pytest.fixture(scope="module")
def ids(model):
    return concepts.pair_ids(model.tokenizer, PAIR)


@pytest.fixture(scope="module")
def found(model, ids):
    return views.contexts(
        model, views.tokenized(model, TEXTS), ids, length=5, each=4, generator=training.generator(0)
    )


def test_contexts_end_before_a_word_of_the_pair(model, ids, found):
    text = model.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    for row, word in zip(found.tokens.tolist(), found.with_word(ids)[:, -1].tolist(), strict=True):
        places = [i for i in range(5, len(text)) if text[i - 5 : i] == row[1:] and text[i] == word]
        assert places
        assert row[0] == model.tokenizer.bos_token_id


def test_both_words_of_a_pair_have_as_many_contexts(found):
    for pair in found.pair.unique():
        sides = found.target[found.pair == pair]
        assert int(sides.sum()) * 2 == len(sides)
    assert int((found.pair == 1).sum()) == 6  # "The king" has too little before it in each text


def test_bases_are_before_first_words_of_all_pairs(found):
    some = found.bases(2)
    assert not bool(some.target.any())
    assert some.pair.unique().tolist() == found.pair.unique().tolist()
    assert len(found.bases(100)) == int((~found.target).sum())


def test_a_pair_without_texts_is_left_out_and_none_is_an_error(model):
    lonely, rows = torch.tensor([[300, 301]]), views.tokenized(model, TEXTS)
    with pytest.raises(ValueError, match="no pair has both"):
        views.contexts(model, rows, lonely, length=5, generator=training.generator(0))
    with pytest.raises(ValueError, match="length is 16"):
        views.contexts(model, rows, lonely, length=16, generator=training.generator(0))


def clouds(step, seed=0, pairs=10, each=30, d=20, own=2.0):
    """Activations: each word has its own place, targets are moved by a common step."""
    random = np.random.default_rng(seed)
    pair = np.repeat(np.arange(pairs), 2 * each)
    target = np.tile(np.repeat([False, True], each), pairs)
    word = random.normal(size=(pairs, 2, d)) * own
    h = word[pair, target.astype(int)] + random.normal(size=(len(pair), d))
    h[:, 0] += step * target
    return h, target, pair


def test_a_probe_reads_a_common_direction_on_new_pairs():
    read = views.probe(*clouds(20.0, own=1.0), training.generator(0))
    assert read.accuracy > 0.95
    assert read.control_new < 0.7


def test_what_is_learned_by_heart_shows_in_the_control():
    """Without a common direction seen words are told apart all the same: no selectivity."""
    read = views.probe(*clouds(0.0, d=60), training.generator(0), C=1.0)
    assert read.seen > 0.95
    assert read.control > 0.95
    assert abs(read.selectivity) < 0.05
    assert read.accuracy < 0.75


def test_an_untrained_probe_scores_the_sign_about_the_median():
    h, target, _ = clouds(20.0)
    w = torch.zeros(len(h), 20)
    w[:, 0] = 1
    assert views.untrained_probe(torch.tensor(h), w, torch.tensor(target)) > 0.95
    w = torch.roll(w, 1, 1)
    assert views.untrained_probe(torch.tensor(h), w, torch.tensor(target)) < 0.7


def test_log_odds_are_of_each_contexts_own_pair(ids):
    logits = torch.zeros(2, 8192)
    logits[0, ids[1, 1]] = 3
    logits[1, ids[1, 0]] = 3
    assert views.log_odds(logits, ids, torch.tensor([1, 0])).tolist() == [3, 0]


def test_adding_the_unembedding_difference_to_the_last_stream_raises_the_target(model, ids, found):
    gamma = (model.W_U * model.ln_final.weight[:, None]).detach().mT
    vectors = concepts.differences(gamma, ids)
    curve = views.steering_curve(model, found, ids, vectors, [-1.0, 0.0, 1.0], depth=2)
    assert curve["log-odds"][0] < 0 == pytest.approx(curve["log-odds"][1], abs=1e-5)
    assert curve["log-odds"][2] > 0


def test_the_last_depth_needs_no_second_run_and_gives_the_same(model, found):
    change = lambda h: 2 * h + 1  # noqa: E731
    expected = streams.edited(model, found.tokens, 2, change)
    assert torch.allclose(views._runner(model, found.tokens, 2)(change), expected, atol=1e-4)


def test_what_happens_to_other_concepts_is_measured_beside(model, ids, found):
    other = torch.tensor([[300, 301], [302, 303]])
    step = torch.randn(2, 16, generator=training.generator(0))
    step = step / step.norm(dim=-1, keepdim=True)
    curve = views.steering_curve(model, found, ids, step, [0.0, 2.0], depth=1, others=[other])
    assert curve["beside"][0] == pytest.approx(0, abs=1e-6)
    sizes = []
    for row, pair in zip(found.tokens, found.pair.tolist(), strict=True):
        before, after = (
            streams.edited(model, row[None], 1, lambda h, s=s, p=pair: h + s * h.norm() * step[p])[
                0
            ]
            for s in (0.0, 2.0)
        )
        moved = [(after - before)[b] - (after - before)[a] for a, b in other.tolist()]
        sizes.append(abs(float(sum(moved) / 2)))
    assert curve["beside"][1] == pytest.approx(np.mean(sizes), rel=1e-4)


def test_a_stream_is_read_and_changed_where_it_was_asked(model, found):
    tokens = found.tokens
    h = streams.read(model, tokens, 2)
    assert h.shape == (3, len(tokens), 16)
    seen = []
    streams.edited(model, tokens, 1, lambda x: seen.append(x) or x, 2)
    assert torch.allclose(seen[0], h[1], atol=1e-6)
    same = streams.edited(model, tokens, 2, lambda x: x)
    assert torch.allclose(same, model(tokens)[:, -1], atol=1e-5)


def test_each_text_can_have_its_own_position(model, found):
    tokens = found.tokens[:3]
    where = torch.tensor([1, 3, -1])
    h = streams.read(model, tokens, where)
    for row, place in enumerate(where.tolist()):
        assert torch.allclose(
            h[:, row], streams.read(model, tokens[row : row + 1], place)[:, 0], atol=1e-5
        )


def test_the_last_block_cannot_hear_an_earlier_position_after_it(model, found):
    changed = streams.edited(model, found.tokens, 2, lambda x: 0 * x, 1)
    assert torch.allclose(changed, model(found.tokens)[:, -1], atol=1e-5)


def test_the_unembedding_gives_the_logits_of_the_normalized_stream(model, found):
    h = streams.read(model, found.tokens)[-1].double()
    h = h / (h.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    expected = model(found.tokens)[:, -1].detach().double()
    assert torch.allclose(h @ views.unembedding(model).mT, expected, atol=1e-4)


def test_a_model_is_measured_and_a_missing_one_is_one_line(model, monkeypatch):
    monkeypatch.setattr(views.pretrained, "load", lambda name: model)
    lines = views.report("tiny").splitlines()
    assert "width 16" in lines[0]
    assert any(line.strip().startswith("causal") for line in lines)
    monkeypatch.undo()
    assert views.report("no-such-model").startswith("Skipped: no-such-model")


def test_measured_is_the_mean_cosine_by_kind(ids):
    gamma = torch.randn(2000, 6, generator=training.generator(0), dtype=torch.float64)
    known = [Concept(str(i), family, ()) for i, family in enumerate("aab")]
    pairs = [torch.arange(4 * i, 4 * i + 4).reshape(2, 2) for i in range(3)]
    eye = torch.eye(6, dtype=torch.float64)
    row = views.measured(gamma, known, pairs, {"Euclid": eye}, training.generator(1))["Euclid"]
    d = torch.stack([concepts.differences(gamma, pair).mean(0) for pair in pairs])
    cos = torch.nn.functional.normalize(d, dim=-1)
    assert row["not separable"] == pytest.approx(abs(float(cos[0] @ cos[1])))
    assert row["separable"] == pytest.approx(float((cos[:2] @ cos[2]).abs().mean()))
    with pytest.raises(ValueError, match="two families"):
        views.measured(gamma, known[:2], pairs[:2], {"Euclid": eye}, training.generator(1))


def test_bad_input_is_refused(model, found):
    with pytest.raises(ValueError, match="depth is 3"):
        streams.edited(model, found.tokens, 3, lambda x: x)
    with pytest.raises(ValueError, match="outside the texts"):
        streams.read(model, found.tokens, 6)
    with pytest.raises(ValueError, match="reads 1 to 16"):
        streams.read(model, torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="fewer folds"):
        views.probe(*clouds(0.0, pairs=3), training.generator(0))
    with pytest.raises(ValueError, match="one each"):
        views.probe(np.ones((3, 2)), np.ones(2, bool), np.ones(3, int), training.generator(0))


def test_what_a_number_predicts_is_taken_out_as_least_squares_does():
    draw = training.generator(0)
    gamma, amount = torch.randn(50, 4, generator=draw), torch.rand(50, generator=draw)
    left = views.regressed_out(gamma, amount)
    design = torch.stack([torch.ones(50), amount], 1)
    fitted = design @ torch.linalg.lstsq(design, gamma).solution
    assert torch.allclose(left - left.mean(0), gamma - fitted, atol=1e-5)
    with pytest.raises(ValueError, match="the same for all"):
        views.regressed_out(gamma, torch.ones(50))
