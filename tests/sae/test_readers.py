"""Autoencoders that ship: packed, unpacked, and refused when damaged or made for another model."""

import pytest
import torch

from mechbook import artifacts
from mechbook.artifacts import ArtifactError, Card
from mechbook.sae import readers
from mechbook.sae.readers import load, pack, unpack


def test_a_reader_survives_packing_but_for_rounding(reader):
    again = unpack(pack(reader), "topk")
    h = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(again.reconstruct(h), reader.reconstruct(h), atol=1e-2, rtol=0)
    assert (again.place, again.scale) == (reader.place, pytest.approx(reader.scale))


def test_reconstruction_is_code_times_directions_and_the_center(reader):
    h = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = reader.encode(h) @ reader.directions + reader.sae.b_dec / reader.scale
        torch.testing.assert_close(reader.reconstruct(h), wanted)


@pytest.mark.parametrize("damage", ["missing", "shape", "nan"])
def test_what_is_damaged_is_refused(reader, damage):
    tensors = pack(reader)
    if damage == "missing":
        del tensors["b_enc"]
    elif damage == "shape":
        tensors["W_dec"] = tensors["W_dec"][:3]
    else:
        tensors["W_dec"][0, 0] = torch.nan
    with pytest.raises(ArtifactError, match=r"no whole topk autoencoder.*makes it again"):
        unpack(tensors, "topk")


def stored(folder, reader, made_for):
    card = Card(
        made_by="x:y", about="a", command="c", seeds=[0], seconds=0.0, inputs={"model": made_for}
    )
    tensors = {f"topk/{name}": t for name, t in pack(reader).items()}
    artifacts.save_tensors(readers.NAME, tensors, card=card, data=folder)


@pytest.fixture
def model_there(monkeypatch):
    monkeypatch.setattr(artifacts, "checksum", lambda name, data=None: "sum of the model")


@pytest.mark.usefixtures("model_there")
def test_an_autoencoder_is_read_from_its_file(tmp_path, reader):
    stored(tmp_path, reader, "sum of the model")
    assert load(data=tmp_path).sae.config.k == 3


@pytest.mark.usefixtures("model_there")
def test_an_autoencoder_of_another_model_is_refused(tmp_path, reader):
    stored(tmp_path, reader, "sum of another")
    with pytest.raises(ArtifactError, match="was not made for the language-model"):
        load(data=tmp_path)


@pytest.mark.usefixtures("model_there")
def test_a_changed_file_is_refused(tmp_path, reader):
    stored(tmp_path, reader, "sum of the model")
    file = tmp_path / "weights" / f"{readers.NAME}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError):
        load(data=tmp_path)


def test_another_variant_does_not_ship(tmp_path):
    with pytest.raises(ValueError, match="ships topk and relu"):
        load("gated", data=tmp_path)
