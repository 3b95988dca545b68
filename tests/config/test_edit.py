"""Settings are changed in the text of their file: comments and layout stay, and nothing else changes."""

from typing import Any

import pytest
import yaml

from mira.config.edit import with_settings
from mira.errors import ConfigError

CHANGES: dict[str, dict[str, Any]] = {
    "group": {"new_sources": "nearest", "given": {"text_group_A": ["a", "b"], "text_group_B": ["c: d"]}},
    "discover": {"rubrics": {"text_group_A": "rubrics/A.jsonl"}},
}


@pytest.mark.parametrize(
    "text",
    [
        "run: run\nsources:\n  - {name: a, path: b}  # kept\n# kept\n",
        "run: run\ngroup:\n  # kept\n  k: 2  # kept\n  # kept\n\n# kept\nteacher: {}\ndiscover: {sample: 20}\n",
        "group: {given: {x: [1]}, k: 3}\ndiscover:\n  rubrics:\n    B: foo  # kept\n  sample: 4\n",
        "group:\n  given:\n    old:\n    - a\n    - b\n  # kept\n  k: 4\nselect: {}",
        '{"run": "run", "group": {}, "discover": {"sample": 3}}',
        "run: run\ngroup:\n# kept\ndiscover:\nsources: [{a: b}]\n",
        "group:\n  k: 1",
        "discover:\n  corpus: >\n    some long\n    text\nlabel: {sample: 3}\n",
        "a: 1\r\ngroup:\r\n  k: 3  # kept\r\n",
        "group:\n    k: 3\n    sample: 7\ndiscover:\n        sample: 3\n",
        "# kept\n",
        "",
    ],
)
def test_only_these_settings_change(text: str) -> None:
    changed = with_settings(text, CHANGES, "mira.yaml")
    before, after = yaml.safe_load(text) or {}, yaml.safe_load(changed)
    assert after == before | {name: (before.get(name) or {}) | fields for name, fields in CHANGES.items()}
    assert changed.count("# kept") == text.count("# kept")
    assert with_settings(changed, CHANGES, "mira.yaml") == changed
    for line in text.splitlines():
        assert line in changed or "given" in line or "B: foo" in line or "old:" in line or "{" in line or "- " in line


@pytest.mark.parametrize("text", ["group: &g\n  k: 1\nother: *g\n", "a: 1\n...\n", "? group\n: k: 1\n"])
def test_what_cannot_be_changed_safely_is_said_in_full(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mira\.yaml: its layout") as error:
        with_settings(text, CHANGES, "mira.yaml")
    assert yaml.safe_load(error.value.hint.partition("\n")[2]) == CHANGES
