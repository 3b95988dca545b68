"""The run folder: where every stage finds its input and leaves its output."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunFolder"]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run folder. Nothing else in mira spells them out."""

    path: Path

    @property
    def manifest(self) -> Path:
        """What ran: version, config hash, fingerprints, counts."""
        return self.path / "manifest.json"

    @property
    def lock(self) -> Path:
        """Locked by the process that works in the folder."""
        return self.path / ".lock"

    @property
    def groups(self) -> Path:
        """Group -> sources, and pairwise cosines."""
        return self.path / "groups.json"

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / "report.html"

    @property
    def journal(self) -> Path:
        """Folder of paid-for replies."""
        return self.path / "journal"

    @property
    def cache(self) -> Path:
        """Folder of results that can be computed again: vectors of sources, embeddings of labelled records."""
        return self.path / ".cache"

    @property
    def reliability(self) -> Path:
        """One row a (source, slot) cell."""
        return self.path / "reliability.parquet"

    @property
    def foreign_slots(self) -> Path:
        """One row per (source, foreign score that quality takes in); missing where quality has no such slot."""
        return self.path / "foreign_slots.parquet"

    @property
    def students_report(self) -> Path:
        """Students of every group compared, learning curves, and what to label next."""
        return self.path / "students.json"

    @property
    def cascade_report(self) -> Path:
        """What a cascade saves and changes."""
        return self.path / "cascade.json"

    @property
    def thresholds(self) -> Path:
        """Scope -> threshold, tokens in, tokens kept."""
        return self.path / "thresholds.json"

    @property
    def kept(self) -> Path:
        """What length and masks do to the current selection, source by source."""
        return self.path / "kept.json"

    @property
    def plan(self) -> Path:
        """The selection that workers write: every shard's rule, and what it follows from."""
        return self.path / "plan.json"

    @property
    def audit(self) -> Path:
        """What an audit found of the scorers."""
        return self.path / "audit.json"

    @property
    def evaluation(self) -> Path:
        """What the current selection is worth."""
        return self.path / "evaluation.json"

    @property
    def pairs(self) -> Path:
        """How scorers order the pairs of a file."""
        return self.path / "pairs.json"

    def index(self, source: str) -> Path:
        """Folder of a source's index shards: row, id, n_tokens, n_chars, reason_rejected, detail."""
        return self.path / "index" / source

    def points(self, group: str) -> Path:
        """Judgment points of a group with their cluster, from free-form judging."""
        return self.path / "discovery" / f"{group}_points.parquet"

    def rubric(self, group: str) -> Path:
        """The group's rubric file."""
        return self.path / "rubrics" / f"{group}_dim_anchors.jsonl"

    def labels(self, group: str) -> Path:
        """Teacher judgements of a group."""
        return self.path / "labels" / f"{group}.parquet"

    @property
    def human(self) -> Path:
        """Folder of people's judgements: one file per reviewer, and the sample that they judge."""
        return self.path / "labels" / "human"

    @property
    def review(self) -> Path:
        """What people's judgements say of the current selection."""
        return self.path / "review.json"

    def student(self, group: str) -> Path:
        """The group's scorer bundle (a folder)."""
        return self.path / "students" / group

    def job(self, group: str) -> Path:
        """Folder of the group's training job for a GPU machine, and of scripts that serve the student."""
        return self.path / "jobs" / group

    def cascade(self, source: str) -> Path:
        """Folder of a source's score sidecars after the cascade, one per shard."""
        return self.path / "cascade" / source

    def scores(self, source: str) -> Path:
        """Folder of a source's score sidecars, one per shard."""
        return self.path / "scores" / source

    def foreign(self, score: str, source: str) -> Path:
        """Folder of a foreign score's sidecars of one source, one per shard."""
        return self.path / "foreign" / score / source

    def dataman(self, source: str) -> Path:
        """Folder of a source's DataMan ratings, one file a shard."""
        return self.path / "dataman" / source

    def ppl(self, source: str) -> Path:
        """Folder of a source's bits per byte under a served language model, one file a shard."""
        return self.path / "ppl" / source

    def signatures(self, source: str) -> Path:
        """Folder of what duplicates and contamination are found by, one file a shard."""
        return self.path / "signatures" / source

    def flags(self, source: str) -> Path:
        """Folder of a source's flag sidecars, one per shard: duplicates and contamination."""
        return self.path / "flags" / source

    def written(self, source: str) -> Path:
        """Folder of marks of what workers wrote of the selection, one per shard."""
        return self.path / "written" / source

    def selection(self, source: str) -> Path:
        """Folder of a source's selection sidecars, one per shard."""
        return self.path / "selection" / source

    def selected(self, source: str) -> Path:
        """Folder of a source's kept records, in the input's format."""
        return self.path / "selected" / source
