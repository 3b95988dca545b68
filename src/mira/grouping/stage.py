"""Stage `group`: one mean embedding per source, KMeans within each family."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, count, product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from mira.config.settings import Config, GroupSettings
from mira.errors import ConfigError, RunError
from mira.family import FamilyName
from mira.grouping.groups import Group, load_groups
from mira.grouping.vectors import Vectors, source_vectors, unit
from mira.progress import Log
from mira.run_folder.files import write_json
from mira.run_folder.paths import RunFolder
from mira.stage import Stage, Work, needs, reads

__all__ = ["STAGE", "Grouping", "Joined", "cluster_sources", "group", "group_sources"]


@dataclass(frozen=True, slots=True)
class Joined:
    """A source that no given group names, and the given group that it joins.

    Attributes:
        source: The source.
        group: The group whose mean vector is nearest.
        cosine: Cosine of the two.
        own: Lowest cosine of the group's named sources to that mean; 1 where there is only one.
        next: The second nearest group and its cosine, if any.
    """

    source: str
    group: str
    cosine: float
    own: float
    next: tuple[str, float] | None = None

    def __str__(self) -> str:
        """Say which group, and how near."""
        second = f"; next is {self.next[0]} with {self.next[1]:.3f}" if self.next else ""
        return (
            f"joins {self.group}: cosine {self.cosine:.3f} to its mean, "
            f"where its named sources have {self.own:.3f} or more{second}"
        )


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups, how the number of clustered ones was chosen per family, and who joined a given one."""

    groups: list[Group]
    choices: dict[str, Any]
    joined: list[Joined]


def group(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Group the sources and write groups.json; see `group_sources`.

    Returns:
        The groups' names and sources, and the sources that joined a given group.

    Raises:
        ConfigError: As `group_sources`.
    """
    found = group_sources(config, run, log)
    joined = {"joined": [asdict(j) for j in found.joined]} if found.joined else {}
    for each in found.joined:
        log.note(f"  {each.source} {each}")
    write_json(run.groups, {"groups": [_plain(g) for g in found.groups], "k": found.choices, **joined})
    return {"groups": {g.name: list(g.sources) for g in found.groups}, **joined}


def group_sources(config: Config, run: RunFolder, log: Log) -> Grouping:
    """Group the sources; write nothing but the cache of their vectors.

    Groups given in the configuration are taken as they are. The other sources of a family join the nearest given group,
    if `group.new_sources` says so and the family has one; else they are clustered.

    Raises:
        ConfigError: A given group has no proper name, no sources or those of several families; or k exceeds the number
            of a family's sources.
    """
    empty = next((name for name, members in config.group.given.items() if not members), None)
    if empty is not None:
        raise ConfigError(f"group.given.{empty}: holds no source", "Name its sources, or take it out.")
    # One source in one group of its own: nothing to cluster, nothing to compare.
    alone = len(config.sources) == 1 and bool(config.group.given)
    vectors = (
        {} if alone else source_vectors(config.corpus, config.embedding, config.group.sample, config.seed, run, log)
    )
    found = Grouping([], {}, [])
    for family in dict.fromkeys([*map(str, FamilyName), *(s.family for s in config.sources)]):
        sources = [s.name for s in config.sources if s.family == family]
        given = {name: members for name, members in config.group.given.items() if set(members) & set(sources)}
        for name, members in given.items():
            _check_given(name, members, family, sources, given)
        rest = [s for s in sources if not any(s in members for members in given.values())]
        if rest and given and config.group.new_sources == "nearest":
            joined = [_nearest(source, given, vectors) for source in rest]
            found.joined.extend(joined)
            given = {n: [*members, *(j.source for j in joined if j.group == n)] for n, members in given.items()}
            rest = []
        found.groups.extend(_group(name, family, members, vectors) for name, members in given.items())
        if rest:
            matrix = np.stack([vectors[s] for s in rest])
            labels, found.choices[family] = cluster_sources(
                matrix, _wanted(config.group, family, len(rest)), config.seed
            )
            letters = (x for x in _letters() if f"{family}_group_{x}" not in given)
            for label in dict.fromkeys(labels):
                members = [s for s, of in zip(rest, labels, strict=True) if of == label]
                found.groups.append(_group(f"{family}_group_{next(letters)}", family, members, vectors))
    return found


def _nearest(source: str, given: Mapping[str, Sequence[str]], vectors: Mapping[str, Vectors]) -> Joined:
    """Return the given group nearest to a source; of equals, the first that is named."""
    vector, cosines = unit(vectors[source]), {}
    for name, members in given.items():
        units = np.stack([unit(vectors[m]) for m in members])
        mean = unit(units.mean(axis=0))
        cosines[name] = round(float(vector @ mean), 4), round(min(1.0, float((units @ mean).min())), 4)
    order = sorted(cosines, key=lambda name: -cosines[name][0])
    second = (order[1], cosines[order[1]][0]) if len(order) > 1 else None
    return Joined(source, order[0], *cosines[order[0]], second)


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
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    n = len(units)
    if k is not None:
        return _kmeans(units, k, seed), {"k": k, "how": "given"}
    if n <= 2:
        return [0] * n, {"k": 1, "how": "too few sources to choose"}
    from sklearn.metrics import silhouette_score  # noqa: PLC0415 - slow to import

    tried = {}
    for candidate in range(2, n):
        labels = _kmeans(units, candidate, seed)
        tried[candidate] = float(silhouette_score(units, labels, metric="cosine"))
    best = max(tried, key=lambda c: (tried[c], -c))
    scores = {str(c): round(s, 4) for c, s in tried.items()}
    return _kmeans(units, best, seed), {"k": best, "how": "silhouette", "silhouette": scores}


def _kmeans(units: Vectors, k: int, seed: int) -> list[int]:
    from sklearn.cluster import KMeans  # noqa: PLC0415 - slow to import

    labels: list[int] = KMeans(k, random_state=seed, n_init=10).fit_predict(units).tolist()
    return labels


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


def _group(name: str, family: str, members: Sequence[str], vectors: dict[str, Vectors]) -> Group:
    units = {m: unit(vectors[m]) for m in members if len(members) > 1}
    cosines = [(a, b, round(float(units[a] @ units[b]), 4)) for a, b in combinations(members, 2)]
    return Group(name, family, tuple(members), tuple(sorted(cosines, key=lambda c: -c[2])))


def _plain(g: Group) -> dict[str, Any]:
    return {
        "name": g.name,
        "family": g.family,
        "group": g.name.removeprefix(f"{g.family}_group_"),
        "sources": list(g.sources),
        "cosines": [list(c) for c in g.cosines],
    }


def _edited(config: Config, run: RunFolder, _changed: Sequence[Path]) -> None:
    """Refuse to overwrite groups that somebody edited in the run folder, unless the settings give the same ones."""
    try:
        same = {g.name: list(g.sources) for g in load_groups(run)} == config.group.given
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise RunError(
            f"{run.groups}: edited since mira wrote it, and group would overwrite it",
            "To keep these groups: mira freeze CONFIG writes them into group.given. To discard the edit, remove the "
            "file. Then run again.",
        )


def _work(config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    return Work(records={source: min(n, config.group.sample) for source, n in valid.items()})


STAGE = Stage(
    name="group",
    version=1,
    run=group,
    needs=needs("index"),
    reads=reads("group", "embedding"),
    outputs=lambda run: [run.groups],
    edited=_edited,
    resumed=lambda _config, run: [run.cache / "vectors"],
    work=_work,
)
