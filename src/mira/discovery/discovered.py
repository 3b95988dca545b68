"""A group's discovered rubric: clustered from its judgment points, or kept where they are the same as before."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from mira.config.settings import DiscoverSettings
from mira.discovery.anchors import Clustering, cluster_points, embed_points
from mira.discovery.clusters import discovery_record
from mira.embedding import Embedder
from mira.errors import InputError
from mira.rubric.points import JudgmentPoint
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_name
from mira.run_folder.files import hash_file, hash_json, read_sealed, write_parquet, write_sealed
from mira.run_folder.paths import RunFolder

__all__ = ["asked_hash", "discovered_rubric", "discovery_state", "discovery_states", "would_be_discovered"]

_VERSION = 1  # raised when the same points would give another rubric


def discovered_rubric(
    settings: DiscoverSettings,
    seed: int,
    run: RunFolder,
    group: str,
    points: Sequence[JudgmentPoint],
    embedder: Embedder,
    asked: str = "",
) -> tuple[Rubric, dict[str, Any]]:
    """Cluster a group's points into a rubric and write both into discovery/; keep what is there if it is the same.

    Args:
        settings: How points become anchors.
        seed: KMeans' seed.
        run: The run folder.
        group: The group's name.
        points: Its judgment points.
        embedder: Embeds names and reasons.
        asked: `asked_hash` of the requests that brought the points, if all were answered.

    Returns:
        The rubric, and the fields of its `DiscoveryRecord`.

    Raises:
        RunError: There are too few points.
    """
    state, key = discovery_state(run, group), hash_json([*_made_by(settings, seed, embedder), _hash(points)])
    files = run.points(group), run.path / "discovery" / f"{group}_dim_anchors.jsonl"
    known = read_sealed(state)
    record = known.get("record")
    if record is None or known.get("key") != key or known.get("files") != _hashes(files):
        matrix = embed_points(points, embedder, settings.name_weight)
        found = cluster_points(
            points, matrix, slots=settings.slots, references=settings.references, seed=seed, name_by=settings.name_by
        )
        record = asdict(discovery_record(points, matrix, found, name_by=settings.name_by, seed=seed))
        write_parquet(files[0], _points_table(points, found))
        Rubric(group, found.anchors).save(files[1])
    facts = {
        "key": key,
        "files": _hashes(files),
        "asked": asked,
        "settings": hash_json(_made_by(settings, seed, embedder)),
        "record": record,
    }
    write_sealed(state, facts)
    return replace(Rubric.load(files[1], group), n_referenced=settings.references), record


def would_be_discovered(
    settings: DiscoverSettings, seed: int, run: RunFolder, group: str, asked: str, embedder: Embedder
) -> Rubric | None:
    """Return the rubric that discovery would give a group once more; None where that is not known.

    Args:
        settings: How points become anchors.
        seed: KMeans' seed.
        run: The run folder.
        group: The group's name.
        asked: `asked_hash` of the requests that discovery would make, all of them answered.
        embedder: Embeds names and reasons.
    """
    known = read_sealed(discovery_state(run, group))
    path = run.path / "discovery" / f"{group}_dim_anchors.jsonl"
    if known.get("settings") != hash_json(_made_by(settings, seed, embedder)) or known.get("asked") != asked:
        return None
    try:
        return Rubric.load(path, group) if hash_file(path) == known["files"][1] else None
    except (OSError, InputError, KeyError, IndexError):
        return None


def asked_hash(keys: Iterable[bytes]) -> str:
    """Return the hash of a set of requests, by their keys."""
    return hash_json(sorted(key.hex() for key in keys))


def discovery_state(run: RunFolder, group: str) -> Path:
    """Return the file that says what a group's discovered rubric follows from."""
    return run.path / "discovery" / f".{group}.json"


def discovery_states(run: RunFolder) -> list[Path]:
    """Return these files of all groups."""
    return sorted((run.path / "discovery").glob(".*.json"))


def _made_by(settings: DiscoverSettings, seed: int, embedder: Embedder) -> list[Any]:
    return [
        _VERSION,
        embedder.identity,
        seed,
        settings.slots,
        settings.references,
        settings.name_weight,
        settings.name_by,
    ]


def _hash(points: Sequence[JudgmentPoint]) -> str:
    digest = blake2b(digest_size=8)
    for p in points:
        digest.update(repr((p.record, p.source, p.dimension, p.score, p.reason)).encode())
    return digest.hexdigest()


def _hashes(files: Iterable[Path]) -> list[str]:
    return [hash_file(path) if path.is_file() else "" for path in files]


def _points_table(points: Sequence[JudgmentPoint], found: Clustering) -> pa.Table:
    return pa.table(
        {
            "record": [p.record for p in points],
            "source": [p.source for p in points],
            "dimension": [p.dimension for p in points],
            "score": pa.array([p.score for p in points], pa.float32()),
            "reason": [p.reason for p in points],
            "slot": [slot_name(i) for i in found.labels],
        }
    )
