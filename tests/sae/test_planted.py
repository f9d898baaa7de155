"""Planted features: sizes where the label says, and rules judged by the labels."""

import numpy as np
import pytest
import torch

from mechbook.language_model import lens
from mechbook.sae import planted
from mechbook.sae.rules import Rule
from mechbook.sae.training import TrainingConfig

TOKENS = torch.randint(0, 20, (60, 30), generator=torch.Generator().manual_seed(0))
CLASSES = np.array([lens.KINDS.index("mark")] * 5 + [lens.KINDS.index("content word")] * 15)


@pytest.fixture(scope="module")
def features():
    return planted.plant(TOKENS, CLASSES, each=2)


def test_features_are_where_their_labels_say(features):
    for i, (kind, types) in enumerate(zip(features.kinds, features.types, strict=True)):
        there = features.x[:, 1:, i] > 0
        asked = TOKENS[:, :-1] if kind == "after" else TOKENS[:, 1:]
        if kind != "chance":
            assert torch.equal(there, torch.isin(asked, torch.tensor(types)))
        assert float(features.x[:, 0].abs().max()) == 0
    assert sorted(set(features.kinds)) == ["after", "chance", "class", "token"]


def test_right_is_the_same_kind_and_the_same_tokens(features):
    place = features.kinds.index("after")
    types = features.types[place]
    assert features.is_right(place, Rule("after", types, "", 0.9))
    assert not features.is_right(place, Rule("token", types, "", 0.9))
    assert not features.is_right(place, Rule("after", types, "", 0.2))
    chance = features.kinds.index("chance")
    assert features.is_right(chance, Rule("token", (1,), "", 0.2))
    assert not features.is_right(chance, Rule("token", (1,), "", 0.7))


def test_what_is_taken_apart_is_named_and_what_is_dealt_out_is_not(features):
    how = TrainingConfig(steps=400, learning_rate=5e-3, price_warm_up=50, measure_every=400)
    names = [f"w{i}" for i in range(20)]
    found = planted.check(features, TOKENS, names, CLASSES, d_in=12, how=how)
    labelled = [i for i, kind in enumerate(features.kinds) if kind != "chance"]
    assert np.mean([found.right[i] for i in labelled if found.found[i]]) > 0.9
    assert not any(found.shuffled[i] for i in labelled)
