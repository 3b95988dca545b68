"""`mira validate` and `mira plan` over a finished project whose settings name served students and scorer bundles."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import mira
from mira.cli.app import app
from mira.config.loading import load_config
from mira.config.settings import SelectSettings
from mira.distillation.bundle import seal
from mira.errors import ConfigError, MiraError
from mira.pipeline.plan import PlannedStage, plan
from mira.pipeline.preflight import select_warnings
from mira.pipeline.runner import run_stages
from mira.pipeline.validate import validate
from mira.progress import Quiet
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json, write_json
from mira.run_folder.paths import RunFolder
from support.served_case import Server, serving, sft_bundle

A, B = GROUPS = ("text_group_A", "text_group_B")


@pytest.fixture
def served(done: Path) -> Iterator[tuple[Path, dict[str, Server]]]:
    """The project, with an sft bundle a group in bundles/, and a server of each."""
    run = RunFolder(done / "run")
    with ExitStack() as stack:
        servers = {}
        for group in GROUPS:
            rubric = Rubric.load(run.rubric(group), group)
            sft_bundle(done / "bundles" / group, rubric)
            servers[group] = stack.enter_context(serving(lambda user: len(user) % 11, rubric))
        yield done, servers


def _overrides(project: Path, servers: dict[str, Server], **more: object) -> list[str]:
    endpoints = {
        group: {
            "base_url": server.url, "model": "m", "price_in": price, "price_out": 10 * price, "max_model_len": 60000,
        }
        for price, (group, server) in enumerate(servers.items(), 1)
    }  # fmt: skip
    bundles = {group: str(project / "bundles" / group) for group in GROUPS}
    settings = {"distill.endpoints": endpoints, "distill.cascade.bundles": bundles} | more
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]


def _refusal(project: Path, overrides: list[str]) -> str:
    """Return what both verbs refuse the settings with."""
    config = load_config(project / "mira.yaml", overrides)
    with pytest.raises(MiraError) as planned:
        plan(config, Quiet())
    with pytest.raises(MiraError) as validated:
        list(validate(config))
    assert str(planned.value) == str(validated.value)
    return str(planned.value)


def _planned(project: Path, overrides: list[str], name: str) -> PlannedStage:
    return next(p for p in plan(load_config(project / "mira.yaml", overrides), Quiet()) if p.name == name)


def test_a_cascade_in_order_is_validated_and_planned(served: tuple[Path, dict[str, Server]]) -> None:
    project, servers = served
    overrides = _overrides(project, servers)
    lines = list(validate(load_config(project / "mira.yaml", overrides)))
    for group, server in servers.items():
        assert f"cascade, {group}: {project / 'bundles' / group} is whole" in lines
        assert f"student of {group}: {server.url} serves m" in lines
    assert lines[-1] == "all in order"
    assert not any(server.requests for server in servers.values()), "nothing is generated"

    planned = _planned(project, overrides, "cascade")
    assert planned.calls == 3 * 14, "of 120 records a source, 10% near the threshold and 1% of the others"
    assert planned.tokens_out == planned.calls * 600
    of_a = _planned(project, [*overrides, "distill.cascade.share=0", "distill.cascade.audit=0"], "cascade")
    assert (of_a.calls, of_a.cost) == (0, 0)
    options = [part for override in overrides for part in ("--set", override)]
    result = CliRunner().invoke(app, ["plan", str(project / "mira.yaml"), *options], catch_exceptions=False)
    assert re.search(r"cascade .* 42 ", result.stdout), result.stdout
    result = CliRunner().invoke(app, ["cascade", str(project / "mira.yaml"), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    asked = sum(len(server.requests) for server in servers.values())
    assert 0.4 * planned.calls <= asked <= 1.2 * planned.calls, "the estimate is of the right size"


def test_each_groups_calls_are_planned_at_its_own_price(served: tuple[Path, dict[str, Server]]) -> None:
    project, servers = served
    overrides = _overrides(project, servers)
    run, config = RunFolder(project / "run"), load_config(project / "mira.yaml", overrides)
    sources = read_json(run.manifest)["stages"]["index"]["summary"]["sources"]
    cost = tokens = 0.0
    for group in read_json(run.groups)["groups"]:
        price = config.distill.endpoints[group["name"]].price_in
        for source in group["sources"]:
            read = 14 * (min(sources[source]["tokens"] / 120, 60000) + 3150)
            tokens += read
            cost += price * (read + 10 * 14 * 600) / 1e6
    planned = _planned(project, overrides, "cascade")
    assert planned.tokens_in == pytest.approx(tokens, abs=3)
    assert planned.cost == pytest.approx(cost)
    everything = _planned(project, [*overrides, "distill.cascade.errors=2"], "cascade")
    assert everything.calls == 360
    assert everything.state.startswith("at most")
    unpriced = _overrides(project, servers)
    unpriced[0] = unpriced[0].replace('"price_in": 2', '"price_in": 0').replace('"price_out": 20', '"price_out": 0')
    assert _planned(project, unpriced, "cascade").cost is None


def test_what_is_wrong_with_a_cascade_is_told_before_anything_is_asked(served: tuple[Path, dict[str, Server]]) -> None:
    project, servers = served
    bundles = {group: str(project / "bundles" / group) for group in GROUPS}

    def refusal(**settings: object) -> str:
        return _refusal(project, _overrides(project, servers, **settings))

    for setting in ("distill.cascade.bundles", "distill.endpoints", "distill.bundles", "discover.rubrics"):
        value: object = {"base_url": servers[A].url, "model": "m"} if setting == "distill.endpoints" else "folder"
        said = refusal(**{setting: {"text_group_Z": value}})
        assert f"{setting}: there is no group 'text_group_Z'; groups are {A}, {B}" in said
    one = {A: {"base_url": servers[A].url, "model": "m"}}
    assert f"the cascade needs a served student for {B}" in refusal(**{"distill.endpoints": one})
    assert "not a scorer bundle" in refusal(**{"distill.cascade.bundles": bundles | {A: str(project / "nowhere")}})
    swapped = {A: bundles[B], B: bundles[A]}
    assert "scores by another rubric than" in refusal(**{"distill.cascade.bundles": swapped})
    encoder = {A: str(project / "run" / "students" / A)}
    assert "a bundle of kind 'encoder', expected 'sft'" in refusal(**{"distill.cascade.bundles": encoder})
    weights = Path(bundles[A]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "model.safetensors: content differs from SHA256SUMS" in refusal()
    seal(Path(bundles[A]))
    facts = read_json(Path(bundles[A]) / "bundle.json")
    write_json(Path(bundles[A]) / "bundle.json", facts | {"prompt": "another"})
    seal(Path(bundles[A]))
    assert "trained with prompt another" in refusal()
    assert not any(server.requests for server in servers.values())


def test_a_dead_endpoint_of_one_group_is_told(served: tuple[Path, dict[str, Server]]) -> None:
    project, servers = served
    dead = {A: {"base_url": servers[A].url, "model": "m"}, B: {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}
    overrides = _overrides(project, servers, **{"distill.endpoints": dead})
    with pytest.raises(MiraError, match=r"http://127\.0\.0\.1:9/v1: cannot be reached"):
        list(validate(load_config(project / "mira.yaml", overrides)))
    offline = list(validate(load_config(project / "mira.yaml", [*overrides, "teacher.offline=true"])))
    assert f"student of {B}: not asked, because of teacher.offline" in offline


def test_an_endpoint_without_a_list_of_models_is_not_in_order(served: tuple[Path, dict[str, Server]]) -> None:
    project, servers = served
    nowhere = {g: {"base_url": f"{server.url}/elsewhere", "model": "m"} for g, server in servers.items()}
    overrides = _overrides(project, servers, **{"distill.endpoints": nowhere})
    lines = list(validate(load_config(project / "mira.yaml", overrides)))
    assert lines[-1] == "2 warning(s), all else in order"
    assert sum("warning: " in line for line in lines) == 2


def test_own_bundles_are_checked(served: tuple[Path, dict[str, Server]]) -> None:
    project, _ = served
    students = {group: str(project / "run" / "students" / group) for group in GROUPS}

    def settings(bundles: dict[str, str]) -> list[str]:
        return ["distill.student=bundle", f"distill.bundles={json.dumps(bundles)}"]

    lines = list(validate(load_config(project / "mira.yaml", settings(students))))
    assert f"student of {B}: {students[B]} is whole" in lines
    assert f"distill.bundles has none for {B}" in _refusal(project, settings({A: students[A]}))
    assert "another rubric" in _refusal(project, settings({A: students[B], B: students[A]}))
    assert "has to be served" in _refusal(project, settings(students | {B: str(project / "bundles" / B)}))


def test_files_that_the_settings_name_are_read(project: Path) -> None:
    for override in ("teacher.replies=gone.jsonl", "discover.rubrics.text_group_A=gone.jsonl"):
        with pytest.raises(MiraError, match=r"gone\.jsonl: .*No such file or directory"):
            list(validate(load_config(project / "mira.yaml", [override])))
    assert not (project / "run" / "manifest.json").exists()


def test_a_tokenizer_that_there_is_not_is_told(project: Path) -> None:
    def said(*overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            list(validate(load_config(project / "mira.yaml", overrides)))
        return str(caught.value)

    assert said("tokenizer=qwen4").startswith("tokenizer: 'qwen4' is not known; did you mean qwen3?")
    endpoint = "teacher.endpoint={base_url: http://127.0.0.1:9/v1, model: m, tokenizer: qwen4}"
    assert said(endpoint).startswith("teacher.endpoint.tokenizer: 'qwen4' is not known")


def test_a_provenance_field_that_records_have_is_told_before_anything_is_spent(project: Path) -> None:
    settings = "select.provenance_field=source"
    expected = r"select.provenance_field: the records of source 'release_notes' have a field 'source' already"
    with pytest.raises(ConfigError, match=expected + r" \(.*release_notes.jsonl:1\)"):
        list(validate(load_config(project / "mira.yaml", [settings])))
    with pytest.raises(ConfigError, match=expected):
        run_stages(load_config(project / "mira.yaml", [settings]))
    assert not (project / "run" / "manifest.json").exists(), "nothing was done"
    unwritten = load_config(project / "mira.yaml", [settings, "select.write_selected=false"])
    assert list(validate(unwritten))[-1] == "all in order"


def test_a_provenance_column_of_a_table_is_told(project: Path) -> None:
    rows = [json.loads(line) for line in (project / "examples.jsonl").read_text().splitlines()]
    pq.write_table(
        pa.table({"text": [r["text"] for r in rows], "unread": list(range(len(rows)))}), project / "e.parquet"
    )
    overrides = ["sources=[{name: e, path: e.parquet}]", "group.given={}", "discover.rubrics={}"]
    free = load_config(project / "mira.yaml", [*overrides, "select.method=random", "select.scope=source"])
    assert list(validate(free))[-1] == "all in order"
    taken = free.model_copy(update={"select": free.select.model_copy(update={"provenance_field": "unread"})})
    with pytest.raises(ConfigError, match=r"source 'e' have a field 'unread' already \(.*e\.parquet\)"):
        list(validate(taken))


def test_problems_of_all_sources_come_in_one_pass(tmp_path: Path) -> None:
    rows = {
        "good": {"text": "A sentence that is long enough."},
        "nested": {"doc": {"body": "A sentence that is long enough."}},
        "wrong": {"text": ["A sentence that is long enough."]},
        "pairs": {"title": "Why is it so?", "reply": "Because a sentence is long enough."},
    }
    for name, row in rows.items():
        lines = [json.dumps(row).replace("enough", f"enough {i}").replace("so?", f"so {i}?") for i in range(5)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    sources = [
        "{name: gone, path: gone.jsonl}", "{name: good, path: good.jsonl}", "{name: nested, path: nested.jsonl}",
        "{name: wrong, path: wrong.jsonl}", "{name: pairs, path: pairs.jsonl, family: qa}",
        "{name: typo, path: good.jsonl, fields: {txt: text}}",
    ]  # fmt: skip
    (tmp_path / "mira.yaml").write_text(
        "tokenizer: qwen4\nselect: {method: random}\nsources:\n- " + "\n- ".join(sources)
    )
    result = CliRunner().invoke(app, ["validate", str(tmp_path / "mira.yaml")])
    assert "source good: 1 shard(s)" in result.output
    said = str(result.exception)
    assert said.startswith("6 problems:\n1. tokenizer: 'qwen4' is not known")
    for expected in (
        "source 'gone': path '",
        "source 'nested': field 'text' is missing",
        "Map it with fields: {text: doc.body}",
        "source 'wrong': every record is rejected",
        "First: " + str(tmp_path / "wrong.jsonl") + ":1: field 'text' is a list",
        "Map it with fields: {text: text.0}",
        "source 'pairs': field 'question' is missing",
        "Map it with fields: {question: title, answer: reply}",
        "source 'typo': fields: family text has no field 'txt'; did you mean text?",
    ):
        assert expected in said, said
    assert said.count("source '") == 5, "one problem a source"
    with pytest.raises(MiraError, match=r"^6 problems:"):
        mira.validate(tmp_path / "mira.yaml")


def test_settings_that_compare_what_cannot_be_compared_are_a_warning() -> None:
    warned = list(select_warnings(SelectSettings(scope="global"), 2))
    assert len(warned) == 1 and "2 or more rubrics under one threshold" in warned[0]
    assert not list(select_warnings(SelectSettings(scope="global"), 1))
    assert not list(select_warnings(SelectSettings(compare_by="shared"), 3))
    (warning,) = select_warnings(SelectSettings(method="random", compare_by="shared"), 2)
    assert warning == "compare_by: shared has no effect: method random has no slots"
