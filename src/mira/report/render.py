"""The page from its parts. What comes from a corpus, a teacher or a file is text to the page, never markup.

Three walls: the templates escape everything (none of them marks data as safe); control and direction characters are
made visible before that; and the page's policy forbids scripts, requests and every style but its own.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mira.evaluation.audit.results import AuditResult
from mira.evaluation.pairs.results import PairsResult
from mira.grouping.groups import Group
from mira.report.actions import SHOWN, Action
from mira.report.behind import Disagreement, Line, Verdict
from mira.report.comparison import Comparison
from mira.report.discovered import Discovered
from mira.report.evaluation import Evaluation
from mira.report.examples import Near, SourceExamples
from mira.report.heatmap import HeatMap
from mira.report.overview import Overview
from mira.report.quality import Panel
from mira.report.spent import SpentRow
from mira.reviewing.results import ReviewResult
from mira.rubric.rubric import Rubric
from mira.selection.yardstick.figures import Kept

__all__ = ["Page", "environment", "render", "visible"]

UNKNOWN = "–"
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all controls but tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction
    "\u2028\u2029\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows."""

    overview: Overview
    panels: tuple[Panel, ...]
    heat_maps: tuple[HeatMap, ...]
    rubrics: tuple[Rubric, ...]
    groups: tuple[Group, ...]
    examples: tuple[SourceExamples, ...]
    comparison: Comparison | None = None
    evaluation: Evaluation | None = None
    actions: tuple[Action, ...] = ()
    spent: tuple[SpentRow, ...] = ()
    discovered: Mapping[str, Discovered] = field(default_factory=dict)
    shown: int = SHOWN
    lines: Mapping[tuple[str, str], tuple[Line, ...]] = field(default_factory=dict)
    disagreements: Mapping[tuple[str, str], tuple[Disagreement, ...]] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    kept: Kept | None = None
    pairs: PairsResult | None = None
    review: ReviewResult | None = None
    audit: AuditResult | None = None

    @property
    def near(self) -> Mapping[str, tuple[Near, ...]]:
        """Source -> the records nearest to its cutoff."""
        return {e.source.name: e.near for e in self.examples if e.near}


def render(page: Page) -> bytes:
    """Return the page as UTF-8."""
    templates = environment(PackageLoader("mira.report"))
    style = templates.loader.get_source(templates, "style.css")[0] if templates.loader else ""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = templates.get_template("page.html.j2")
    return template.render(page=page, style=Markup(style), style_hash=digest).encode()


def visible(value: Any) -> Any:
    """Return text with every control, direction mark and lone surrogate shown as a symbol; other values as they are.

    Line ends become line feeds. A right-to-left override in a record would otherwise reorder the page around it.
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub(_symbol, value.replace("\r\n", "\n").replace("\r", "\n"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u2039U+{code:04X}\u203a"


def environment(loader: BaseLoader) -> Environment:
    """Return templates that escape everything, with the filters that numbers are shown by."""
    templates = Environment(
        loader=loader,
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"count": _count, "short": _short, "percent": _percent, "figure": _figure, "words": _words}
    templates.filters |= {"spans": _spans, "points": _points}
    return templates


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _short(value: int) -> str:
    """Return 1801569 as "1.80M"."""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if value >= size:
            return f"{value / size:.2f}{letter}"
    return f"{value / 1000:.1f}K" if value >= 10_000 else f"{value:,}"


def _percent(share: float | None, digits: int = 1) -> str:
    return UNKNOWN if share is None else f"{share:.{digits}%}"


def _figure(value: float | None, digits: int = 2) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def _spans(text: str) -> list[tuple[bool, str]]:
    """Cut a sentence of mira's at its `code`: (whether it is code, text) in order. The template escapes each piece."""
    return [(i % 2 == 1, piece) for i, piece in enumerate(_CODE.split(text)) if piece]


def _points(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:+.1f} points".replace("-", "\u2212")


def _words(name: str) -> str:
    return name.replace("_", " ")
