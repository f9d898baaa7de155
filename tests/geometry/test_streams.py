import pytest
import torch
from tests.geometry.test_bridge import save

from mechbook.geometry import streams

WORDS = ["<end>", "It", "was", "in", "at", "the", "end", "of", "May", "June", "New", "York"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from mechbook import pretrained

    return pretrained.load(str(save(tmp_path_factory.mktemp("words"), WORDS)))


def test_a_mean_over_texts_is_the_mean_of_the_last_streams(model):
    found = streams.in_texts(model, ["May", "June"], ["It was in {}", "at the end of {}"])
    rows = [[0, 1, 2, 3, 9], [0, 4, 5, 6, 7, 9]]  # the mark that begins, and June
    for depth in range(3):
        name = streams.hook_name(model, depth)
        last = [model.run_with_cache(torch.tensor([r]))[1][name][0, -1] for r in rows]
        assert torch.allclose(found[depth, 1], (last[0] + last[1]) / 2, atol=1e-5)


def test_texts_shipped_end_with_the_word_and_name_no_season():
    for texts in streams.TEXTS.values():
        assert all(text.endswith("{}") and text.count("{}") == 1 for text in texts)
        assert not any(
            s in t for t in texts for s in ("spring", "summer", "autumn", "winter", "cold")
        )


def test_bad_input_is_refused(model):
    with pytest.raises(ValueError, match=r"not one token after 'It was in \{\}': New York"):
        streams.in_texts(model, ["May", "New York"], ["It was in {}"])
    with pytest.raises(ValueError, match="must end with"):
        streams.in_texts(model, ["May"], ["in {} it was"])
    with pytest.raises(ValueError, match="depth is 3"):
        streams.hook_name(model, 3)
    with pytest.raises(ValueError, match="a position is outside"):
        streams.read(model, torch.zeros(1, 3, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="reads 1 to 16"):
        streams.read(model, torch.zeros(1, 17, dtype=torch.long))
