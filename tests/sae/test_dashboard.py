"""What a latent's page shows, on a small model: histogram, examples, logits, neighbors, cards."""

import json
from dataclasses import asdict

import pytest
import torch

from mechbook.artifacts import ArtifactError
from mechbook.sae import dashboard, reading
from mechbook.sae.dashboard import card_from, cards, examples, histogram, nearest, overlaps

DRAW = torch.Generator().manual_seed(0)
TOKENS = torch.randint(0, 20, (30, 25), generator=DRAW)
Z = torch.rand(30, 25, generator=DRAW) * (torch.rand(30, 25, generator=DRAW) < 0.3)
Z[:, 0] = 0
NAMES = [f"w{i}" for i in range(20)]


def test_the_histogram_counts_every_active_position():
    edges, counts = histogram(Z, 10)
    assert sum(counts) == int((Z > 0).sum())
    assert edges[-1] == pytest.approx(float(Z.max()))
    with pytest.raises(ValueError, match="silent"):
        histogram(torch.zeros(2, 3))


def test_the_strongest_examples_are_the_strongest_of_their_texts_in_order():
    shown = examples(Z, TOKENS, NAMES, count=5, around=3)["strongest"]
    peaks = [e.values[e.peak] for e in shown]
    wanted = sorted((float(row.max()) for row in Z), reverse=True)[:5]
    assert peaks == pytest.approx(wanted, abs=0.006)
    for e in shown:
        assert len(e.tokens) == len(e.values) <= 7


def test_examples_of_a_band_lie_in_it():
    active = Z[Z > 0]
    for name, (low, high) in dashboard.BANDS.items():
        for e in examples(Z, TOKENS, NAMES, count=4)[name]:
            share = float((active <= e.values[e.peak] + 0.006).float().mean())
            assert low - 0.05 <= share <= (high if low < 1 else 1) + 0.05 or low == 1


def test_a_piece_is_the_text_around_its_peak():
    for e in examples(Z, TOKENS, NAMES, count=3, around=4)["middle"]:
        text = next(i for i, row in enumerate(TOKENS.tolist())
                    if " ".join(e.tokens) in " ".join(NAMES[t] for t in row))  # fmt: skip
        assert float((Z[text] - e.values[e.peak]).abs().min()) < 0.006


def test_the_nearest_direction_is_the_nearest():
    rows = torch.eye(4) + 0.1
    rows[3] = rows[0] + 0.05 * rows[1]
    assert nearest(rows, 0, 2)[0][0] == 3


def test_activity_is_the_code_of_the_cached_activations(small_model, reader, texts):
    with torch.no_grad():
        _, cache = small_model.run_with_cache(texts)
        wanted = reader.encode(cache[reader.place])
    wanted[:, 0] = 0
    torch.testing.assert_close(reading.activity(small_model, reader, texts, at_once=3), wanted)
    some = reading.activity(small_model, reader, texts, [5, 2])
    torch.testing.assert_close(some, wanted[..., [5, 2]])


def test_overlap_is_jaccard(small_model, reader, texts):
    active = (reading.activity(small_model, reader, texts) > 0).flatten(0, 1)
    found = overlaps(small_model, reader, texts, [1, 4], at_once=3)
    for row, i in zip(found, (1, 4), strict=True):
        for j in range(24):
            either = int((active[:, i] | active[:, j]).sum())
            both = int((active[:, i] & active[:, j]).sum())
            assert float(row[j]) == pytest.approx(both / either if either else 0)


def test_promoted_tokens_are_those_of_the_norm_and_the_unembedding(small_model, reader):
    direction = reader.directions[3]
    names = reading.names_of(small_model)
    up, down = dashboard.promoted(small_model, direction, names, 3)
    logits = direction @ small_model.W_U.detach()  # the gains of an untrained norm are one
    order = logits.argsort(descending=True).tolist()
    assert [w for w, _ in up] == [names[i] for i in order[:3]]
    assert [w for w, _ in down] == [names[i] for i in order[::-1][:3]]


def test_cards_survive_json_and_damage_is_refused(small_model, reader, texts):
    made = cards(small_model, reader, texts, range(24), count=2)
    assert 0 < len(made) <= 24
    stored = json.loads(json.dumps(asdict(made[0])))
    assert card_from(stored) == made[0]
    del stored["edges"]
    with pytest.raises(ArtifactError, match="no whole card"):
        card_from(stored)


def test_latents_are_drawn_once_each_and_by_seed(reader):
    assert len(set(reading.drawn(reader, 10))) == 10
    assert reading.drawn(reader, 10, 0) != reading.drawn(reader, 10, 1)


def test_bad_input_is_refused(small_model, reader, texts):
    with pytest.raises(ValueError, match="latent 24 is not there; give numbers from 0 to 23"):
        reading.activity(small_model, reader, texts, [24])
    with pytest.raises(ValueError, match="the text is empty"):
        reading.read_text(small_model, "  ")
    with pytest.raises(ValueError, match="count is 0"):
        dashboard.make_dashboard(0)


def test_a_readers_text_begins_with_the_mark_and_is_cut(small_model):
    tokens = reading.read_text(small_model, "The sea was calm. " * 20)
    assert tokens.shape == (1, small_model.cfg.n_ctx)
    assert int(tokens[0, 0]) == small_model.tokenizer.bos_token_id
