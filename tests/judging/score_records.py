"""Scores records through an endpoint and writes one sidecar: the process that the kill test kills."""

from pathlib import Path

from judging.fault_server import N_SLOTS, record, rubric
from mira.config import EndpointSettings
from mira.files import write_parquet
from mira.judging.endpoint import EndpointJudge
from mira.judging.journal import Journal
from mira.judging.judge import JudgeTask
from mira.judging.judgement import judgements_table
from mira.judging.prompt import build_prompt


def score(url: str, folder: Path, records: int, concurrency: int) -> None:
    settings = EndpointSettings(base_url=url, model="fake", max_concurrency=concurrency)
    with Journal(folder / "journal") as journal:
        judge = EndpointJudge(settings, rubric(), build_prompt(rubric()), journal)
        judgements = sorted(judge.judge(JudgeTask(record(i)) for i in range(records)), key=lambda j: j.id)
        write_parquet(folder / "scores.parquet", judgements_table(judgements, N_SLOTS))
