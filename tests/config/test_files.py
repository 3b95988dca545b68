"""Settings files that include others: what wins, where relative paths lead, and what messages blame."""

from pathlib import Path

import pytest

from mira.config.loading import config_from, load_config
from mira.config.settings import Config
from mira.errors import ConfigError
from mira.pipeline.fingerprints import stage_settings
from mira.pipeline.registry import STAGES

BASE = """\
seed: 7
sources:
  - {name: docs, path: data/docs.jsonl, fields: {text: body}}
  - {name: wiki.v1, path: [data/wiki/*.jsonl, "s3://bucket/wiki"], language: en}
teacher: {replies: replies.jsonl, failure_budget: 2%}
flags: {benchmarks: [{name: gsm8k, path: bench/gsm8k.jsonl}]}
select: {budget: 25%, source_max: {docs: 10%}}
"""


def _write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "mira.yaml"


def _problem(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_what_comes_later_wins_and_paths_belong_to_their_file(tmp_path: Path) -> None:
    main = _write(
        tmp_path,
        shared__base=BASE,
        shared__more="select: {budget: 30%, scope: global}\nseed: 8\n",
        mira="include: [shared/base.yaml, shared/more.yaml]\nseed: 9\n"
        "sources:\n  - {name: docs, path: own.jsonl}\n  - {name: qa, path: qa.jsonl, family: qa}\n"
        "flags: {benchmarks: []}\nteacher: {free_judgments: free.jsonl}\n",
    )
    config = load_config(main)
    assert (config.seed, config.select.scope, str(config.select.budget)) == (9, "global", "30%")
    assert config.run == tmp_path / "run"
    assert [s.name for s in config.sources] == ["docs", "wiki.v1", "qa"]
    docs, wiki, qa = config.sources
    assert docs.path == str(tmp_path / "own.jsonl")
    assert docs.fields == {"text": "body"}, "what the later file does not name stays"
    assert wiki.path == [str(tmp_path / "shared/data/wiki/*.jsonl"), "s3://bucket/wiki"]
    assert qa.path == str(tmp_path / "qa.jsonl")
    assert config.teacher.replies == str(tmp_path / "shared/replies.jsonl")
    assert config.teacher.free_judgments == str(tmp_path / "free.jsonl")
    assert config.teacher.failure_budget == 0.02
    assert config.flags.benchmarks == [], "an empty list replaces"
    assert config.include == []


def test_stages_see_the_merged_settings_and_not_how_they_were_written(tmp_path: Path) -> None:
    flat = _write(tmp_path / "flat", mira=BASE)
    parts = _write(tmp_path / "parts", base=BASE, mid="include: base.yaml\n", mira="include: mid.yaml\n")
    one, other = load_config(flat), load_config(parts)
    for stage in STAGES:
        assert stage_settings(stage, one) == stage_settings(stage, other), stage.name
    changed = load_config(_write(tmp_path / "parts", base=BASE.replace("25%", "26%")))
    assert [s.name for s in STAGES if stage_settings(s, changed) != stage_settings(s, other)] == ["select"]


def test_an_entry_of_another_name_replaces_a_section(tmp_path: Path) -> None:
    target = "select: {{dsir: {{target: {{name: {0}, path: {0}.jsonl{1}}}}}}}\n"
    main = _write(
        tmp_path, base=BASE.split("select", maxsplit=1)[0] + target.format("a", ", fields: {text: x}"),
        mira="include: base.yaml\n" + target.format("b", ""),
    )  # fmt: skip
    found = load_config(main).select.dsir.target
    assert not isinstance(found, str)
    assert (found.name, found.path, found.fields) == ("b", str(tmp_path / "b.jsonl"), {})


def test_a_chain_that_ends_in_itself_is_refused_with_the_chain(tmp_path: Path) -> None:
    main = _write(tmp_path, mira="include: a.yaml\n", a="include: sub/b.yaml\n", sub__b="seed: 1\ninclude: ../a.yaml\n")
    said = _problem(main)
    assert f"{tmp_path}/sub/b.yaml:2: include: the files include each other: " in said
    chain = [tmp_path / "mira.yaml", tmp_path / "a.yaml", tmp_path / "sub/b.yaml", tmp_path / "sub/../a.yaml"]
    assert " -> ".join(map(str, chain)) in said
    assert "include each other" in _problem(_write(tmp_path, mira="include: mira.yaml\n"))
    (tmp_path / "link.yaml").symlink_to(main)
    assert "include each other" in _problem(_write(tmp_path, mira="include: link.yaml\n"))


def test_a_file_may_be_included_from_two_sides(tmp_path: Path) -> None:
    main = _write(
        tmp_path, mira="include: [a.yaml, b.yaml]\n", a="include: base.yaml\n", b="include: base.yaml\n", base=BASE
    )
    assert len(load_config(main).sources) == 2


def test_many_small_files_do_not_multiply(tmp_path: Path) -> None:
    files = {f"f{i}": f"include: [f{i + 1}.yaml, f{i + 1}.yaml, f{i + 1}.yaml]\n" for i in range(15)}
    main = _write(tmp_path, **files, f15=BASE, mira="include: f0.yaml\n")
    assert load_config(main).seed == 7
    files = {f"f{i}": f"include: f{i + 1}.yaml\n" for i in range(30)}
    assert "more than 20 files deep" in _problem(_write(tmp_path, **files, f30=BASE, mira="include: f0.yaml\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\ninclude: gone.yaml\n", "mira.yaml:2: include: {0}/gone.yaml: there is no such file"),
        ("include:\n  - base.yaml\n  - gone.yaml\n", "mira.yaml:3: include: {0}/gone.yaml: there is no such file"),
        ("include: {{a: b}}\n", "mira.yaml:1: include: expected a local settings file, or a list of them"),
        ("include: ''\n", "mira.yaml:1: include: expected a local settings file"),
        ('include: "a\\0b"\n', "mira.yaml:1: include: expected a local settings file"),
        ("include: https://host/mira.yaml\n", "mira.yaml:1: include: expected a local settings file"),
        ("include: bad.yaml\n", "bad.yaml:2: "),
        ("include: list.yaml\n", "list.yaml:1: expected settings such as 'sources:'"),
        ("include: twice.yaml\n", "twice.yaml:2: 'seed' is given twice"),
        ("include: bomb.yaml\n", "bomb.yaml: its aliases stand for more than 100,000 values"),
        ("include: unknown.yaml\n", "unknown.yaml:2: unknown field 'selct'; did you mean 'select'?"),
        ("include: base.yaml\nselect: {{trim: 2}}\n", "mira.yaml:2: select.trim: 2 is more than the whole"),
        ("include: [base.yaml, wrong.yaml]\n", "wrong.yaml:1: label.held_out: 20 is more than the whole"),
        ("include: [base.yaml, same.yaml]\n", "source 'new' is given twice"),
        ("include: base.yaml\nselect: {{source_min: {{dcs: 1%}}}}\n", "Did you mean 'docs'?"),
        ("[a]: b\n", "mira.yaml:1: found unhashable key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_of_the_file_that_has_it(text: str, expected: str, tmp_path: Path) -> None:
    bomb = "\n".join(
        [
            "a0: &a0 [x, x, x, x, x, x, x, x, x]",
            *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)),
        ]
    )
    main = _write(
        tmp_path, base=BASE, bad="a: b\n  c: d\n", list="- a\n", twice="seed: 1\nseed: 2\n", bomb=bomb,
        unknown="seed: 1\nselct: {}\n", wrong="label: {held_out: 20}\n",
        same="sources: [{name: new, path: a}, {name: new, path: b}]\n", mira=text.replace("{{", "{").replace("}}", "}"),
    )  # fmt: skip
    assert expected.format(tmp_path) in _problem(main)


def test_merge_keys_and_aliases_work_in_included_files(tmp_path: Path) -> None:
    base = "sources:\n  - &s {name: a, path: x.jsonl, family: qa}\n  - {<<: *s, name: b}\n"
    main = _write(tmp_path, base__base=base, mira="include: base/base.yaml\nsources: [{name: b, path: y.jsonl}]\n")
    a, b = load_config(main).sources
    assert (a.path, b.path, b.family) == (str(tmp_path / "base/x.jsonl"), str(tmp_path / "y.jsonl"), "qa")


def test_only_files_include(tmp_path: Path) -> None:
    main = _write(tmp_path, mira=BASE)
    assert "only a settings file can include another" in _problem(main, "include=base.yaml")
    with pytest.raises(ConfigError, match="only a settings file can include another"):
        config_from({"include": "base.yaml", "sources": [{"name": "a", "path": "b"}]})
    with pytest.raises(ValueError, match=r"only mira\.load_config reads included files"):
        Config.model_validate({"include": "base.yaml", "sources": [{"name": "a", "path": "b"}]})


def test_the_home_of_nobody_is_a_folder_like_any_other(tmp_path: Path) -> None:
    main = _write(tmp_path, mira="sources: [{name: a, path: ~nobody-here/x.jsonl}]\n")
    assert load_config(main).sources[0].path == str(tmp_path / "~nobody-here/x.jsonl")
