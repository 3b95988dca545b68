"""The forms in which models write their thinking into the text itself: one table, for records and for replies.

A row gives the marker that opens thinking and the one that closes it, as regular expressions. Underscores may have
become spaces. To teach mira another form, add a row.
"""

import re
from typing import NamedTuple

__all__ = ["CLOSES", "FORMS", "OPENS", "ThinkingForm"]


class ThinkingForm(NamedTuple):
    """One form: the models that write it, what opens it, and what closes it."""

    models: str
    opens: str
    closes: str


_TAG = (
    r"(?:[\w.-]{1,20}:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|inner[ _]monologue)(?:[ _]\w{1,20})?"
)
_PIPED = r"(?:think(?:ing)?|thoughts?|reasoning)"

FORMS: tuple[ThinkingForm, ...] = (
    ThinkingForm("Qwen, DeepSeek, GLM, Seed, MiniMax, most others", rf"<{_TAG}>", rf"</{_TAG}>"),
    ThinkingForm("Mistral", r"\[(?:THINK|THINKING)\]", r"\[/(?:THINK|THINKING)\]"),
    ThinkingForm("Kimi", r"◁think▷", r"◁/think▷"),
    ThinkingForm(
        "gpt-oss", r"<\|channel\|>(?:analysis|commentary)\b", r"<\|channel\|>final<\|message\|>|assistantfinal"
    ),
    ThinkingForm("Gemma", r"<\|channel>thought", r"<channel\|>"),
    ThinkingForm("MedGemma", r"<unused94>", r"<unused95>"),
    ThinkingForm("Command", r"<\|START[ _]THINKING\|>", r"<\|END[ _]THINKING\|>"),
    ThinkingForm("OpenThinker", rf"<\|(?:begin|start)[ _](?:of[ _])?{_PIPED}\|>", rf"<\|end[ _](?:of[ _])?{_PIPED}\|>"),
    ThinkingForm("Granite", r"here is my thought process:", r"here is my response:"),
    ThinkingForm("Solar", r"<\|think\|>", r"<\|begin\|>assistant<\|content\|>"),
    ThinkingForm("Apertus", r"<\|inner[ _]prefix\|>", r"<\|inner[ _]suffix\|>"),
    ThinkingForm("tags between bars", rf"<\|{_PIPED}(?:[ _]start)?\|>", rf"<\|(?:/{_PIPED}|{_PIPED}[ _]end)\|>"),
)

OPENS = re.compile("|".join(form.opens for form in FORMS), re.IGNORECASE)
CLOSES = re.compile("|".join(form.closes for form in FORMS), re.IGNORECASE)
