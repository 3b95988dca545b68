"""What can be checked of the settings before anything is spent: files, groups, scorer bundles, endpoints."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mira import corpus
from mira.config.settings import Config, DiscoverSettings, DistillSettings, EndpointSettings, SourceSettings
from mira.corpus.provenance import check_provenance
from mira.distillation.bundle import verify
from mira.errors import ConfigError, MiraError, RunError, together
from mira.grouping.groups import load_groups
from mira.judging.prompt import records_of
from mira.llm.check import WARNING, check_endpoint
from mira.pipeline.deep import check_deep
from mira.pipeline.fingerprints import stage_files
from mira.pipeline.preflight import check_mask, check_teacher, select_warnings
from mira.pipeline.registry import STAGES, needed_stages
from mira.pipeline.runner import unwritable
from mira.rescoring.served import check_cascade, is_cascade
from mira.rubric.rubric import Rubric
from mira.run_folder.files import check_writable
from mira.run_folder.paths import RunFolder
from mira.selection.competing.gates import check_gates
from mira.selection.methods.method import find_method

__all__ = ["check_bundles", "validate"]


def validate(config: Config, *, deep: bool = False) -> Iterator[str]:
    """Check files, fields, bundles and endpoints; yield one line for each thing that is in order.

    An endpoint that answers, but says nothing of its models, is a line with a warning. What is wrong with one source
    does not keep the others from being checked.

    Nothing is written but what the index remembers of unchanged files, and nothing is generated.

    Args:
        config: The settings.
        deep: Read every source and every file of the run folder again, and compare them with the manifest.

    Raises:
        MiraError: Something is wrong; the message lists the problems of all sources, and of the settings beside them.
    """
    problems: list[MiraError] = []
    warnings = 0
    for line in _checks(config, problems, deep=deep):
        warnings += WARNING in line
        yield line
    if problems:
        raise together(problems)
    yield f"{warnings} warning(s), all else in order" if warnings else "all in order"


def _checks(config: Config, problems: list[MiraError], *, deep: bool) -> Iterator[str]:
    def check(lines: Iterable[str]) -> Iterator[str]:
        try:
            yield from lines
        except MiraError as problem:
            problems.append(problem)

    yield from check(_check_tokenizers(config))
    found, wrong = corpus.find_shards(config.corpus)
    problems.extend(wrong.values())
    for source, shards in found.items():
        yield from check(_check_source(config, config.source(source), shards))
    yield from check(_check_settings(config))
    if not problems:  # what follows reads the sources, or what the settings above name
        yield from check(_check_all(config, deep=deep))


def _check_source(config: Config, source: SourceSettings, found: list[corpus.Shard]) -> Iterator[str]:
    longest = config.max_record_bytes
    warning = corpus.check_fields(source, found, longest)
    record = corpus.peek(source, found, longest)
    yield f"source {source.name}: {len(found)} shard(s), first record {record.id!r} has {len(record.text):,} characters"
    yield f"source {source.name}: {corpus.described(source, config.run)}"
    if warning:
        yield f"source {source.name}: {WARNING}{warning}"


def _check_settings(config: Config) -> Iterator[str]:
    _check_run_folder(config.run)
    yield from check_bundles(config)
    if needed_stages(config) & {"discover", "label"}:
        check_teacher(config)
    check_mask(config.reliability, config.teacher, needed_stages(config))
    yield from _gates(config)
    rubrics = len(_groups(config) or {source.family for source in config.sources})
    yield from (f"select: {WARNING}{warning}" for warning in select_warnings(config.select, rubrics))


def _gates(config: Config) -> Iterator[str]:
    check_gates(config.select.gates, [source.name for source in config.sources])
    for gate in config.select.gates:
        where = ", ".join(gate.sources) or "every source"
        what = f"up to {100 * gate.drop:g}% of the tokens" if gate.drop is not None else f"values below {gate.min:g}"
        yield f"gate {gate.value}: drops {what} of {where}, whatever their quality"


def _check_all(config: Config, *, deep: bool) -> Iterator[str]:
    check_provenance(config.corpus, config.select)
    _check_files(config)
    if deep:
        yield from check_deep(config)
    yield from _check_endpoints(config)
    if not config.teacher.endpoint and config.teacher.replies:
        yield f"teacher: recorded replies in {config.teacher.replies}"
    if config.teacher.endpoint and needed_stages(config) & {"discover", "label"}:
        for family in sorted({source.family for source in config.sources}):
            words = records_of(family, config.discover.records)
            yield f"prompts: records of family {family} are described as '{words}'. Other words: discover.records"


def check_bundles(config: Config) -> Iterator[str]:
    """Check that groups in the settings exist, and that every scorer bundle is whole and scores by its group's rubric.

    Groups and rubrics are those of the run, or those that the settings give; what neither tells is not checked.

    Yields:
        One line a bundle that is in order.

    Raises:
        ConfigError: There is no such group, or a group lacks a bundle or an endpoint.
        InputError: A bundle is missing, damaged or unsafe, or its prompt is not the one that it was trained with.
        RunError: A bundle scores by another rubric than its group's.
    """
    distill = config.distill
    groups = _groups(config)
    named: dict[str, Mapping[str, object]] = {
        "discover.rubrics": config.discover.rubrics,
        "distill.bundles": distill.bundles,
        "distill.endpoints": distill.endpoints,
        "distill.cascade.bundles": distill.cascade.bundles,
    }
    for setting, given in named.items():
        _check_groups(setting, given, groups)
    rubrics = {
        group: _rubric(config.discover, RunFolder(config.run), group)
        for group in groups or {*distill.bundles, *distill.cascade.bundles}
    }
    if distill.student == "bundle":
        yield from _own_bundles(distill, rubrics)
    if is_cascade(config.distill, config.select):
        for group, folder in distill.cascade.bundles.items():
            verify(Path(folder))
            yield f"cascade, {group}: {folder} is whole"
        check_cascade(config.distill, rubrics)


def _own_bundles(settings: DistillSettings, rubrics: Mapping[str, Rubric | None]) -> Iterator[str]:
    for group, rubric in rubrics.items():
        folder = settings.bundles.get(group)
        if folder is None:
            raise ConfigError(f"distill.bundles has none for {group}", "Name a bundle for every group.")
        facts = verify(Path(folder))
        own = Rubric.load(Path(folder) / "rubric.jsonl", group)
        if rubric is not None and rubric.hash != own.hash:
            raise RunError(
                f"distill.bundles: {folder} scores by another rubric than {group}'s",
                f"Use the bundle's own: discover: {{rubrics: {{{group}: {Path(folder) / 'rubric.jsonl'}}}}}",
            )
        if facts["kind"] not in ("encoder", "head") and settings.endpoint_of(group) is None:
            raise ConfigError(
                f"distill.bundles: {folder} has to be served, but distill.endpoint does not say where",
                "Serve it, and add distill: {endpoint: {base_url: http://HOST:8000/v1, model: NAME}}.",
            )
        yield f"student of {group}: {folder} is whole"


def _groups(config: Config) -> list[str]:
    """Return the groups as far as they are known; none before the sources are clustered."""
    run = RunFolder(config.run)
    known = {group.name for group in load_groups(run)} if run.groups.is_file() else set()
    members = {source for sources in config.group.given.values() for source in sources}
    settled = known or {s.name for s in config.sources} == members
    return sorted(known | set(config.group.given)) if settled else []


def _check_groups(setting: str, given: Mapping[str, object], groups: list[str]) -> None:
    strange = [name for name in given if groups and name not in groups]
    if strange:
        raise ConfigError(
            f"{setting}: there is no group '{strange[0]}'; groups are {', '.join(groups)}",
            "Name one of these, or fix the groups with group.given.",
        )


def _rubric(settings: DiscoverSettings, run: RunFolder, group: str) -> Rubric | None:
    """Return the rubric that a group has or is to have; None where it is still to be discovered."""
    given, own = settings.rubrics.get(group), run.rubric(group)
    if given:
        return Rubric.load(Path(given), group)
    return Rubric.load(own, group) if own.is_file() else None


def _check_tokenizers(config: Config) -> Iterator[str]:
    asked = {f"{setting}.tokenizer": endpoint.tokenizer for setting, _, endpoint in _endpoints(config)}
    given = {"tokenizer": config.tokenizer} | asked
    for setting, name in given.items():
        try:
            corpus.tokenizer(name)
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error.message.removeprefix('tokenizer: ')}", error.hint) from None
    yield from ()


def _check_run_folder(run: Path) -> None:
    try:
        check_writable(run)
    except OSError as error:
        raise unwritable(run, error) from None


def _check_files(config: Config) -> None:
    """Read every file that the settings name, as a run does to see what has changed."""
    wanted = needed_stages(config) - {"index", "report"}
    for stage in STAGES:
        if stage.name in wanted:
            stage_files(stage, config, RunFolder(config.run))


def _endpoints(config: Config) -> list[tuple[str, str, EndpointSettings]]:
    """Return every endpoint that the settings would have asked: its setting, who answers there, and itself."""
    distill, select = config.distill, config.select
    methods = dict.fromkeys([select.method, *(gate.value for gate in select.gates)])
    given = [
        ("teacher.endpoint", "teacher", config.teacher.endpoint),
        ("distill.endpoint", "student", distill.endpoint),
        *((f"distill.endpoints.{group}", f"student of {group}", at) for group, at in distill.endpoints.items()),
        *((f"select.{name}.endpoint", name, find_method(name).endpoint(select)) for name in methods),
    ]
    return [(setting, name, endpoint) for setting, name, endpoint in given if endpoint]


def _check_endpoints(config: Config) -> Iterator[str]:
    for _, name, endpoint in _endpoints(config):
        if config.teacher.offline:
            yield f"{name}: not asked, because of teacher.offline"
            continue
        for line in check_endpoint(endpoint):
            yield f"{name}: {line}"
