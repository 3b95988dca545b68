import re

import pytest

from mira.report.examples import EXCERPT
from mira.report.render import visible
from mira.run_folder.files import read_json, write_json
from support.report_project import Project, project

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "</style></pre></details><svg/onload=alert(1)>",
    "<!-- --!> --> <![CDATA[ ]]> <?php ?>",
    "\" onmouseover=alert(1) x=\" ' onfocus=alert(1) autofocus x='",
    "{{ 7 * 7 }} {% raw %} {# #} &lt;b&gt; &#60;script&#62;",
    "\u202egnp.exe\u202c \u2066\u2069 \u200f \u061c \ufeff",
    "nul \x00 bell \x07 esc \x1b[31m del \x7f c1 \x9b",
    "line\u2028separator\u2029paragraph\u0085next\rreturn\x0bvertical\x0cform",
    "\ufffe \uffff \U000e0041 \U0001f469\u200d\U0001f4bb Zalgo e\u0301\u0301\u0301",
    "x" * 300_000,
    "<a href=javascript:alert(1)>" * 50,
    "]]></title><base href=//evil.example>",
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory):
    """The same project with plain and with hostile texts, where they are shown, and all that a teacher writes."""
    made = []
    for name, word in (("plain", "plain"), ("hostile", "</script><img src=x onerror=alert(1)>\u202e\"'&")):
        base = project(tmp_path_factory.mktemp(name), sources=["ant", "bee"])
        texts = {
            s: [(HOSTILE[i % len(HOSTILE)] if name == "hostile" else t) + f" end {s} {i}" for i, t in enumerate(own)]
            for s, own in base.texts.items()
        }
        own = Project(tmp_path_factory.mktemp(name), texts, base.scores, word=word, label_every=1)
        own.select(method="mira", scope="source", budget="50%")
        made.append(own.report())
    return made


def test_hostile_text_makes_no_element_attribute_or_comment(pages) -> None:
    plain, hostile = pages
    allowed = set(plain.tags)
    assert set(hostile.tags) <= allowed and not hostile.comments
    assert not {"img", "script", "iframe", "base", "object", "link", "form"} & set(hostile.tags)
    names = {(tag, name) for tag, name, _ in plain.attributes}
    assert {(tag, name) for tag, name, _ in hostile.attributes} <= names
    assert hostile.style == plain.style
    for tag in ("article", "pre", "details", "section", "table", "td", "button", "label"):
        assert hostile.tags.count(tag) == hostile.tags.count(f"/{tag}"), tag
        if tag not in ("pre", "article", "label", "details"):
            assert hostile.tags.count(tag) == plain.tags.count(tag), tag


def test_hostile_text_is_shown_as_it_is(pages) -> None:
    hostile = pages[1]
    assert "</script><img src=x onerror=alert(1)>" in hostile.text
    assert "<img" not in hostile.page and "<script" not in hostile.page


def test_no_control_or_direction_character_reaches_the_page(pages) -> None:
    for page in pages:
        found = set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\u2028\u2029"
                               "\ufeff\ufffe\uffff]", page.page))  # fmt: skip
        assert not found


def test_a_huge_line_is_clipped_and_said_so(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"])
    texts = {"ant": ["y" * 300_000 + str(i) for i in range(30)]}
    own = Project(tmp_path / "own", texts, made.scores)
    own.select(budget="50%")
    page = own.report()
    assert "y" * EXCERPT in page.page and "y" * (EXCERPT + 1) not in page.page
    assert "298,801 more characters" in page.text
    assert len(page.page) < 300_000


def test_visible() -> None:
    assert visible("a\x00b\tc\nd\r\ne\rf") == "a\u2400b\tc\nd\ne\nf"
    assert visible("\u202e") == "‹U+202E›" and visible("\x7f\x85\ud800") == "\u2421‹U+0085›‹U+D800›"
    family = "\U0001f469\u200d\U0001f4bb שלום café"
    assert visible(family) == family
    assert visible(3) == 3 and visible(None) is None


def test_every_part_of_a_record_is_shown_under_its_label() -> None:
    from mira.corpus.record import Part
    from mira.report.examples import _excerpts

    short = _excerpts((Part("question", "why?"), Part("answer", "because")))
    assert [(e.label, e.text, e.more) for e in short] == [("question", "why?", 0), ("answer", "because", 0)]
    long = _excerpts((Part("think", "t" * (EXCERPT + 5)), Part("answer", "a" * 7)))
    assert [(e.label, len(e.text), e.more) for e in long] == [("think", EXCERPT, 12)]


def test_code_in_notes_is_set_as_code_and_escaped(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"])
    made.select()
    note = "Run `mira <b>\u202e</b>` or ``, not `half <i>"
    write_json(made.run.thresholds, {**read_json(made.run.thresholds), "notes": [note]})
    page = made.report()
    assert "Run <code>mira &lt;b&gt;\u2039U+202E\u203a&lt;/b&gt;</code> or ``, not `half &lt;i&gt;</p>" in page.page
