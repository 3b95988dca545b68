"""Scores records through an endpoint and writes one sidecar: the process that the kill test kills."""

from pathlib import Path

from mira.config.settings import EndpointSettings
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import JudgeTask
from mira.judging.prompt import build_prompt
from mira.llm.journal.journal import Journal
from mira.rubric.judgement import judgements_table
from mira.run_folder.files import write_parquet
from support.fault_server import N_SLOTS, record, rubric


def score(url: str, folder: Path, records: int, concurrency: int) -> None:
    settings = EndpointSettings(base_url=url, model="fake", max_concurrency=concurrency)
    with Journal(folder / "journal") as journal:
        judge = EndpointJudge(settings, rubric(), build_prompt(rubric()), journal)
        judgements = sorted(judge.judge(JudgeTask(record(i)) for i in range(records)), key=lambda j: j.id)
        write_parquet(folder / "scores.parquet", judgements_table(judgements, N_SLOTS))
