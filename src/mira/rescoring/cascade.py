"""The cascade: a cheap student scores everything, an expensive one only what its answer could still change.

Records whose quality lies near the retention threshold go to the expensive student, and with them a random audit
slice, on which both students' answers can be compared without bias. Distance to the threshold is measured in units of
the cheap student's error of quality, source by source: a record two errors away is rarely on the wrong side.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.config.settings import CascadeSettings, CorpusSettings, SelectSettings
from mira.corpus import Shard, read, shards
from mira.errors import ConfigError, InputError, RunError
from mira.judging.judge import Judge, JudgeTask
from mira.progress import Log
from mira.rescoring.selections import student_selection
from mira.rubric.judgement import Judgement, judgements_table
from mira.rubric.slots import slot_names
from mira.run_folder.files import hash_file, read_json, remove_folder, write_parquet
from mira.run_folder.paths import RunFolder
from mira.selection.score_sidecars import MERGED_FROM
from mira.selection.values import SelectionInputs
from mira.selection.yardstick.cut import Cut, cuts_of
from mira.selection.yardstick.yardsticks import Yardstick, load_yardsticks
from mira.stats import spearman

__all__ = ["audited", "cascade", "labelled_quality", "merge", "quality_errors"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BINS = 4096
_FAR = 8.0  # errors; beyond it a record is as far as any
_LEAST_N = 30


def audited(source: str, ids: Sequence[str], share: float, seed: int) -> Bools:
    """Tell which records are in the random audit slice: by a hash of (seed, source, id), whatever their order."""
    limit = int(share * 2.0**64)
    head = f"cascade\0{seed}\0{source}\0".encode()
    digests = (blake2b(head + id.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id in ids)
    return np.fromiter((int.from_bytes(d, "big") < limit for d in digests), bool, len(ids))


def quality_errors(source: Sequence[str], truth: Floats, guess: Floats) -> dict[str, float]:
    """Return each source's root mean squared error of quality.

    Sources with fewer than 30 labelled records get the error over all records (ours).

    Args:
        source: Source of each labelled record.
        truth: Its quality by the labels.
        guess: Its quality by the cheap student, from folds that did not train on it.
    """
    squared = (truth - guess) ** 2
    known = np.isfinite(squared)
    names = np.array(source)
    pooled = float(np.sqrt(squared[known].mean())) if known.any() else 1.0
    found = {}
    for name in sorted(set(source)):
        rows = known & (names == name)
        found[name] = float(np.sqrt(squared[rows].mean())) if rows.sum() >= _LEAST_N else pooled
    return found


def merge(scores: pa.Table, judgements: Sequence[Judgement]) -> pa.Table:
    """Put the expensive student's judgements in the place of the cheap one's.

    Args:
        scores: A score sidecar.
        judgements: Judgements of some of its records; unscored ones leave the cheap scores in place.

    Returns:
        A sidecar of the same columns, rows and order. `judge` tells who judged a row.

    Raises:
        InputError: A judgement is of a record that the sidecar does not hold.
    """
    scored = [j for j in judgements if j.reason_unscored is None]
    if not scored:
        return scores
    place = {id: i for i, id in enumerate(scores["id"].to_pylist())}
    lost = [j.id for j in scored if j.id not in place]
    if lost:
        raise InputError(f"judgements of records that the sidecar does not hold: {', '.join(lost[:3])}", "Score again.")
    rows = [place[j.id] for j in scored]
    new = judgements_table(scored, len(scored[0].scores))
    kept = scores.filter(pa.array(~np.isin(np.arange(len(scores)), rows)))
    known = scores.take(rows)
    columns = [
        new[f.name].cast(f.type)
        if f.name in new.column_names
        else pa.nulls(len(new), f.type)
        if f.name == "windows" or f.name.endswith("_spread")  # the first student's, of scores that are replaced
        else known[f.name]
        for f in scores.schema
    ]
    merged = pa.concat_tables([kept, pa.Table.from_arrays(columns, schema=scores.schema)])
    return merged.sort_by("row")


def cascade(
    inputs: SelectionInputs, settings: CascadeSettings, open_judge: Callable[[str], AbstractContextManager[Judge]]
) -> dict[str, Any]:
    """Have the expensive student judge what is near the thresholds; write cascade/<source>/<shard>.parquet.

    With `select.scores: cascade`, selection reads the merged sidecars. Each carries the hash of the score sidecar that
    it was made of, and is refused when that has changed.

    Args:
        inputs: What the selection is made from; its run folder has scores by the cheap student.
        settings: `distill.cascade`.
        open_judge: Group -> its expensive student, open as long as it is used.

    Returns:
        Per source: records, calls (near and audit), calls saved, calls without an answer by reason (the cheap scores
        stay), how far from the threshold records were taken (in errors; null for none), and on the audit slice the mean
        absolute difference and the Spearman correlation of both students' mean scores.

    Raises:
        RunError: Scores are not there yet.
    """
    run, corpus = inputs.run, inputs.corpus
    selected = student_selection(inputs)
    cuts = cuts_of(read_json(selected.thresholds))
    errors = _errors(inputs.select, run)
    of_source = shards(corpus)
    summary: dict[str, Any] = {}
    if (run.path / "cascade").is_dir():
        remove_folder(run.path / "cascade")  # an interrupted cascade must not leave two mixed
    for group in read_json(run.groups)["groups"]:
        with open_judge(group["name"]) as judge:
            for source in group["sources"]:
                plan = _Plan(corpus, run, selected, source, cuts.get(source), errors[source], settings, inputs.seed)
                summary[source] = _cascade_source(plan, of_source[source], judge, inputs.log)
    return summary


@dataclass(frozen=True)
class _Plan:
    corpus: CorpusSettings
    run: RunFolder
    selected: RunFolder  # where the student's selection is
    source: str
    cut: Cut | None
    error: float
    settings: CascadeSettings
    seed: int

    def pick(self, shard: Shard, reach: float | None) -> tuple[list[str], Bools, Bools]:
        """Return a shard's ids, which are near, and which are audited."""
        path = self.selected.selection(self.source) / f"{shard.name}.parquet"
        table = pq.read_table(path, columns=["id", "quality", "n_tokens"])
        ids = table["id"].to_pylist()
        by_hash = audited(self.source, ids, self.settings.audit, self.seed)
        near = np.zeros(len(ids), bool) if reach is None else self.distance(table) <= reach
        return ids, near, by_hash

    def distance(self, table: pa.Table) -> Floats:
        """Return each record's distance to its threshold in errors; NaN where there is no quality or no threshold."""
        values = pc.fill_null(pc.cast(table["quality"], pa.float64()), float("nan")).to_numpy()
        if self.cut is None:
            return np.full(len(values), np.nan)
        margin = self.cut.margin(values, table["n_tokens"].to_numpy())
        return np.asarray(np.abs(margin) / max(self.error, 1e-9), dtype=np.float64)

    def reach(self, parts: Sequence[Shard]) -> float | None:
        """Return how far from the threshold records are taken; None for none. Memory does not grow with them."""
        if self.settings.within_errors is not None:
            return self.settings.within_errors
        if not self.settings.share:
            return None
        tokens = np.zeros(_BINS + 1, np.int64)
        edges = np.append(np.linspace(0, _FAR, _BINS + 1)[1:], np.inf)
        for shard in parts:
            path = self.selected.selection(self.source) / f"{shard.name}.parquet"
            table = pq.read_table(path, columns=["quality", "n_tokens"])
            distance = self.distance(table)
            known = np.isfinite(distance)
            bins = np.searchsorted(edges, distance[known])
            tokens += np.bincount(bins, table["n_tokens"].to_numpy()[known], _BINS + 1).astype(np.int64)
        reached = int(np.searchsorted(np.cumsum(tokens), self.settings.share * tokens.sum()))
        return float(edges[min(reached, _BINS)])


def _cascade_source(plan: _Plan, parts: Sequence[Shard], judge: Judge, log: Log) -> dict[str, Any]:
    reach, audit = plan.reach(parts), _Audit()
    counts = {"records": 0, "near": 0, "audit": 0}
    unscored: Counter[str] = Counter()
    with log.task(f"cascade {plan.source}", len(parts)) as progress:
        for shard in parts:
            ids, close, by_hash = plan.pick(shard, reach)
            wanted = {id for id, yes in zip(ids, close | by_hash, strict=True) if yes}
            records = (r for r in read(plan.corpus, plan.run, shard) if r.id in wanted)
            judgements = sorted(judge.judge(JudgeTask(r) for r in records), key=lambda j: j.id)
            path = plan.run.scores(plan.source) / f"{shard.name}.parquet"
            scores = pq.read_table(path)
            merged = merge(scores, judgements).replace_schema_metadata({MERGED_FROM: hash_file(path)})
            write_parquet(plan.run.cascade(plan.source) / f"{shard.name}.parquet", merged)
            unscored.update(j.reason_unscored for j in judgements if j.reason_unscored)
            in_audit = {id for id, yes in zip(ids, by_hash, strict=True) if yes}
            audit.add(scores, [j for j in judgements if j.id in in_audit])
            counts["records"] += len(ids)
            counts["near"] += int(close.sum())
            counts["audit"] += int((by_hash & ~close).sum())
            progress.advance()
    calls = counts["near"] + counts["audit"]
    told = {"calls": calls, "saved": counts["records"] - calls, "unscored": dict(unscored), "reach": reach}
    return counts | told | audit.summary()


def _errors(select: SelectSettings, run: RunFolder) -> dict[str, float]:
    """Return each source's error of quality, measured on labels by cross-fitted predictions."""
    yardsticks = cascade_yardsticks(select, run)
    found: dict[str, float] = {}
    for group in read_json(run.groups)["groups"]:
        table = labelled_quality(select, run, group["name"], yardsticks)
        measured = quality_errors(table["source"].to_pylist(), table["truth"].to_numpy(), table["guess"].to_numpy())
        pooled = float(np.median(list(measured.values()))) if measured else 1.0
        found |= {source: measured.get(source, pooled) for source in group["sources"]}
    return found


def cascade_yardsticks(select: SelectSettings, run: RunFolder) -> dict[str, Yardstick]:
    """Return each source's yardstick.

    Raises:
        ConfigError: Foreign scores are slots of quality: the simulation on labelled records knows the student's alone.
    """
    yardsticks = load_yardsticks(select, run)
    if foreign := sorted({slot for yardstick in yardsticks.values() for slot in yardstick.foreign}):
        raise ConfigError(
            f"the cascade cannot be used with foreign scores as slots of quality: {', '.join(foreign)}",
            f"Set scores.{foreign[0]}.slot: none.",
        )
    return yardsticks


def labelled_quality(
    select: SelectSettings, run: RunFolder, group: str, yardsticks: Mapping[str, Yardstick]
) -> pa.Table:
    """Return quality by the teacher and by the cheap student of a group's labelled records.

    Args:
        select: How quality is made.
        run: A run folder with labels and an encoder student.
        group: The group.
        yardsticks: Source -> its yardstick.

    Returns:
        Columns source, id, n_tokens, truth, guess; quality is NaN where a source has no unmasked slot or too few are
        scored. Predictions are cross-fitted: no record's own label was used for its guess.

    Raises:
        RunError: The group's student has no cross-fitted predictions.
    """
    path = run.student(group) / "out_of_fold.parquet"
    if not path.is_file():
        raise RunError(f"{path} is not there: the cascade's first student is the encoder", "Run: mira distill CONFIG")
    labels = pq.read_table(run.labels(group))
    labels = labels.filter(pc.equal(labels["replicate"], 0))
    slots = [name for name in labels.column_names if name[:1] == "A" and name[1:].isdigit()]
    both = labels.select(["source", "id", "n_tokens", *slots]).join(
        pq.read_table(path).select(["source", "id", *slots]), ["source", "id"], join_type="inner",
        right_suffix="_guess",
    ).sort_by([("source", "ascending"), ("id", "ascending")])  # fmt: skip
    parts = []
    for source in pc.unique(both["source"]).to_pylist():
        part = both.filter(pc.equal(both["source"], source))
        yardstick = yardsticks.get(source, Yardstick())
        of = [_quality(select, part, yardstick, suffix) for suffix in ("", "_guess")]
        columns = [part["source"], part["id"], part["n_tokens"], pa.array(of[0]), pa.array(of[1])]
        parts.append(pa.Table.from_arrays(columns, ["source", "id", "n_tokens", "truth", "guess"]))
    return pa.concat_tables(parts)


def _quality(select: SelectSettings, table: pa.Table, yardstick: Yardstick, suffix: str) -> Floats:
    if not yardstick.slots:
        return np.full(len(table), np.nan)
    names = [f"{slot}{suffix}" for slot in yardstick.slots]
    columns = [pc.fill_null(table[name], float("nan")).to_numpy().astype(np.float32) for name in names]
    return yardstick.quality(columns, select)[0]


class _Audit:
    """Both students' mean scores on the audit slice."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []

    def add(self, scores: pa.Table, judgements: Sequence[Judgement]) -> None:
        judged = {j.id: j for j in judgements if j.reason_unscored is None}
        if not judged:
            return
        rows = scores.filter(pc.is_in(scores["id"], pa.array(list(judged), pa.string())))
        for row in rows.to_pylist():
            judgement = judged[row["id"]]
            cheap = [row[slot] for slot in slot_names(len(judgement.scores))]
            both = [(c, e) for c, e in zip(cheap, judgement.scores, strict=True) if c is not None and e is not None]
            if both:
                mean = np.mean(both, axis=0)
                self.pairs.append((float(mean[0]), float(mean[1])))

    def summary(self) -> dict[str, Any]:
        pairs = np.array(self.pairs).reshape(-1, 2)
        varied = len(pairs) > 2 and bool(np.ptp(pairs[:, 0]) and np.ptp(pairs[:, 1]))
        return {
            "audited": len(pairs),
            "audit_difference": float(np.abs(pairs[:, 0] - pairs[:, 1]).mean()) if len(pairs) else None,
            "audit_rho": spearman(pairs[:, 0], pairs[:, 1]) if varied else None,
        }
