"""Rules and what the token alone explains, on activity whose cause is known."""

import numpy as np
import pytest
import torch

from mechbook.language_model import lens
from mechbook.sae import rules
from mechbook.sae.rules import describe, f1, score_units, strongest, token_share

NAMES = [f"w{i}" for i in range(20)]
DRAW = torch.Generator().manual_seed(0)
TOKENS = torch.randint(0, 20, (40, 30), generator=DRAW)
SIZES = 0.5 + torch.rand(40, 30, generator=DRAW)
CLASSES = np.array([lens.KINDS.index("mark")] * 5 + [lens.KINDS.index("content word")] * 15)


def at(there):
    z = SIZES * there
    z[:, 0] = 0
    return z


def before(types):
    there = torch.zeros_like(TOKENS, dtype=torch.bool)
    there[:, 1:] = torch.isin(TOKENS[:, :-1], torch.tensor(types))
    return there


@pytest.mark.parametrize(
    ("z", "kind", "types"),
    [
        (at(TOKENS == 7), "token", {7}),
        (at(torch.isin(TOKENS, torch.tensor([7, 9]))), "token", {7, 9}),
        (at(before([3])), "after", {3}),
        (at(TOKENS < 5), "class", {0, 1, 2, 3, 4}),
    ],
)
def test_a_label_is_found_again(z, kind, types):
    rule = describe(z, TOKENS, NAMES, CLASSES)
    assert (rule.kind, set(rule.types)) == (kind, types)
    assert rule.f1 == pytest.approx(1)
    assert rule.good


def test_activity_by_chance_has_no_rule():
    chance = at(torch.rand(40, 30, generator=DRAW) < 0.03)
    rule = describe(chance, TOKENS, NAMES, CLASSES)
    assert not rule.good
    assert str(rule) == rules.NOTHING


def test_a_rule_is_scored_on_other_text():
    """Active at one token in the texts that make the rule, at another in those that judge it."""
    z = torch.zeros(40, 30)
    z[0::2] = at(TOKENS == 7)[0::2]
    z[1::2] = at(TOKENS == 9)[1::2]
    rule = describe(z, TOKENS, NAMES)
    assert rule.types == (7,)
    assert rule.f1 == 0


def test_f1_is_that_of_its_definition():
    values, told = torch.tensor([2.0, 1.0, 1.0, 0.0]), torch.tensor([True, False, False, True])
    assert f1(values, told) == pytest.approx(0.5)  # precision 1/2, covers 2 of 4
    assert f1(values, torch.zeros(4, dtype=torch.bool)) == 0


def test_a_lookup_of_the_token_is_explained_by_it():
    table = torch.rand(20, generator=DRAW)
    assert token_share(table[TOKENS], TOKENS) > 0.99
    assert token_share(at(before([3])), TOKENS) < 0.05


def test_the_share_is_that_of_a_loop():
    z = SIZES[:6, :5].clone()
    tokens = TOKENS[:6, :5] % 3
    error, inner = 0.0, z[:, 1:]
    for made, other in ((0, 1), (1, 0)):
        for row in range(other, 6, 2):
            for posn in range(1, 5):
                same = [float(z[r, p]) for r in range(made, 6, 2) for p in range(1, 5)
                        if tokens[r, p] == tokens[row, posn]]  # fmt: skip
                mean = (sum(same) + float(inner[made::2].mean())) / (len(same) + 1)
                error += (float(z[row, posn]) - mean) ** 2
    wanted = 1 - error / float((inner - inner.mean()).pow(2).sum())
    assert token_share(z, tokens) == pytest.approx(wanted, abs=1e-5)


def test_the_strongest_positions_are_kept():
    values = torch.randn(40, 30, 3, generator=DRAW)
    above = strongest(values, 0.01)
    assert (above > 0).sum((0, 1)).tolist() == [12, 12, 12]
    assert float(above[:, 0].abs().max()) == 0


def test_units_are_scored_and_silent_ones_left_out():
    values = torch.stack([at(TOKENS == 7), at(before([3])), torch.zeros(40, 30)], -1)
    found = score_units(values, TOKENS, NAMES, share=0.5)
    assert found.f1.tolist() == pytest.approx([1, 1])
    assert found.token_share[0] > 0.5 > found.token_share[1]
    assert found.ruled == 1


def test_a_rule_must_beat_everywhere():
    """Active at nine positions of ten: any frequent class does well, and is no rule."""
    often = at(torch.rand(40, 30, generator=DRAW) < 0.9)
    rule = describe(often, TOKENS, NAMES, CLASSES)
    assert rule.f1 > 0.5
    assert rule.always > 0.9
    assert not rule.good


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="same shape"):
        describe(SIZES, TOKENS[:, :5], NAMES)
    with pytest.raises(ValueError, match="never vary"):
        token_share(torch.zeros(40, 30), TOKENS)
    with pytest.raises(ValueError, match="same shape"):
        token_share(SIZES[:1], TOKENS[:1])
    with pytest.raises(ValueError, match="every unit is silent"):
        score_units(torch.zeros(40, 30, 2), TOKENS, NAMES)
