"""HTML for notebooks: escaped, short, and readable."""

from mira.html import block, paragraph, table


def test_text_is_escaped_and_cannot_turn_around() -> None:
    shown = block(paragraph("<img src=x>\u202e\x1b", strong=True), table(("<a>",), [("<script>",)]))
    assert "<img" not in shown and "<script" not in shown and "<a>" not in shown
    assert "\u202e" not in shown and "\x1b" not in shown
    assert "&lt;img src=x&gt;" in shown


def test_numbers_are_written_for_people_and_stand_to_the_right() -> None:
    shown = table(("name", "n"), [("ant", 1234567), ("bee", 0.256), ("cat", None), ("dog", "25%")])
    for number in ("1,234,567", "0.26", "–", "25%"):
        assert f"<td style='text-align:right'>{number}</td>" in shown
    assert "<td style='text-align:left'>ant</td>" in shown


def test_much_is_cut() -> None:
    shown = table(("n",), [(i,) for i in range(100)])
    assert shown.count("<tr>") == 31
    assert "and 70 more rows" in shown
    assert len(paragraph("x" * 10_000)) < 300
