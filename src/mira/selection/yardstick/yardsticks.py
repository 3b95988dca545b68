"""Yardsticks: how the scores of a source's records become quality, so that sources that compete can be compared.

Slots have different levels. Where two sources that share a threshold trust different slots, which slots a source's mask
removes moves its mean, and so its share of the budget, whatever its records are worth. `select.compare_by` chooses:

- `own`: each source's own unmasked slots (the paper's);
- `shared`: the slots that all sources trust which compete (ours);
- `centred`: each source's own unmasked slots, each centred and scaled over the records of all sources that compete
  (ours). Quality is then in standard deviations from the mean.

Sources compete if they share a threshold, which depends on `select.scope`. Slots of different rubrics are different
questions, so slots are shared, and centred, among the competing sources of one rubric. Sources whose every slot is
masked do not compete.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.settings import ScoreSettings, SelectSettings
from mira.errors import RunError
from mira.foreign.sidecars import ForeignSlot, foreign_slots
from mira.rubric.slots import is_slot
from mira.run_folder.content import state_of
from mira.run_folder.files import hash_json, read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.selection.exact_moments import Moments
from mira.selection.map_shards import map_shards
from mira.selection.planning import read_groups
from mira.selection.quality import Mask, Scores, load_mask, trimmed_mean
from mira.selection.score_sidecars import CASCADE

__all__ = ["CompareBy", "Yardstick", "competitors", "load_yardsticks", "own_slots", "unshared", "yardstick_notes"]

CompareBy = Literal["own", "shared", "centred"]

_HERE = ScoreSettings()


@dataclass(frozen=True)
class Yardstick:
    """How the scores of one source's records become quality.

    Attributes:
        slots: The slots that are averaged, in slot order, then the foreign scores; none where all are masked.
        means: What is subtracted from each slot's scores; none if scores are taken as they are.
        deviations: What they are then divided by. A slot that does not vary counts as 0.
    """

    slots: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()

    @property
    def of_rubric(self) -> tuple[str, ...]:
        """Those of its slots that are the rubric's, which a judge scores."""
        return tuple(slot for slot in self.slots if is_slot(slot))

    @property
    def foreign(self) -> tuple[str, ...]:
        """Those of its slots that are foreign scores."""
        return tuple(slot for slot in self.slots if not is_slot(slot))

    def by_judge(self) -> "Yardstick":
        """Return this yardstick without foreign scores, for records that have none: changed copies of the corpus's."""
        if not self.foreign:
            return self
        places = [at for at, slot in enumerate(self.slots) if is_slot(slot)]
        means, deviations = (tuple(part[at] for at in places if part) for part in (self.means, self.deviations))
        return Yardstick(self.of_rubric, means, deviations)

    def quality(self, columns: Sequence[Scores], settings: SelectSettings) -> tuple[Floats, npt.NDArray[np.uint8]]:
        """Return quality (NaN if too few slots are scored) and the number of scored slots, per record.

        Args:
            columns: One float32 array per slot of `slots`; NaN or infinite is not scored.
            settings: How slots are averaged.
        """
        return trimmed_mean(self.scaled(columns), settings.trim, settings.min_slots)

    def scaled(self, columns: Sequence[Scores]) -> Sequence[Scores]:
        """Return the scores that are averaged."""
        if not self.means:
            return columns
        parts = zip(columns, self.means, self.deviations, strict=True)
        return [_scaled(column, mean, deviation) for column, mean, deviation in parts]


def _scaled(column: Scores, mean: float, deviation: float) -> Scores:
    centred = np.where(np.isfinite(column), column, np.nan).astype(np.float64) - mean
    return np.asarray(centred / deviation if deviation > 0 else centred * 0.0, dtype=np.float32)


def own_slots(mask: Mask) -> dict[str, Yardstick]:
    """Return the yardsticks of `compare_by: own`."""
    return {source: Yardstick(slots) for source, slots in mask.items()}


def competitors(mask: Mask, scope: str, group_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return, of each source that is not wholly masked, the sources of its rubric that share a threshold with it.

    Args:
        mask: Source -> unmasked slots.
        scope: global, group or source.
        group_of: Source -> group. A source without one has a rubric of its own.
    """
    rubrics: dict[str, list[str]] = {}
    for source in sorted(source for source, slots in mask.items() if slots):
        rubrics.setdefault(source if scope == "source" else group_of.get(source, source), []).append(source)
    return {source: tuple(members) for members in rubrics.values() for source in members}


def load_yardsticks(
    settings: SelectSettings,
    run: RunFolder,
    compare_by: CompareBy | None = None,
    engine: ScoreSettings = _HERE,
) -> dict[str, Yardstick]:
    """Return each source's yardstick.

    Levels of slots are taken over all score sidecars and kept in `values/centres.json` as long as these are the same.

    Args:
        settings: How sources are compared, where records compete, and which scores decide.
        run: A run folder with groups and reliability, and with scores if slots are centred.
        compare_by: In the place of the settings'.
        engine: Where score sidecars are read, if slots are centred; on this machine by default.

    Raises:
        RunError: The reliability table, or a source's scores, are missing.
    """
    mask = load_mask(run)
    chosen = compare_by or settings.compare_by
    if chosen == "own":
        return own_slots(mask)
    rivals = competitors(mask, settings.scope, read_groups(run, list(mask), needed=False))
    if chosen == "shared":
        return {source: Yardstick(_shared(mask, rivals.get(source, ())) or slots) for source, slots in mask.items()}
    levels = _levels(settings, run, mask, rivals, engine)
    return {source: Yardstick(slots, *levels.get(source, ())) for source, slots in mask.items()}


def yardstick_notes(settings: SelectSettings, run: RunFolder) -> Iterator[str]:
    """Report what makes sources hard to compare under these settings."""
    mask = load_mask(run)
    group_of = read_groups(run, list(mask), needed=False)
    rivals = competitors(mask, settings.scope, group_of)
    rubrics = sorted({group_of.get(source, source) for source in rivals})
    if settings.scope == "global" and len(rubrics) > 1:
        yield (
            f"WARNING: select.scope: global puts {len(rubrics)} rubrics under one threshold ({', '.join(rubrics)}). "
            "Their slots ask different questions, so their levels say nothing about each other. Use scope group, or "
            "select.compare_by: centred, which gives every rubric the same mean."
        )
    if settings.compare_by != "shared":
        return
    for members in sorted({members for members in rivals.values() if len(members) > 1}):
        shared, named = _shared(mask, members), ", ".join(members)
        if not shared:
            yield (
                f"WARNING: select.compare_by: shared: no slot is trusted in all of {named}, so they are compared by "
                "their own slots. Set select.compare_by: centred, or select.scope: source."
            )
        elif len(shared) < settings.min_slots:
            yield (
                f"WARNING: select.compare_by: shared: all of {named} trust only {', '.join(shared)}: fewer slots than "
                "select.min_slots."
            )


def unshared(settings: SelectSettings, run: RunFolder) -> set[str]:
    """Return the sources that have no slot in common with those that they compete with, or none at all."""
    mask = load_mask(run)
    rivals = competitors(mask, settings.scope, read_groups(run, list(mask), needed=False))
    return {source for source in mask if not _shared(mask, rivals.get(source, ()))}


def _shared(mask: Mask, members: Sequence[str]) -> tuple[str, ...]:
    """Return the slots that all of some sources trust, in slot order."""
    if not members:
        return ()
    return tuple(slot for slot in mask[members[0]] if all(slot in mask[source] for source in members))


def _levels(
    settings: SelectSettings, run: RunFolder, mask: Mask, rivals: Mapping[str, Sequence[str]], engine: ScoreSettings
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return source -> means and deviations of its unmasked slots over the records of all its rivals."""
    folder = run.cascade if settings.scores == CASCADE else run.scores
    files = {source: sorted(folder(source).glob("*.parquet")) for source in rivals}
    lacking = [source for source, paths in files.items() if not paths]
    if lacking:
        raise RunError(f"{folder(lacking[0])}: there are no scores yet", "Run `mira score` first.")
    states = {source: [[path.name, state_of(path)] for path in paths] for source, paths in files.items()}
    foreign = foreign_slots(run)
    states |= {
        f"foreign/{slot}/{source}": [[path.name, state_of(path)] for path in _foreign_files(run, slot, source)]
        for slot in foreign
        for source in rivals
    }
    identity = hash_json([{s: list(slots) for s, slots in mask.items()}, dict(rivals), states])
    known = run.path / "values" / "centres.json"
    try:
        found = read_json(known)
    except (OSError, ValueError):
        found = {}
    if found.get("identity") != identity:
        found = {"identity": identity, "levels": _measured(run, files, mask, rivals, engine)}
        write_json(known, found)
    return {source: (tuple(means), tuple(widths)) for source, (means, widths) in found["levels"].items()}


def _foreign_files(run: RunFolder, slot: str, source: str) -> list[Path]:
    return sorted(run.foreign(slot, source).glob("*.parquet"))


class _Task(NamedTuple):
    """A file of scores, and the slots to measure: those of a score sidecar, or one foreign score."""

    source: str
    path: Path
    slots: Sequence[str]
    foreign: ForeignSlot | None = None


def _measured(
    run: RunFolder,
    files: Mapping[str, Sequence[Path]],
    mask: Mask,
    rivals: Mapping[str, Sequence[str]],
    engine: ScoreSettings,
) -> dict[str, tuple[list[float], list[float]]]:
    tasks = []
    for source, paths in files.items():
        wanted = sorted({slot for rival in rivals[source] for slot in mask[rival]})
        tasks += [_Task(source, path, wanted) for path in paths]
        for name, foreign in foreign_slots(run).items():
            tasks += [_Task(source, path, [name], foreign) for path in _foreign_files(run, name, source)]
    sums: dict[tuple[str, str], Moments] = {}
    for source, part in map_shards(engine, _moments_of, tasks):
        for slot, moments in part.items():
            sums[source, slot] = sums.get((source, slot), Moments()) + moments
    levels = {}
    for source, members in rivals.items():
        totals = [sum((sums.get((rival, slot), Moments()) for rival in members), Moments()) for slot in mask[source]]
        levels[source] = ([total.mean for total in totals], [total.deviation for total in totals])
    return levels


def _moments_of(task: _Task) -> tuple[str, dict[str, Moments]]:
    if task.foreign is not None:
        return task.source, {task.slots[0]: _foreign_moments(task.foreign, task.path)}
    return task.source, _moments(task.slots, task.path)


def _foreign_moments(slot: ForeignSlot, path: Path) -> Moments:
    found = Moments()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["value"], use_threads=False):
            scores = slot.scaled(batch["value"].to_numpy(zero_copy_only=False))
            found += Moments.of(scores[np.isfinite(scores)].astype(np.float64))
    return found


def _moments(slots: Sequence[str], path: Path) -> dict[str, Moments]:
    """Return the moments of a sidecar's finite scores, by slot. Sums are exact, so sharding does not change them."""
    found = dict.fromkeys(slots, Moments())
    with pq.ParquetFile(path) as file:
        there = [slot for slot in slots if slot in file.schema_arrow.names]
        for batch in file.iter_batches(columns=there, use_threads=False):
            for slot in there:
                scores = batch[slot].to_numpy(zero_copy_only=False)
                found[slot] += Moments.of(scores[np.isfinite(scores)].astype(np.float64))
    return found
