"""Cards as HTML: complete, escaped, and readable without color."""

import re

import pytest

from mechbook.sae.cards import card_html, example_html, mark_css, summary
from mechbook.sae.dashboard import Card, Example

EXAMPLE = Example(("<b>", "##s", "calm"), (0.0, 1.0, 2.0), 2)
CARD = Card(
    7, 0.013, 2.0, (0.0, 1.0, 2.0), (4, 1), {"strongest": (EXAMPLE,), "weak": ()}, (("sea", 1.5),),
    (("</code>", -1.0),), ((3, 0.5),), (), "at “calm”", 0.8, 0.9,
)  # fmt: skip


def test_what_is_active_is_marked_and_has_its_number_as_text():
    found = example_html(EXAMPLE, 2.0)
    assert found.count("<mark") == 2
    assert 'title="1.0"' in found
    assert found.endswith('</mark><sub class="mb-size">2.0</sub>')


def test_tokens_are_escaped_and_pieces_joined():
    found = example_html(EXAMPLE, 2.0)
    assert found.startswith("&lt;b&gt;<mark")
    assert "##" not in found


def test_marks_grow_with_activity_and_stay_readable():
    steps = re.findall(r'class="mb-a(\d)"', example_html(EXAMPLE, 2.0))
    assert steps == ["4", "9"]
    opacities = [float(o) for o in re.findall(r"rgba\([^)]*,([\d.]+)\)", mark_css())]
    assert len(opacities) == 9
    assert opacities == sorted(opacities)
    assert opacities[-1] <= 0.45


def test_a_card_says_all_it_knows():
    found = card_html(CARD)
    for part in ("<h3>Latent 7</h3>", "at “calm”", "F1 0.80", "1.30%", "sea</code> +1.5",
                 "&lt;/code&gt;</code> -1.0", "3 (0.50)", "none", 'aria-label="Histogram'):  # fmt: skip
        assert part in found
    assert found.count("<section") == found.count("</section>") == 1
    assert "weak" not in found


def test_a_line_names_rule_density_and_tokens():
    assert summary(CARD) == "at “calm”; active at 1.30% of the positions; speaks for “sea”"


def test_silence_is_no_example():
    with pytest.raises(ValueError, match="above 0"):
        example_html(EXAMPLE, 0.0)
