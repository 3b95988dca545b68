"""A group's student, whatever its kind, as a judge."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mira.config.settings import DiscoverSettings, DistillSettings, EndpointSettings, StudentSettings
from mira.distillation.bundle import read_bundle, seal
from mira.distillation.encoder.student import EncoderStudent
from mira.distillation.head.served import ServedHead
from mira.distillation.head.student import HeadStudent, way_to_score
from mira.distillation.sft.student import served_student
from mira.embedding import load_embedder
from mira.errors import ConfigError, RunError
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import Judge
from mira.judging.prompt import Prompt, build_prompt
from mira.judging.windows import WindowedJudge
from mira.llm.cost import current_spending
from mira.llm.journal.journal import Journal
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_json, read_json, write_json
from mira.run_folder.paths import RunFolder

__all__ = ["open_student", "released_prompt", "runs_here", "student_kind", "write_endpoint_bundle"]

ENCODER, HEAD, SFT, ENDPOINT = "encoder", "head", "sft", "endpoint"


def student_kind(run: RunFolder, group: str) -> str:
    """Return the kind of a group's student: "encoder", "head", "sft" or "endpoint".

    Raises:
        RunError: The group has no student yet.
    """
    try:
        return str(read_json(run.student(group) / "bundle.json")["kind"])
    except FileNotFoundError:
        raise RunError(f"{run.student(group)}: there is no student yet", "Run: mira distill CONFIG") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(
            f"{run.student(group) / 'bundle.json'}: damaged", "Run: mira distill CONFIG, or mira adopt for a tuned one"
        ) from None


def runs_here(settings: DistillSettings, run: RunFolder, group: str) -> bool:
    """Tell whether a group's student computes on this machine's cores, so that several processes go faster than one."""
    kind = student_kind(run, group)
    if kind == HEAD and settings.endpoint_of(group) is None:
        return way_to_score(run.student(group), settings.head.scoring) != "cuda"
    return kind == ENCODER


@contextmanager
def open_student(settings: StudentSettings, run: RunFolder, group: str, log: Log) -> Iterator[Judge]:
    """Open a group's student and close what it holds.

    With `distill.windows`, it judges long records in windows; an encoder does so where it was trained on them.

    Raises:
        MiraError: The bundle is damaged, or the endpoint is not configured.
    """
    folder, kind = run.student(group), student_kind(run, group)
    if kind == ENCODER:
        # A built-in embedder is loaded by the student where its features need it; another one is known here only.
        other = settings.embedding.model not in ("minilm", "static") and read_bundle(folder).get("embedder")
        embedder = load_embedder(settings.embedding, threads=1) if other else None
        yield EncoderStudent.load(folder, embedder)
        return
    with _open_other(settings, run, group, log) as judge:
        windows = settings.distill.windows
        yield WindowedJudge(judge, windows) if windows else judge


@contextmanager
def _open_other(settings: StudentSettings, run: RunFolder, group: str, log: Log) -> Iterator[Judge]:
    folder, kind = run.student(group), student_kind(run, group)
    endpoint = settings.distill.endpoint_of(group)
    if kind == HEAD and endpoint is None:
        yield HeadStudent(folder, settings.distill.head.scoring)
        return
    if endpoint is None:
        raise ConfigError(
            f"{folder} is a served student, but distill.endpoint does not say where it is served",
            "Serve it, and add distill: {endpoint: {base_url: http://HOST:8000/v1, model: NAME}}.",
        )
    spending = current_spending(settings.teacher)
    offline = settings.teacher.offline
    with Journal(run.journal, "student") as journal:
        if kind == HEAD:
            yield ServedHead(folder, endpoint, journal, spending=spending, offline=offline, log=log)
        elif kind == SFT:
            yield served_student(folder, endpoint, journal, spending=spending, offline=offline, log=log)
        else:
            rubric = Rubric.load(folder / "rubric.jsonl", group)
            prompt = released_prompt(rubric, settings.discover, endpoint)
            yield EndpointJudge(endpoint, rubric, prompt, journal, spending=spending, offline=offline, log=log)


def released_prompt(rubric: Rubric, discover: DiscoverSettings, endpoint: EndpointSettings) -> Prompt:
    """Return the prompt of a released scorer: the run's rubric, asked at an endpoint."""
    return build_prompt(rubric, corpus=discover.corpus, records=discover.records, slot_order=endpoint.slot_order)


def write_endpoint_bundle(folder: Path, rubric: Rubric, settings: EndpointSettings | None) -> None:
    """Write and seal the bundle of a student that is served elsewhere: its rubric, and what its answers depend on."""
    assert settings is not None, "the settings are checked when they are loaded"
    beside = {"api_key_env", "api_key_header", "headers", "price_in", "price_out", "shared_by"}
    answers = settings.model_dump(mode="json", exclude=beside)
    rubric.save(folder / "rubric.jsonl")
    facts = {"kind": ENDPOINT, "group": rubric.group, "rubric": rubric.hash, "endpoint": hash_json(answers)}
    write_json(folder / "bundle.json", facts)
    seal(folder)


def served_endpoints(
    settings: DistillSettings, groups: Mapping[str, str], sources: Iterable[str]
) -> dict[str, EndpointSettings | None]:
    """Return source -> the endpoint that scores its records; None where a student here does.

    Before groups are known, the first endpoint of a group stands for all.

    Args:
        settings: What the students are, and where they are served.
        groups: Source -> group, as far as it is known (`known_groups`).
        sources: The sources to tell of.
    """
    first = next(iter(settings.endpoints), "")
    return {source: _served(settings, groups.get(source, first)) for source in sources}


def _served(distill: DistillSettings, group: str) -> EndpointSettings | None:
    if distill.student == ENCODER:
        return None
    own = distill.bundles.get(group)
    folders = [own] if own else list(distill.bundles.values())
    if distill.student == "bundle" and all(read_bundle(Path(f))["kind"] == ENCODER for f in folders):
        return None
    return distill.endpoint_of(group)
