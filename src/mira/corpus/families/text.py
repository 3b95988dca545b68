"""Family `text`: one field, one part without a label."""

from mira.corpus.families.family import Family, Fields
from mira.corpus.record import Part

__all__ = ["FAMILY"]


def _text(fields: Fields) -> tuple[Part, ...]:
    return (Part("", fields.text("text")),)


FAMILY = Family(name="text", required=("text",), records="a code-task documentation corpus", render=_text)
