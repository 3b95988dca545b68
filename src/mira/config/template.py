"""The commented settings file that `mira init` writes: generated from the settings' own documentation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from mira.config.settings import Config, EndpointSettings
from mira.config.tokens import Tokens
from mira.errors import ConfigError
from mira.run_folder.files import write_bytes
from mira.urls import check_local

__all__ = ["template", "write_template"]

HEAD = """\
# Settings of mira. Every line that is commented out shows its default.
# Check them with `mira validate`, see what a run would cost with `mira plan`, then `mira run`.

# The run folder. Relative paths are relative to this file.
run: run

# Your sources, one entry each. What a record must have, by family (strings, and an `id` if you like):
#   text: text
#   qa: question, answer
#   qa_with_think: question, think, answer (or an answer that starts with <think>...</think>)
#   agent: messages, as in OpenAI's chat API (tools, if there are any)
# `fields` says where yours are, mira's name: your name; a dot goes into nested objects.
sources:
  - name: pr_issue
    family: text                        # text, qa, qa_with_think or agent
    path: data/pr_issue/*.jsonl.zst     # JSONL (plain, compressed), Parquet, Hugging Face dataset folder, fsspec URL
    fields: {text: text}                # mira's name: yours. Add {id: uid} where records have ids
  # - name: stack_qa
  #   family: qa
  #   path: [data/stack/2024, data/stack/2025]
  #   fields: {question: title, answer: body.text}

# The frontier judge. Its key comes from the environment variable that you name here, never from this file.
teacher:
  endpoint:
    base_url: https://llm.example.com/v1
    model: NAME-OF-YOUR-TEACHER
    api_key_env: TEACHER_API_KEY
{endpoint}
  # or, instead of a live endpoint, replies that were recorded earlier:
  # free_judgments: judgments.jsonl
  # replies: replies.jsonl
"""
WRITTEN_ABOVE = {"run", "sources"}
ENDPOINT_ABOVE = ("base_url", "model", "api_key_env")


def write_template(path: Path) -> None:
    """Write the template to `path`.

    Raises:
        ConfigError: There is a file already, or the path is a URL.
    """
    check_local(path, "init")
    if path.exists():
        raise ConfigError(f"{path} is there already", "Choose another name, or remove it first.")
    write_bytes(path, template().encode())


def template() -> str:
    """Return the template's text."""
    endpoint = "\n".join(_fields(EndpointSettings, skip=ENDPOINT_ABOVE, indent="    "))
    lines = [HEAD.replace("{endpoint}", endpoint)]
    for name, field in Config.model_fields.items():
        if name in WRITTEN_ABOVE:
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            lines.append(f"# {(type(value).__doc__ or '').strip()}")
            if name == "teacher":
                lines.append("# Further fields of `teacher` above:")
            else:
                lines.append(f"# {name}:")
            lines.extend(
                _fields(type(value), skip=("endpoint", "free_judgments", "replies") if name == "teacher" else ())
            )
            lines.append("")
        else:
            lines.extend([*_comment(field.description or "", ""), f"# {name}: {_yaml(value)}", ""])
    return "\n".join(lines)


def _fields(model: type[BaseModel], skip: tuple[str, ...] = (), indent: str = "  ") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        yield from _comment(field.description or "", indent)
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield f"# {indent}{name}:"
            yield from _fields(type(default), indent=f"{indent}  ")
        else:
            if endpoint := _endpoint(field.annotation):
                yield from _apart(endpoint, indent)
            yield f"# {indent}{name}: {_yaml(default)}"


def _endpoint(annotation: Any) -> type[EndpointSettings] | None:
    """Return the endpoint that a field may hold, or None."""
    if isinstance(annotation, type) and issubclass(annotation, EndpointSettings):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _endpoint(inner))), None)


def _apart(endpoint: type[EndpointSettings], indent: str) -> Iterator[str]:
    """Say what sets an endpoint's fields apart from those of the teacher's."""
    known = {name: field.default for name, field in EndpointSettings.model_fields.items()}
    own = {n: f for n, f in endpoint.model_fields.items() if n not in known or f.default != known[n]}
    yield f"# {indent}# Fields of an endpoint: those of `teacher.endpoint` above{', apart from:' if own else '.'}"
    for name, field in own.items():
        yield from _comment(field.description or "", f"{indent}#   ")
        yield f"# {indent}#   {name}: {_yaml(field.default)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"# {indent}# {line.strip()}"


def _yaml(value: Any) -> str:
    if isinstance(value, Tokens):
        value = value.written
    return yaml.safe_dump(value, default_flow_style=True, width=200).removesuffix("\n...\n").strip()
