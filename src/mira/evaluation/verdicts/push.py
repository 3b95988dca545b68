"""Copying a scorer bundle elsewhere, with what an evaluation of its run says of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mira.distillation import bundle as bundles
from mira.evaluation.results import EvaluationResult
from mira.evaluation.verdicts.verdict import NOT_EVALUATED, Verdict
from mira.run_folder.files import hash_file, write_bytes, write_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from mira.run_folder.working_copy import fetch, refresh

__all__ = ["FIELD", "push"]

FIELD = "evaluation"
"""Field of bundle.json with the verdict on the student."""
_CARD = "README.md"
_TITLE = "## What quality is not"
_LIMITS = (
    "A high score says that the teacher would like the record, as far as this student can tell. It does not say that "
    "the record is right. Shares are those of pairs in which an original scores higher than its spoiled copy; guessing "
    "has 50%."
)


def push(bundle: Path, target: str, *, private: bool = True) -> str:
    """Copy a bundle to a folder or a hub repository, with the verdict of its run's evaluation.

    The verdict goes into bundle.json, as the field `evaluation`, and onto the card. A bundle of a run without a verdict
    on it says that it was not evaluated; one from elsewhere keeps what it says.

    Args:
        bundle: The bundle; it stays as it is.
        target: A folder, a URL that can be written to, or `hf://owner/name`.
        private: Whether a new hub repository is private.

    Returns:
        Where the bundle is now.

    Raises:
        MiraError: The bundle is damaged or unsafe, the target is taken, or the hub cannot be reached.
    """
    bundles.check_target(target, private=private)
    refresh(bundle)
    found = _verdict(bundle)
    facts = bundles.read_bundle(bundle)
    if found is None and FIELD in facts:
        return bundles.push(bundle, target, private=private)
    if (bundle / bundles.SUMS).is_file():
        bundles.verify(bundle)
    with _copied(bundle) as copy:
        told = asdict(found or Verdict())
        write_json(copy / "bundle.json", facts | {FIELD: told})
        write_bytes(copy / _CARD, _card(copy / _CARD, facts, found or Verdict()).encode())
        bundles.seal(copy)
        return bundles.push(copy, target, private=private)


def _verdict(bundle: Path) -> Verdict | None:
    """Return what the run that a bundle lies in says of this very student; None if nothing."""
    folder = bundle.absolute()
    run = RunFolder(folder.parent.parent)
    sums = folder / bundles.SUMS
    if folder != run.student(folder.name) or not run.evaluation.is_file() or not sums.is_file():
        return None
    digest = hash_file(sums)
    verdicts = read_result(EvaluationResult, run.evaluation).verdicts
    return next((found for found in verdicts.values() if found.student == digest), None)


@contextmanager
def _copied(bundle: Path) -> Iterator[Path]:
    """Yield a copy of a bundle beside it; large files are shared with it where the file system allows that."""
    fetch([bundle])
    copy = bundle.with_name(f".{bundle.name}.push")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(bundle, copy, copy_function=_link)
        for name in ("bundle.json", _CARD, bundles.SUMS):  # written anew, so they must not be shared
            (copy / name).unlink(missing_ok=True)
            if (bundle / name).is_file():
                shutil.copy2(bundle / name, copy / name)
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _card(path: Path, facts: dict[str, object], verdict: Verdict) -> str:
    group = facts.get("group") or path.parent.name
    card = path.read_text(encoding="utf-8") if path.is_file() else f"# {group}: a scorer of kind {facts['kind']}\n"
    before = card.partition(f"\n{_TITLE}\n")[0].rstrip()
    rows = [
        f"| {name.replace('_', ' ')} | {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] | {share.pairs} | "
        f"{share.words} |"
        for name, share in verdict.faults.items()
    ]
    table = ["| fault | original higher | pairs | |", "| --- | --- | --- | --- |", *rows] if rows else []
    first = verdict.text if verdict.text == NOT_EVALUATED else f"This student {verdict.text}."
    return "\n".join([before, "", _TITLE, "", first, "", _LIMITS, "", *table]).rstrip() + "\n"
