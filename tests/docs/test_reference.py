"""The generated reference has every command, option, setting and exported name."""

import re

import pytest
import yaml
from pydantic import BaseModel

import mira
from docs.test_snippets import COMMANDS, _reference

REFERENCE = _reference()


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_command_and_option_is_documented(verb: str) -> None:
    command, page = COMMANDS[verb], REFERENCE.cli_page()
    if command.hidden:
        assert f"# mira {verb}\n" not in page
        return
    section = re.split(r"\n##", page.split(f"# mira {verb}\n", 1)[1], maxsplit=1)[0]
    assert command.help.strip().splitlines()[0] in section
    for parameter in command.params:
        if not getattr(parameter, "hidden", False) and "--help" not in parameter.opts:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else (parameter.metavar or parameter.name)
            assert shown.strip("[]") in section or shown.upper() in section, shown


def test_every_setting_is_documented() -> None:
    page = REFERENCE.settings_page()
    for name, field in REFERENCE.settings():
        section, _, key = name.rpartition(".")
        assert f"`{key}`\n: " in page, name
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            assert f"## `{name}`\n" in page, name
        if section.count(".") == 0 and not isinstance(default, BaseModel):
            part = page.split(f"## `{section}`\n" if section else "## Top level\n", 1)[1].split("\n## ", 1)[0]
            assert f"`{key}`\n: " in part, name


def test_a_setting_has_its_text_type_and_default() -> None:
    page = REFERENCE.settings_page().split("## `select`\n", 1)[1]
    scope = page.split("`scope`\n", 1)[1].split("\n\n", 1)[0]
    field = type(mira.Config.model_fields["select"].default).model_fields["scope"]
    assert (field.description or "")[:40] in scope
    assert "one of `global`, `group`, `source`, default `group`" in scope


def test_shares_and_budgets_show_their_accepted_forms() -> None:
    page = REFERENCE.settings_page()
    shown = {
        "label": ("held_out", 'share: 0.5 or "50%", at least 0 and at most 1, default `0.2`'),
        "select": ("trim", 'share: 0.5 or "50%", at least 0 and below 0.5, default `0.1`'),
        "reliability": ("interval", 'share: 0.5 or "50%", above 0 and below 1, default `0.9`'),
    }
    for section, (key, about) in shown.items():
        part = page.split(f"## `{section}`\n", 1)[1].split(f"`{key}`\n", 1)[1].split("\n\n", 1)[0]
        assert f"*{about}*" in part
    budget = page.split("`budget`\n", 1)[1].split("\n\n", 1)[0]
    assert '*tokens: a share such as "50%", or a count such as 25B, 300M, 1e9 or 1000000, default `50%`*' in budget


def test_every_type_is_shown_and_every_default_is_what_the_settings_take() -> None:
    sections = re.split(r"^## ", REFERENCE.settings_page(), flags=re.MULTILINE)[1:]
    models = {"Top level": mira.Config} | {
        f"`{name}`": type(field.default) for name, field in REFERENCE.settings() if isinstance(field.default, BaseModel)
    }
    seen = 0
    for section in sections:
        title, _, text = section.partition("\n")
        for key, about in re.findall(r"^`(\w+)`\n: .*\n  \*(.+)\*$", text, re.MULTILINE):
            assert about.split(",")[0], key
            default = re.search(r"default `(.+)`$", about)
            if default and title in models:
                field = models[title].model_fields[key]
                written = yaml.safe_load(default[1])
                given = field.get_default(call_default_factory=True)
                assert str(written) == str(given), (title, key)
                seen += 1
    assert seen > 80


def test_every_exported_name_is_documented() -> None:
    page = REFERENCE.api_page()
    for name in mira.__all__:
        assert f":: mira.{name}\n" in page or not callable(getattr(mira, name)), name
