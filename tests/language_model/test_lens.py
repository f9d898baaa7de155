import numpy as np
import pytest
import torch

from mechbook.language_model import lens, score
from mechbook.language_model.model import parameters
from mechbook.language_model.tokenizer import END

LABELS = ("embedding", "attention 0", "MLP 0", "attention 1", "MLP 1")


@pytest.fixture
def model(tiny):
    """The untrained model with larger writes and a gain, so that no part is without effect."""
    with torch.no_grad():
        for name, weight in parameters(tiny).items():
            if name.startswith("layers") and weight.ndim == 2:
                weight.mul_(3)
        tiny.ln_final.weight.copy_(torch.linspace(0.5, 2, 16))
    return tiny


@pytest.fixture
def windows(tokenizer):
    drawn = torch.randint(1, tokenizer.get_vocab_size(), (5, 12), generator=_seeded())
    return torch.cat([torch.full((5, 1), tokenizer.token_to_id(END)), drawn], 1)


def _seeded():
    return torch.Generator().manual_seed(0)


# --- the lens ---------------------------------------------------------------------------------


def test_depths_go_from_the_embedding_to_the_end(model, windows):
    read, seen = windows[:, :-1], {}
    model.run_with_hooks(
        read, fwd_hooks=[("ln_final.hook_in", lambda value, hook: seen.update(last=value))]
    )
    depths = lens.streams(model, read)
    assert lens.labels(model) == LABELS
    torch.testing.assert_close(depths[0], model.W_E[read].detach())
    torch.testing.assert_close(depths[-1], seen["last"].detach())


def test_each_step_of_depth_is_one_write(model, windows):
    depths = lens.streams(model, windows[:, :-1])
    _, cache = model.run_with_cache(windows[:, :-1])
    writes = torch.stack([cache[name] for name in lens.write_names(model)])
    torch.testing.assert_close(depths.diff(dim=0), writes)


def test_the_last_depth_is_the_model_itself(model, windows):
    found = lens.lens_loss(model, windows)
    torch.testing.assert_close(found.loss[-1], score.token_losses(model, windows))
    best = model(windows[:, :-1]).argmax(-1)
    assert torch.equal(found.right[-1], best == windows[:, 1:])
    assert float(found.repeats[-1]) == pytest.approx(
        float((best == windows[:, :-1]).float().mean())
    )


def test_the_embedding_depth_by_hand(model, windows):
    found = lens.lens_loss(model, windows)
    W_E, gain = model.W_E.detach().numpy(), model.ln_final.weight.detach().numpy()
    for row, posn in ((0, 0), (2, 7), (4, 11)):
        stream = W_E[windows[row, posn]]
        logits = W_E @ (gain * stream / np.sqrt((stream**2).mean() + model.cfg.eps))
        loss = np.log(np.exp(logits).sum()) - logits[windows[row, posn + 1]]
        assert float(found.loss[0, row, posn]) == pytest.approx(loss, abs=1e-4)


def test_an_embedding_of_unit_vectors_reads_itself_back(tiny, windows):
    with torch.no_grad():
        tiny.W_E.div_(tiny.W_E.norm(dim=1, keepdim=True))
    assert float(lens.lens_loss(tiny, windows).repeats[0]) == 1


def test_the_size_of_a_part_makes_no_difference(model, windows):
    whole, cut = (lens.lens_loss(model, windows, at_once) for at_once in (5, 2))
    torch.testing.assert_close(whole.loss, cut.loss)
    torch.testing.assert_close(whole.repeats, cut.repeats)
    skipped = [lens.skip_losses(model, windows, at_once) for at_once in (5, 2)]
    torch.testing.assert_close(*skipped)


# --- kinds ------------------------------------------------------------------------------------


def test_types_are_sorted_as_a_reader_would(tokenizer):
    sorted_types = lens.kinds(tokenizer)
    kind = {
        tokenizer.id_to_token(i): sorted_types.names[k] for i, k in enumerate(sorted_types.of_type)
    }
    wanted = {
        "mark": (END, "¶", ".", "“", "’", "—", "[", "°"),
        "piece of a word": ("<0x41>", "##z", "12", "1914", "##o"),
        "function word": ("the", "The", "I", "his", "to", "don", "'t", "was", "Whom"),
        "name or capitalized": ("London", "Monday", "Paris", "June"),
        "content word": ("king", "walked", "zebra", "seven", "hill"),
    }
    for name, tokens in wanted.items():
        found = {token: kind[token] for token in tokens if token in kind}
        assert len(found) >= 3
        assert set(found.values()) == {name}


def test_kinds_are_exclusive_and_exhaustive(tokenizer, model, windows):
    sorted_types = lens.kinds(tokenizer)
    assert len(sorted_types.of_type) == tokenizer.get_vocab_size()
    assert set(sorted_types.of_type.tolist()) == set(range(len(lens.KINDS)))
    table = lens.by_kind(lens.lens_loss(model, windows), windows, sorted_types)
    assert table.kinds == ("all", *lens.KINDS)
    assert int(table.count[0]) == int(table.count[1:].sum()) == windows[:, 1:].numel()
    mixed = (table.loss[:, 1:] * table.count[1:]).nansum(1) / table.count[0]
    torch.testing.assert_close(mixed, table.loss[:, 0])


def test_by_kind_is_a_loop_over_positions(model, tokenizer, windows):
    found, sorted_types = lens.lens_loss(model, windows), lens.kinds(tokenizer)
    table = lens.by_kind(found, windows, sorted_types)
    for kind in range(len(lens.KINDS)):
        places = [
            (row, posn)
            for row in range(5)
            for posn in range(12)
            if sorted_types.of_type[windows[row, posn + 1]] == kind
        ]
        assert int(table.count[kind + 1]) == len(places)
        if places:
            loss = np.mean([found.loss[3, row, posn] for row, posn in places])
            right = np.mean([found.right[3, row, posn] for row, posn in places])
            assert float(table.loss[3, kind + 1]) == pytest.approx(loss, rel=1e-5)
            assert float(table.accuracy[3, kind + 1]) == pytest.approx(right)


def test_improvements_sum_to_the_whole(model, tokenizer, windows):
    table = lens.by_kind(lens.lens_loss(model, windows), windows, lens.kinds(tokenizer))
    gained = lens.improvement(table)
    assert gained.shape == (len(LABELS) - 1, len(lens.KINDS) + 1)
    torch.testing.assert_close(gained.sum(0), table.loss[0] - table.loss[-1], equal_nan=True)


def test_windows_of_another_lens_are_refused(model, tokenizer, windows):
    found = lens.lens_loss(model, windows)
    with pytest.raises(ValueError, match="windows that the lens was made from"):
        lens.by_kind(found, windows[:, :-1], lens.kinds(tokenizer))


# --- leaving a sublayer out -------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_sublayer_that_writes_nothing_costs_nothing(model, windows, place):
    part = ("attn.o", "mlp.fc_out")[place % 2]
    for kind in ("weight", "bias"):
        parameters(model)[f"layers.{place // 2}.{part}.{kind}"].zero_()
    extra = lens.skip_losses(model, windows).abs().amax((1, 2))
    assert float(extra[place]) == 0
    assert all(float(cost) > 1e-3 for other, cost in enumerate(extra) if other != place)


def test_the_last_sublayer_replaced_by_hand(model, windows):
    _, cache = model.run_with_cache(windows[:, :-1])
    mean = cache["blocks.1.hook_mlp_out"].mean((0, 1))
    torch.testing.assert_close(lens.mean_writes(model, windows)[-1], mean)
    stream = cache["blocks.1.hook_resid_mid"] + mean
    scale = (stream.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    logits = (stream / scale * model.ln_final.weight) @ model.W_E.T
    log_chance = logits.log_softmax(-1).gather(-1, windows[:, 1:, None])[..., 0]
    extra = -log_chance.detach() - score.token_losses(model, windows)
    torch.testing.assert_close(lens.skip_losses(model, windows)[-1], extra, atol=1e-5, rtol=1e-4)
    assert float(lens.skip_cost(model, windows)[-1]) == pytest.approx(float(extra.mean()), abs=1e-5)
    assert float(extra.abs().max()) > 0.01


def test_leaving_out_leaves_no_hook_behind(model, windows):
    before = score.token_losses(model, windows)
    lens.skip_cost(model, windows)
    assert torch.equal(score.token_losses(model, windows), before)


# --- one text, and the table ------------------------------------------------------------------


def test_a_grid_shows_the_text_it_was_asked_for(model):
    text = "The king walked to Paris on Monday."
    grid = lens.guesses(model, text, [0, 2, 5])
    tokens = score.read(model, text).tokens
    assert grid.depths == LABELS
    assert grid.read == (END, tokens[1], tokens[4])
    assert grid.answers == (tokens[0], tokens[2], tokens[5])
    expected = torch.exp(-score.read(model, text).loss)[[0, 2, 5]]
    torch.testing.assert_close(grid.chance[-1], expected)


def test_a_grid_gives_the_best_guess_and_its_probability(model):
    text = "The king walked to Paris on Monday."
    grid, tokenizer = lens.guesses(model, text), model.tokenizer.backend_tokenizer
    ids = [model.tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False).ids]
    best = model(torch.tensor([ids[:-1]]))[0].softmax(-1).max(-1)
    assert grid.guesses[-1] == tuple(tokenizer.id_to_token(int(i)) for i in best.indices)
    torch.testing.assert_close(grid.confidence[-1], best.values.detach())
    assert bool((grid.confidence >= grid.chance).all())


@pytest.mark.parametrize("positions", [[], [-1], [0, 99]])
def test_positions_outside_the_text_are_refused(model, positions):
    with pytest.raises(ValueError, match="the text has 0 to 2"):
        lens.guesses(model, "The king walked", positions)


@pytest.mark.parametrize("text", ["", "king " * 17])
def test_a_text_that_the_model_cannot_read_at_once_is_refused(model, text):
    with pytest.raises(ValueError, match="the model reads 1 to 16"):
        lens.guesses(model, text)


def test_rows_hold_what_was_measured(model, windows):
    rows = lens.evaluation_rows(model, windows, "untrained")
    found = {(row["quantity"], row["place"], row["kind"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    assert {tuple(row) for row in rows} == {("model", "quantity", "place", "kind", "value")}
    assert {row["model"] for row in rows} == {"untrained"}
    own = float(score.token_losses(model, windows).mean())
    assert found["lens loss", "MLP 1", "all"] == pytest.approx(own, rel=1e-5)
    skipped = lens.skip_cost(model, windows).tolist()
    assert [found["skip cost", place, "all"] for place in LABELS[1:]] == pytest.approx(skipped)
    repeats = lens.lens_loss(model, windows).repeats.tolist()
    assert [found["lens repeats", place, "all"] for place in LABELS] == pytest.approx(repeats)


def test_a_kind_without_a_position_has_no_row(model, tokenizer):
    windows = torch.tensor([[tokenizer.token_to_id(t) for t in (END, "The", "king", "to")]])
    rows = lens.evaluation_rows(model, windows, "untrained")
    assert {row["kind"] for row in rows} == {"all", "function word", "content word"}
    assert all(np.isfinite(row["value"]) for row in rows)
