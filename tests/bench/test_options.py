"""Options are shown in one way, and a letter is read strictly: what cannot be read is unscored."""

from __future__ import annotations

import pytest

from personalagent.bench.options import parse_letter, render_options


def test_options_are_shown_with_their_letters() -> None:
    shown = render_options(("A ferry\nat noon", "The train over the bridge"))
    assert "\nA. A ferry at noon\nB. The train over the bridge\n" in shown
    assert shown.endswith("Reply with the letter of one option and nothing else.")


@pytest.mark.parametrize(
    "text",
    ["<choice>B</choice>", "<choice> b </choice>", "I take <choice>B</choice>.", "<choice>B", "B", " (B) ", "**B**", "B.", "B)",
     "B. The train over the bridge", "<choice>B. </choice>", "<choice>B</choice> <choice>B</choice>"],
)  # fmt: skip
def test_a_letter_is_read(text: str) -> None:
    assert parse_letter(text, 4) == 1


@pytest.mark.parametrize(
    "text",
    ["", "A train would do.", "The train", "E", "<choice>E</choice>", "<choice>A/B/C/D</choice>", "<choice>A</choice><choice>B</choice>",
     "Both A and B", "<choice></choice>", "b", "I choose B", "Because of that, C.", "<choice>The train</choice>"],
)  # fmt: skip
def test_what_is_no_letter_is_not_guessed(text: str) -> None:
    assert parse_letter(text, 4) is None
