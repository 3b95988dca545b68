"""Families: how a record's fields become the parts that a judge reads.

====================  ==================================  ===========================================
family                required fields                     parts
====================  ==================================  ===========================================
text                  text                                one, without a label
qa                    question, answer                    Question, Answer
qa_with_think         question, think, answer             Question, Thinking, Answer
agent                 messages (optional: tools)          Tools, then one a message: "[0] user", ...
====================  ==================================  ===========================================

A field is found under its own name, or under the name that the source's `fields` maps it to. A dot goes into nested
objects and a number into lists (`meta.body`, `turns.0.content`); a key that itself holds the dot wins. A null counts
as missing. Strings must be strings: a number or a list in their place is a wrong type, never converted.

`qa_with_think` also accepts a missing or blank `think` when the answer starts with `<think>...</think>`, or with the
thinking and `</think>`.
`messages` is a list in the manner of OpenAI's chat API, or that list as a JSON string (columns of Parquet often are):
`role`; `content` as a string, null, or a list of content parts; `tool_calls` (function name and arguments, as objects
or JSON text); `name` and `tool_call_id` of tool replies; `reasoning_content` where a model left its thinking.
Parts of a message that are not text (images, audio) are shown as "[image_url]".
Tools and arguments of calls that are nested deeper than 100 levels are a wrong type.
"""

from collections.abc import Mapping
from typing import Any

from mira.corpus.families.family import Family, Fields, PartFeatures, Spoil, find_family, split_group
from mira.corpus.record import Part
from mira.corpus.values import FieldProblem, look_up, parse_json, parse_slowly

__all__ = [
    "Family",
    "FieldProblem",
    "Fields",
    "PartFeatures",
    "Spoil",
    "find_family",
    "look_up",
    "parse_json",
    "parse_slowly",
    "render",
    "split_group",
]


def render(
    family: str, value: Mapping[str, Any], fields: Mapping[str, str], left_out: list[str] | None = None
) -> tuple[Part, ...]:
    """Turn one object into parts.

    Args:
        family: Name of its family.
        value: The parsed object.
        fields: Mapping of mira's field names to the user's.
        left_out: Takes the type of each content part of which there is only a placeholder.

    Returns:
        The parts, never empty, each required one not blank.

    Raises:
        FieldProblem: A required field is missing, blank, or of the wrong type.
    """
    return find_family(family).render(Fields(value, fields, left_out if left_out is not None else []))
