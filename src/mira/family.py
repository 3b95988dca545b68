"""The names of mira's own families; they are described in `mira.corpus.families`."""

from enum import StrEnum

__all__ = ["FamilyName"]


class FamilyName(StrEnum):
    """Record format and prompt family. Installed packages add others, which are plain strings."""

    TEXT = "text"
    QA = "qa"
    QA_WITH_THINK = "qa_with_think"
    AGENT = "agent"
