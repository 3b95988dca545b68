"""`mira validate --deep`: every byte of the corpus and of the run folder, against what the manifest recorded."""

from collections.abc import Iterator

from mira import corpus
from mira.config.settings import Config, CorpusSettings
from mira.errors import RunError
from mira.pipeline.manifest import read_manifest
from mira.pipeline.outputs import changed, digest_of, load_sums, measure
from mira.pipeline.registry import STAGES
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder

__all__ = ["check_deep"]


def check_deep(config: Config) -> Iterator[str]:
    """Read every source and every file of the stages again and compare their hashes; yield one line a stage in order.

    Raises:
        RunError: Something differs; names every stage and the first files.
    """
    run = RunFolder(config.run)
    stages = read_manifest(run)["stages"]
    if not stages:
        yield "nothing has run yet, so nothing can be compared"
        return
    wrong: list[str] = []
    if "index" in stages:
        wrong += _sources(config.corpus, stages["index"]["inputs"]["files"])
        yield "sources: read again"
    for stage in STAGES:
        if stage.name not in stages:
            continue
        found = measure(run, stage.outputs(run), read=True)
        if digest_of(found) == stages[stage.name]["digest"]:
            yield f"{stage.name}: {len(found):,} files are as they were written"
            continue
        names = changed(load_sums(run, stage.name) or {}, found)
        more = ", ..." if len(names) > 3 else ""
        wrong.append(f"{stage.name}: {', '.join(names[:3])}{more}")
    if wrong:
        raise RunError(
            f"{run.path}: not as it was written: {'; '.join(wrong)}",
            "mira run makes the files of the run folder anew; a changed source is indexed and scored again.",
        )


def _sources(settings: CorpusSettings, recorded: dict[str, str]) -> Iterator[str]:
    for source, found in corpus.shards(settings, again=True).items():
        known = recorded.get(f"source {source}")
        if known is not None and known != hash_json([[s.name, s.fingerprint] for s in found]):
            yield f"source '{source}' has changed"
