"""The record of each discovery, from the manifest: how far clusters hold together and what they are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mira.discovery.clusters import ClusterRecord, DiscoveryRecord
from mira.grouping.groups import Group
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import from_plain

__all__ = ["Discovered", "discovered"]


@dataclass(frozen=True, slots=True)
class Discovered:
    """A group's discovery.

    Attributes:
        given: The group's rubric was given, so that the clusters are what its free judgments would have made.
        record: The record.
    """

    given: bool
    record: DiscoveryRecord

    def problems(self, cluster: ClusterRecord) -> str:
        """Return what is wrong with a cluster: "thin, unstable", or ""."""
        return ", ".join(cluster.problems(self.record.cohesion))


def discovered(run: RunFolder, groups: Sequence[Group], manifest: Mapping[str, Any]) -> dict[str, Discovered]:
    """Return group -> its discovery; groups without free judgments, or discovered by an earlier mira, are left out."""
    told = manifest.get("stages", {}).get("discover", {}).get("summary", {}).get("groups", {})
    return {
        group.name: Discovered(
            entry.get("from") == "given", from_plain(DiscoveryRecord, entry["clusters"], run.manifest)
        )
        for group in groups
        if "clusters" in (entry := told.get(group.name, {}))
    }
