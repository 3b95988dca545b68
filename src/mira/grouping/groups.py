"""Sources, not records, are clustered: one mean embedding a source, KMeans within each family."""

from dataclasses import dataclass

from mira.config.settings import GroupSettings
from mira.errors import RunError
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder

__all__ = ["Group", "known_groups", "load_groups"]


@dataclass(frozen=True, slots=True)
class Group:
    """Sources of one family that share a rubric.

    Attributes:
        name: "<family>_group_<X>".
        family: Name of their family.
        sources: Their names, in the order of the configuration.
        cosines: (source, source, cosine of their mean embeddings), most similar first.
    """

    name: str
    family: str
    sources: tuple[str, ...]
    cosines: tuple[tuple[str, str, float], ...] = ()


def load_groups(run: RunFolder) -> list[Group]:
    """Read groups.json.

    Raises:
        RunError: The stage has not run.
    """
    try:
        found = read_json(run.groups)["groups"]
    except FileNotFoundError:
        raise RunError(f"{run.groups}: there are no groups yet", "Run: mira group CONFIG") from None
    return [
        Group(g["name"], g["family"], tuple(g["sources"]), tuple((a, b, c) for a, b, c in g["cosines"])) for g in found
    ]


def known_groups(settings: GroupSettings, run: RunFolder) -> dict[str, str]:
    """Return source -> group, as far as groups are given or clustered already."""
    given = {source: group for group, sources in settings.given.items() for source in sources}
    clustered = load_groups(run) if run.groups.is_file() else []
    found = {source: group.name for group in clustered for source in group.sources}
    return found | given
