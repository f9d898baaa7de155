import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import explore, training
from mechbook.residual import decomposition
from mechbook.residual.model import KINDS, Language, ModelConfig, build, favorites, run, sample

LANGUAGE = Language(n_words=12, shortest=3, longest=5, length=14)


@pytest.fixture(scope="module")
def seen():
    model = build(LANGUAGE, ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    return run(model, LANGUAGE, sample(LANGUAGE, 9, training.generator(3)))


@pytest.fixture(scope="module")
def parts(seen):
    return decomposition.components(seen.model, seen.cache)


def test_names_say_what_was_added_in_order(parts):
    layer = ["{}.0", "{}.1", "bias {}", "MLP {}"]
    layers = [name.format(index) for index in range(2) for name in layer]
    assert list(parts.names) == ["embedding", "positions", *layers]


def test_groups_hold_every_name_once(parts):
    groups = parts.groups()
    assert list(groups) == ["input", "layer 0", "layer 1"]
    assert tuple(name for names in groups.values() for name in names) == parts.names


def test_the_sum_is_the_final_stream(seen, parts):
    whole = decomposition.final_stream(seen.model, seen.cache)
    torch.testing.assert_close(parts.writes.sum(0), whole)
    assert decomposition.decomposition_error(parts, whole) < 1e-5


def test_any_component_left_out_breaks_the_sum(seen, parts):
    whole = decomposition.final_stream(seen.model, seen.cache)
    errors = [decomposition.decomposition_error(parts, whole, [name]) for name in parts.names]
    assert min(errors) > 1e-2


@given(posn=st.integers(1, 4), heads=st.integers(1, 4), d_head=st.integers(1, 4))
@settings(deadline=None)
def test_per_head_sum_is_concatenation(posn, heads, d_head):
    generator = torch.Generator().manual_seed(posn + 10 * heads + 100 * d_head)
    z = torch.randn(2, posn, heads, d_head, generator=generator)
    W_O = torch.randn(heads, d_head, 5, generator=generator)
    expected = torch.zeros(2, posn, 5)
    for head in range(heads):
        expected += z[:, :, head] @ W_O[head]
    torch.testing.assert_close(decomposition.head_writes(z, W_O).sum(2), expected)
    torch.testing.assert_close(decomposition.concatenated_write(z, W_O), expected)


def test_the_layers_own_write_needs_the_bias(seen):
    assert decomposition.heads_error(seen.model, seen.cache) < 1e-5
    assert decomposition.heads_error(seen.model, seen.cache, bias=False) > 0.1


def test_readout_is_the_models_own_end(seen):
    whole = decomposition.final_stream(seen.model, seen.cache)
    torch.testing.assert_close(decomposition.readout(seen.model).logits(whole), seen.logits)


def test_contributions_add_up_to_the_logits(seen, parts):
    end = decomposition.readout(seen.model)
    scale = end.scale(decomposition.final_stream(seen.model, seen.cache))
    logits = decomposition.direct_logits(parts, end, scale)
    assert decomposition.error(logits.sum(0), seen.logits) < 1e-4


def test_own_scales_do_not_add_up(seen, parts):
    end = decomposition.readout(seen.model)
    assert decomposition.error(end.logits(parts.writes).sum(0), seen.logits) > 0.1


def test_a_contribution_to_every_word_counts_as_none():
    logits = torch.full((3, 2, 4, 5), 7.0)
    word = torch.zeros(2, 4, dtype=torch.long)
    assert decomposition.of_word(logits, word).abs().max() == 0


def test_attribution_to_the_favorite_by_a_loop(seen, parts):
    table = decomposition.attribute(seen, training.generator(0))
    end = decomposition.readout(seen.model)
    scale = end.scale(decomposition.final_stream(seen.model, seen.cache))
    found = []
    for row, posn in seen.kinds[KINDS[0]].nonzero().tolist():
        logits = end.logits(parts.writes[5, row, posn], scale[row, posn])
        favorite = favorites(LANGUAGE)[seen.texts.tokens[row, posn]]
        found.append(float(logits[favorite] - logits.mean()))
    assert float(table.favorite[5, 0]) == pytest.approx(np.mean(found), abs=1e-5)


def test_leaving_all_components_out_leaves_nothing(seen, parts):
    logits = decomposition.logits_without(seen, parts.names)
    assert float(logits.abs().max()) < 1e-4


def test_head_scores_by_a_loop(seen):
    scores = decomposition.head_scores(seen)
    pattern = seen.cache["blocks.1.attn.hook_pattern"][:, 1]
    total, count = 0.0, 0
    for row, period in enumerate(seen.texts.period.tolist()):
        for t in range(period, pattern.shape[-1]):
            earlier = range(t + 1 - period, 0, -period)
            total += sum(float(pattern[row, t, k]) for k in earlier)
            count += bool(earlier)
    assert float(scores.induction[1, 1]) == pytest.approx(total / count, abs=1e-5)
    previous = [float(line[t, t - 1]) for line in pattern for t in range(1, len(line))]
    assert float(scores.previous[1, 1]) == pytest.approx(np.mean(previous), abs=1e-5)


def test_a_switchboard_fits_the_figure_and_its_rows_sum_to_the_logits(seen):
    answers = seen.texts.tokens[:, 1:]
    perfect = torch.nn.functional.one_hot(answers, LANGUAGE.n_words).float()
    board = decomposition.switchboard(
        type(seen)(**{**vars(seen), "logits": perfect}), each=1, earliest=1
    )
    alt = "Any sentence that states what the reader finds."
    data = explore.switchboard_bundle(**vars(board), name="residual_stream.test", alt=alt)
    assert len(data["examples"]) == len(KINDS)
    example = board.examples[0]
    logits = np.asarray(example.contributions).sum(0)
    posn = len(example.prompt) - 1
    row = int(example.title.split("text ")[1].rstrip(")"))
    expected = seen.logits[row, posn]
    np.testing.assert_allclose(logits, expected - expected.mean(), atol=1e-4)


def test_unknown_components_are_named(seen, parts):
    whole = decomposition.final_stream(seen.model, seen.cache)
    with pytest.raises(ValueError, match=r"9\.9.*embedding"):
        decomposition.decomposition_error(parts, whole, ["9.9"])
    with pytest.raises(ValueError, match=r"9\.9"):
        decomposition.logits_without(seen, ["9.9"])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="equal ones"):
        decomposition.error(torch.zeros(3, 1), torch.zeros(3))


def test_too_few_right_answers_are_said(seen):
    with pytest.raises(ValueError, match="need 99"):
        decomposition.switchboard(seen, each=99)


def test_a_random_write_of_the_same_length_changes_other_logits(seen):
    taken = decomposition.logits_without(seen, ["1.0"])
    random = decomposition.logits_without(seen, ["1.0"], training.generator(0))
    assert not torch.allclose(taken, random)
    # taken away twice with the same draw, it is the same vector
    torch.testing.assert_close(
        random, decomposition.logits_without(seen, ["1.0"], training.generator(0))
    )
