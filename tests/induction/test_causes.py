"""On the circuit set by hand each answer is known beforehand; on a random model sums must add up."""

import pytest
import torch
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from mechbook import training
from mechbook.induction import causes, circuits, hand, model
from mechbook.induction import task as tasks
from mechbook.induction.model import ModelConfig
from mechbook.induction.task import Task

TASK = Task(n_types=11, shortest=3, longest=6, length=15, distinct=True)
WRITER, READER = [(0, 0)], [(1, 0)]


@pytest.fixture(scope="module")
def net():
    return hand.build(TASK)


@pytest.fixture(scope="module")
def texts():
    return model.held_out(TASK, 64)


def test_nothing_left_out_is_the_model(net, texts):
    assert causes.ablated(net, texts, []).accuracy == 1
    assert causes.ablated(net, texts, []).logit == pytest.approx(30 * 10 / 11, rel=1e-4)


@pytest.mark.parametrize("way", causes.WAYS)
@pytest.mark.parametrize("chosen", [WRITER, READER])
def test_each_head_is_needed(net, texts, way, chosen):
    assert causes.ablated(net, texts, chosen, way).accuracy < 0.5


def test_the_path_is_through_the_keys(net, texts):
    assert causes.cut(net, texts, WRITER, ["key"]).accuracy < 0.5
    assert causes.cut(net, texts, WRITER, ["query", "value"]).accuracy == 1


def test_one_text_has_no_other_to_take_from(net):
    alone = model.held_out(TASK, 1)
    with pytest.raises(ValueError, match="give two texts or more"):
        causes.cut(net, alone, WRITER, ["key"])
    with pytest.raises(ValueError, match="give two texts or more"):
        causes.ablated(net, alone, READER, "resample")


def test_a_model_whose_stream_is_no_plain_sum_is_refused(texts):
    config = TransformerBridgeConfig(
        n_layers=2, d_model=8, d_head=4, n_heads=2, d_mlp=8, d_vocab=11, n_ctx=15, act_fn="gelu",
        normalization_type="RMS", seed=0,
    )  # fmt: skip
    other = TransformerBridge.boot_native(config)
    for use in (
        lambda: causes.cut(other, texts, WRITER, ["key"]),
        lambda: causes.attribution(other, texts),
    ):
        with pytest.raises(ValueError, match=r"has a norm \(RMS\)"):
            use()


def test_texts_in_which_a_token_comes_twice_have_no_clear_questions():
    free = model.held_out(Task(n_types=3, shortest=3, longest=6, length=15), 64)
    with pytest.raises(ValueError, match=r"Task\(distinct=True\)"):
        causes.questions(free, torch.Generator().manual_seed(0))


def test_the_answer_goes_where_the_tag_goes(net, texts):
    asked = causes.questions(texts, torch.Generator().manual_seed(0))
    found = causes.swap_tags(net, texts, asked, WRITER)
    assert found["swapped"] > 0.99
    assert found["true"] < 0.01


def test_turning_the_copying_head_down_turns_the_answer_around(net, texts):
    for gain, accuracy in ((1.0, 1.0), (0.5, 1.0), (-1.0, 0.0)):
        with causes.turned(net, READER, gain), torch.no_grad():
            assert causes.effect(net(texts.tokens), texts).accuracy == accuracy


def test_the_composed_prediction_is_the_models_where_nothing_is_left_out(net, texts):
    composed = causes.composed_logits(net, texts.tokens, WRITER, READER)
    assert tasks.accuracy(composed, texts) == 1
    torch.testing.assert_close(
        composed[texts.predictable],
        net(texts.tokens)[texts.predictable].detach(),
        atol=1e-3,
        rtol=0,
    )


def test_with_two_tokens_the_score_is_a_sum_over_both():
    random = model.build(TASK, ModelConfig(d_model=16))
    tokens = model.held_out(TASK, 3).tokens
    found = causes.composed_logits(random, tokens, [(0, 1)], [(1, 0)], [(0, 0)])
    own, W_E, W_U = circuits.heads_of(random), random.W_E.detach(), random.W_U.detach()
    tag, two = W_E @ own[0, 1].OV, W_E @ own[0, 0].OV
    for row, text in enumerate(tokens.tolist()):
        for q in range(1, len(text)):
            scores = []
            for k in range(1, q + 1):
                score = W_E[text[q]] @ own[1, 0].QK @ tag[text[k - 1]]
                if k > 1:
                    score = score + tag[text[q - 1]] @ own[1, 0].QK @ two[text[k - 2]]
                scores.append(score / 8**0.5)
            weights = torch.stack(scores).softmax(0)
            said = [W_E[text[k]] @ own[1, 0].OV @ W_U for k in range(1, q + 1)]
            expected = sum(w * logits for w, logits in zip(weights, said, strict=True))
            torch.testing.assert_close(found[row, q], expected, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def ambiguous():
    return model.held_out(Task(n_types=4, shortest=4, longest=6, length=15), 64)


def test_an_ambiguous_question_has_two_places_after_different_tokens(ambiguous):
    asked = causes.ambiguous_questions(ambiguous, training.generator(0))
    assert len(asked.text) > 20
    for text, query, source, other in zip(
        asked.text, asked.query, asked.source, asked.other, strict=True
    ):
        row, period = ambiguous.tokens[text].tolist(), int(ambiguous.period[text])
        assert query == source - 1 + period
        assert row[query] == row[source - 1] == row[other - 1]
        assert row[query - 1] == row[source - 2] != row[other - 2]
        assert row[source] != row[other]
        assert 1 <= other - 1 < period < query


def test_without_a_token_said_twice_there_is_no_ambiguous_question(texts):
    with pytest.raises(ValueError, match="no passage has a token twice"):
        causes.ambiguous_questions(texts, training.generator(0))


def test_only_the_query_of_the_question_changes(ambiguous):
    task = Task(n_types=4, shortest=4, longest=6, length=15)
    random = model.build(task, ModelConfig(d_model=16))
    asked = causes.ambiguous_questions(ambiguous, training.generator(0))
    own = causes.writes(random, ambiguous.tokens, WRITER)
    found = {"true": 0, "swapped": 0}
    for i, text in enumerate(asked.text.tolist()):
        query, place = int(asked.query[i]), int(asked.other[i]) - 1

        def patch(stream, hook, text=text, query=query, place=place):
            stream = stream.clone()
            stream[0, query] += own[text, place] - own[text, query]
            return stream

        logits = random.run_with_hooks(
            ambiguous.tokens[text : text + 1], fwd_hooks=[("blocks.1.attn.q.hook_in", patch)]
        )
        guess = int(logits[0, query].argmax())
        found["true"] += guess == int(ambiguous.tokens[text, asked.source[i]])
        found["swapped"] += guess == int(ambiguous.tokens[text, place + 1])
    wanted = {name: count / len(asked.text) for name, count in found.items()}
    assert causes.swap_query(random, ambiguous, asked, WRITER) == pytest.approx(wanted, abs=1e-6)


def test_the_summary_of_the_circuit_by_hand(net, texts):
    found = causes.summary(net, texts, texts)
    assert found["as it is"] == found["tags exchanged"] == found["story of one token"] == 1
    assert found["value from previous-token head cut"] == 1
    assert found["key from previous-token head cut"] < 0.5
    assert not [name for name in found if "ambiguous" in name]


def test_the_parts_add_up_to_the_logit(texts):
    random = model.build(TASK, ModelConfig(d_model=16))
    names, parts, whole = causes.attribution(random, texts)
    assert names == ("embedding", "positions", "0.0", "0.1", "1.0", "1.1")
    assert float(parts.sum()) == pytest.approx(whole, abs=1e-5)


def test_by_hand_the_second_head_does_it_all(net, texts):
    _, parts, whole = causes.attribution(net, texts)
    assert float(parts[-1]) == pytest.approx(whole, rel=1e-4)


def test_what_is_not_there_is_refused(net, texts):
    with pytest.raises(ValueError, match="give one of zero, mean, resample"):
        causes.ablated(net, texts, WRITER, "nonsense")
    with pytest.raises(ValueError, match="give heads of one layer"):
        causes.writes(net, texts.tokens, [(0, 0), (1, 0)])
    with pytest.raises(ValueError, match="sides out of query, key, value"):
        causes.reading(net, 1, ["stream"], lambda stream: stream)
    with pytest.raises(ValueError, match="heads of earlier layers"):
        causes.cut(net, texts, READER, ["key"])
    with pytest.raises(ValueError, match=r"no head 0\.1"):
        causes.ablated(net, texts, [(0, 1)])
