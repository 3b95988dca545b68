"""Stage `group`: one mean embedding per source, KMeans within each family."""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations, count, product
from string import ascii_uppercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mira import corpus
from mira.config.settings import Config, GroupSettings
from mira.embedding import load_embedder
from mira.errors import ConfigError
from mira.family import FamilyName
from mira.grouping.groups import Group
from mira.progress import Log
from mira.run_folder.files import write_json
from mira.run_folder.paths import RunFolder
from mira.stage import Stage, Work, needs, reads

__all__ = ["STAGE", "cluster_sources", "group"]

Vectors = NDArray[np.float32]


def group(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Cluster the sources into groups and write groups.json.

    Groups given in the configuration are taken as they are; the rest is clustered, each family for itself.

    Returns:
        The groups' names and sources.

    Raises:
        ConfigError: A given group has no proper name, no sources or those of several families; or k exceeds the number
            of a family's sources.
    """
    empty = next((name for name, members in config.group.given.items() if not members), None)
    if empty is not None:
        raise ConfigError(f"group.given.{empty}: holds no source", "Name its sources, or take it out.")
    # One source in one group of its own: nothing to cluster, nothing to compare.
    alone = len(config.sources) == 1 and bool(config.group.given)
    vectors = {} if alone else _source_vectors(config, run, log)
    groups, choices = [], {}
    for family in dict.fromkeys([*map(str, FamilyName), *(s.family for s in config.sources)]):
        sources = [s.name for s in config.sources if s.family == family]
        given = {name: members for name, members in config.group.given.items() if set(members) & set(sources)}
        for name, members in given.items():
            _check_given(name, members, family, sources, given)
            groups.append(_group(name, family, members, vectors))
        rest = [s for s in sources if not any(s in members for members in given.values())]
        if rest:
            matrix = np.stack([vectors[s] for s in rest])
            labels, choices[family] = cluster_sources(matrix, _wanted(config.group, family, len(rest)), config.seed)
            taken = {g.name for g in groups}
            letters = (x for x in _letters() if f"{family}_group_{x}" not in taken)
            for label in dict.fromkeys(labels):
                members = [s for s, found in zip(rest, labels, strict=True) if found == label]
                groups.append(_group(f"{family}_group_{next(letters)}", family, members, vectors))
    write_json(run.groups, {"groups": [_plain(g) for g in groups], "k": choices})
    return {"groups": {g.name: list(g.sources) for g in groups}}


def _letters() -> Iterator[str]:
    """Yield A, B, ... Z, AA, AB, ..."""
    for length in count(1):
        yield from map("".join, product(ascii_uppercase, repeat=length))


def cluster_sources(matrix: Vectors, k: int | None, seed: int) -> tuple[list[int], dict[str, Any]]:
    """Cluster sources by their mean vectors.

    Args:
        matrix: (sources, dimensions), one mean embedding a source.
        k: Number of groups; None chooses the one with the best silhouette (cosine) among 2..sources-1. One or two
            sources have no silhouette and make one group (ours).
        seed: KMeans' seed.

    Returns:
        A label a source, and how k came about.
    """
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    n = len(unit)
    if k is not None:
        return _kmeans(unit, k, seed), {"k": k, "how": "given"}
    if n <= 2:
        return [0] * n, {"k": 1, "how": "too few sources to choose"}
    from sklearn.metrics import silhouette_score  # noqa: PLC0415 - slow to import

    tried = {}
    for candidate in range(2, n):
        labels = _kmeans(unit, candidate, seed)
        tried[candidate] = float(silhouette_score(unit, labels, metric="cosine"))
    best = max(tried, key=lambda c: (tried[c], -c))
    scores = {str(c): round(s, 4) for c, s in tried.items()}
    return _kmeans(unit, best, seed), {"k": best, "how": "silhouette", "silhouette": scores}


def _kmeans(unit: Vectors, k: int, seed: int) -> list[int]:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - slow to import

    labels: list[int] = KMeans(k, random_state=seed, n_init=10).fit_predict(unit).tolist()
    return labels


def _source_vectors(config: Config, run: RunFolder, log: Log) -> dict[str, Vectors]:
    embedder = load_embedder(config.embedding)
    vectors = {}
    with log.task("embedding a sample of each source", len(config.sources)) as task:
        for source in config.sources:
            ids = corpus.sample_ids(run, source.name, config.group.sample, config.seed, "group")
            records = corpus.fetch(config.corpus, run, source.name, ids)
            vectors[source.name] = embedder.embed([r.text for r in records]).mean(axis=0)
            task.advance()
    return vectors


def _wanted(settings: GroupSettings, family: str, n: int) -> int | None:
    k = settings.k
    wanted = None if k == "auto" else k.get(family) if isinstance(k, dict) else k
    if wanted is not None and not 1 <= wanted <= n:
        raise ConfigError(
            f"group.k: {wanted} groups of the {n} {family} sources", f"Choose 1 to {n}, or 'auto', or one k a family."
        )
    return wanted


def _check_given(name: str, members: list[str], family: str, sources: list[str], given: dict[str, list[str]]) -> None:
    strangers = [m for m in members if m not in sources]
    if strangers:
        raise ConfigError(f"group.given.{name}: '{strangers[0]}' is of another family", "A group has one family.")
    named = [m for others in given.values() for m in others]
    twice = [m for m in members if named.count(m) > 1]
    if twice:
        raise ConfigError(f"group.given: source '{twice[0]}' is named twice", "A source belongs to one group.")
    if not re.fullmatch(rf"{family}_group_[A-Za-z0-9][A-Za-z0-9.+-]*", name):
        raise ConfigError(
            f"group.given.{name}: a group of {family} sources is named {family}_group_ and letters or digits",
            f"For example: {family}_group_A. The name tells the family, and files bear it.",
        )


def _group(name: str, family: str, members: list[str], vectors: dict[str, Vectors]) -> Group:
    unit = {m: vectors[m] / np.linalg.norm(vectors[m]) for m in members if len(members) > 1}
    cosines = [(a, b, round(float(unit[a] @ unit[b]), 4)) for a, b in combinations(members, 2)]
    return Group(name, family, tuple(members), tuple(sorted(cosines, key=lambda c: -c[2])))


def _plain(g: Group) -> dict[str, Any]:
    return {
        "name": g.name,
        "family": g.family,
        "group": g.name.removeprefix(f"{g.family}_group_"),
        "sources": list(g.sources),
        "cosines": [list(c) for c in g.cosines],
    }


def _work(config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    return Work(records={source: min(n, config.group.sample) for source, n in valid.items()})


STAGE = Stage(
    name="group",
    version=1,
    run=group,
    needs=needs("index"),
    reads=reads("group", "embedding"),
    outputs=lambda run: [run.groups],
    work=_work,
)
