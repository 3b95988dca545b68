"""A small run folder with everything that the report reads, made from plain values, and a reader of its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import Config
from mira.corpus import build_index, shards
from mira.progress import Quiet
from mira.reliability.stage import RELIABILITY_SCHEMA
from mira.report import report
from mira.rubric.judgement import Judgement, Recommendation, judgements_table
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.run_folder.files import write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.selection.stage import select

SLOTS = 4
GROUPS = {"text_group_A": ["ant", "bee"], "text_group_B": ["cat"]}
FIGURES = {
    "n": 50, "n_held_out": 10, "mae": 0.5, "rho": 0.72, "rho_low": 0.61, "rho_high": 0.8, "ceiling": 0.9,
    "rho_held_out": 0.7, "mae_held_out": 0.55, "mae_constant": 1.1, "skill": 0.54, "spread_teacher": 1.5,
    "spread_student": 1.2, "level": "cell", "n_evidence": 50, "n_pairs": 20,
}  # fmt: skip


@dataclass
class Project:
    """Sources of (id, text, scores); every `label_every`-th record is labelled."""

    folder: Path
    texts: Mapping[str, Sequence[str]]
    scores: Mapping[str, Any]  # source -> (records, SLOTS)
    word: str = "plain"  # put into every text that the teacher writes, and into ids
    lines: Mapping[str, Sequence[bytes]] = field(default_factory=dict)  # broken lines at the end of a source
    label_every: int = 3
    masked: Sequence[tuple[str, str]] = (("bee", "A2"),)

    def __post_init__(self) -> None:
        self.run = RunFolder(self.folder / "run")
        for source, texts in self.texts.items():
            path = self.folder / f"{source}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [orjson.dumps({"id": self.id(source, i), "text": t}) for i, t in enumerate(texts)]
            path.write_bytes(b"".join(row + b"\n" for row in [*rows, *self.lines.get(source, ())]))
        build_index(self.config(), self.run, Quiet())
        self._groups()
        for source in self.texts:
            self._scores(source)
        for group, sources in self.groups.items():
            write_parquet(self.run.labels(group), self._labels(sources))
        self._reliability()

    @property
    def groups(self) -> dict[str, list[str]]:
        found = {g: [s for s in sources if s in self.texts] for g, sources in GROUPS.items()}
        return {g: sources for g, sources in found.items() if sources}

    def id(self, source: str, i: int) -> str:
        return f"{source}-{i:03d}-{self.word}"

    def config(self, **settings: Any) -> Config:
        sources = [{"name": s, "path": str(self.folder / f"{s}.jsonl")} for s in self.texts]
        value = {"run": self.run.path, "tokenizer": "cl100k_base", "sources": sources, "select": settings}
        return Config.model_validate(value)

    def _groups(self) -> None:
        named = [
            {"name": g, "family": "text", "sources": s, "cosines": [[s[0], s[-1], 0.875]] if len(s) > 1 else []}
            for g, s in self.groups.items()
        ]
        write_json(self.run.groups, {"groups": named})
        for group in self.groups:
            Rubric(group, tuple(self._anchor(i) for i in range(SLOTS))).save(self.run.rubric(group))

    def _anchor(self, i: int) -> Anchor:
        reason = f"reason {i} {self.word}"
        point = Reference(f"r{i}{self.word}", 2.5 + i, reason, "ant", f"dimension {self.word}")
        names = (f"near {i} {self.word}",)
        return Anchor(f"A{i + 1}", f"Name {i} {self.word}", 90 - i, point, names, (point, point), 0.625)

    def _scores(self, source: str) -> None:
        for shard in shards(self.config().corpus)[source]:
            index = pq.read_table(self.run.index(source) / f"{shard.name}.parquet")
            valid = index.filter(pa.compute.is_null(index["reason_rejected"]))
            doubled = pq.read_table(self.run.index(source) / "duplicates.parquet")["row"].combine_chunks()
            valid = valid.filter(pa.compute.invert(pa.compute.is_in(valid["row"], value_set=doubled)))
            columns: dict[str, Any] = {name: valid[name] for name in ("row", "id", "n_tokens")}
            found = np.asarray(self.scores[source], dtype=np.float32)
            for j in range(SLOTS):
                columns[f"A{j + 1}"] = pa.array(found[: len(valid), j])
            columns["reason_unscored"] = pa.nulls(len(valid), pa.string())
            write_parquet(self.run.scores(source) / f"{shard.name}.parquet", pa.table(columns))

    def _labels(self, sources: Sequence[str]) -> pa.Table:
        found = [
            Judgement(
                id=self.id(source, i),
                source=source,
                scores=(7.5,) * SLOTS,
                rationales=tuple(f"rationale {source} {i} A{j + 1} {self.word}" for j in range(SLOTS)),
                overall=64,
                recommendation=Recommendation.DOWNSAMPLE,
                brief=f"brief {source} {i} {self.word}",
            )
            for source in sources
            for i in range(0, len(self.texts[source]), self.label_every)
        ]
        table = judgements_table(found, SLOTS)
        n = pa.array([1] * len(table), pa.int32())
        return table.append_column("n_tokens", n).append_column("split", pa.array(["train"] * len(table)))

    def _reliability(self) -> None:
        rows = []
        for group, sources in self.groups.items():
            for source in sources:
                for j in range(SLOTS):
                    slot, out = f"A{j + 1}", (source, f"A{j + 1}") in self.masked
                    why = f"weak ranking: {self.word}" if out else None
                    cell = {"group": group, "source": source, "slot": slot, "name": f"Name {j} {self.word}"}
                    rows.append({**cell, **FIGURES, "masked": out, "why": why})
        write_parquet(self.run.reliability, pa.Table.from_pylist(rows, schema=RELIABILITY_SCHEMA))

    def select(self, **settings: Any) -> dict[str, Any]:
        return select(self.config(write_selected=False, **settings), self.run, Quiet())

    def report(self, **settings: Any) -> "PageReader":
        report(self.config(write_selected=False, **settings), self.run, Quiet())
        return PageReader(self.run.report.read_text(encoding="utf-8"))


def project(
    folder: Path, records: int = 30, sources: Sequence[str] = ("ant", "bee", "cat"), **settings: Any
) -> Project:
    """Records of growing length and rising scores; source by source a little higher."""
    texts = {s: [f"{s} record {i} " + "word " * (5 + i) for i in range(records)] for s in sources}
    base = np.linspace(1, 9, records)[:, None] + np.linspace(0, 0.4, SLOTS)
    return Project(folder, texts, {s: base + 0.1 * k for k, s in enumerate(sources)}, **settings)


class PageReader(HTMLParser):
    """The page as a parser sees it: elements in order, their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = page
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.comments: list[str] = []
        self.pieces: list[str] = []
        self.style = ""
        self.feed(page)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "style":
            self.style += data
        else:
            self.pieces.append(data)

    def values(self, tag: str, name: str) -> list[str | None]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]
