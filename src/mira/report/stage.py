"""The stage: a run folder -> report.html."""

from collections.abc import Mapping
from typing import Any

from mira.config.settings import Config
from mira.corpus import database
from mira.errors import RunError
from mira.evaluation.audit.results import AuditResult
from mira.evaluation.pairs.results import PairsResult
from mira.grouping.groups import load_groups
from mira.progress import Log
from mira.report.actions import Given, actions
from mira.report.behind import disagreements, lines, verdicts
from mira.report.comparison import comparison_view
from mira.report.discovered import discovered
from mira.report.evaluation import evaluation_view
from mira.report.examples import examples
from mira.report.heatmap import heat_maps
from mira.report.overview import made_for_demo, overview
from mira.report.quality import panels
from mira.report.render import Page, render
from mira.report.review import review_view
from mira.report.spent import spent_rows
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json, write_bytes
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from mira.selection.stage import STAGE as SELECT
from mira.selection.yardstick.figures import Kept
from mira.stage import Stage, reads

__all__ = ["STAGE", "report"]


def report(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Write report.html: one page without scripts, links or anything else to load.

    Sections whose stage has not run are left out; only a selection is needed. The page depends on the run folder's
    content and the settings alone, so the same run gives the same bytes.

    Args:
        config: The settings.
        run: The run folder.
        log: Where progress goes.

    Returns:
        The page's size in bytes and the number of examples that it shows.

    Raises:
        RunError: Nothing was selected yet, or a stage's output is missing.
    """
    if not run.thresholds.is_file():
        raise RunError(f"{run.thresholds}: nothing is selected yet", "Run: mira select CONFIG")
    thresholds, manifest = read_json(run.thresholds), _read(run)
    kept = read_result(Kept, run.kept) if run.kept.is_file() else None
    groups = tuple(load_groups(run)) if run.groups.is_file() else ()
    group_of = {source: group.name for group in groups for source in group.sources}
    with log.task("report", total=3) as task, database.connect(run) as con:
        view = overview(
            config.corpus, run, thresholds, group_of, manifest,
            budget=config.select.budget, seed=config.seed, demo=made_for_demo(config.teacher),
        )  # fmt: skip
        task.advance()
        distributions = panels(con, run, view)
        task.advance()
        shown = examples(con, config.corpus, config.select, run, view.sources)
        rejected, differing = lines(con, run, view.sources), verdicts(con, run, view.sources)
        task.advance()
    page = render(
        Page(
            overview=view,
            panels=distributions,
            heat_maps=heat_maps(run, groups, manifest),
            rubrics=tuple(Rubric.load(run.rubric(g.name), g.name) for g in groups if run.rubric(g.name).is_file()),
            groups=groups,
            examples=shown,
            comparison=comparison_view(run),
            evaluation=evaluation_view(run),
            actions=actions(_given(config), run, view, manifest, kept or Kept()),
            spent=spent_rows(manifest, config.teacher, config.distill),
            discovered=discovered(run, groups, manifest),
            lines=rejected,
            disagreements=disagreements(run, groups),
            verdicts=differing,
            kept=kept,
            pairs=read_result(PairsResult, run.pairs) if run.pairs.is_file() else None,
            review=review_view(run),
            audit=read_result(AuditResult, run.audit) if run.audit.is_file() else None,
        )
    )
    write_bytes(run.report, page)
    return {"bytes": len(page), "examples": sum(len(s.kept) + len(s.dropped) for s in shown)}


def _given(config: Config) -> Given:
    return Given(
        teacher=config.teacher,
        label=config.label,
        reliability=config.reliability,
        student=config.distill.student,
        planted=config.evaluate.planted,
        max_record_bytes=config.max_record_bytes,
        length_controlled=config.select.length.control != "none",
        file_name=config.file_name,
        arguments=config.arguments,
    )


def _read(run: RunFolder) -> Mapping[str, Any]:
    if not run.manifest.is_file():
        return {}
    manifest: Mapping[str, Any] = read_json(run.manifest)
    return manifest


STAGE = Stage(
    name="report",
    version=5,
    run=report,
    needs=lambda config: (*SELECT.needs(config), SELECT.name),
    reads=reads(),
    settings=lambda _config: {},
    outputs=lambda run: [run.report],
)
