"""Units of all kinds, scored in one way."""

import torch

from mechbook.sae import beyond
from mechbook.sae.rules import Scores


def test_every_kind_has_its_units(small_model, reader, texts):
    found = dict(beyond.units(small_model, {"topk": reader}, texts, count=6))
    kinds = ["topk", beyond.PRINCIPAL, beyond.COORDINATES, beyond.RANDOM, beyond.NEURONS]
    assert list(found) == kinds
    for values in found.values():
        assert values.shape == (8, 9, 6)


def test_principal_components_are_uncorrelated_and_neurons_are_coordinates(
    small_model, reader, texts
):
    found = dict(beyond.units(small_model, {"topk": reader}, texts, count=16))
    rows = found[beyond.PRINCIPAL][:, 1:].flatten(0, 1)
    table = rows.T @ rows
    off = table - torch.diag(table.diagonal())
    assert float(off.abs().max()) < 1e-3 * float(table.max())
    h = beyond.streams(small_model, texts, reader.place)
    h = h - h[:, 1:].flatten(0, 1).mean(0)
    same = (found[beyond.COORDINATES][..., None, :] - h[..., :, None]).abs().amax((0, 1))
    assert bool((same.min(0).values < 1e-5).all())


def test_a_summary_has_quartiles_in_order():
    scored = Scores(
        torch.tensor([0.1, 0.5, 0.9]),
        torch.tensor([0.2, 0.6, 0.7]),
        torch.tensor([False, True, True]),
    )
    told = beyond.summary({"x": scored})["x"]
    assert (
        told["token share, lower quartile"]
        < told["token share"]
        < told["token share, upper quartile"]
    )
    assert round(told["ruled"], 3) == 0.667
