"""The families: record formats, each with its prompt."""

from enum import StrEnum

__all__ = ["FamilyName"]


class FamilyName(StrEnum):
    """Record format and prompt family."""

    TEXT = "text"
    QA = "qa"
    QA_WITH_THINK = "qa_with_think"
    AGENT = "agent"
