"""The parts of the reference that come from the program: commands, settings, the Python API.

A page says `% mira: cli` where the text belongs; the text is put there while Sphinx reads the page. What is in the
program is thus in the reference, and nothing is copied by hand.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx

import mira
from mira.config.base import Kind

try:
    from mira.cli.app import app as cli
except ImportError:  # where the command line is one module
    from mira.cli import app as cli

__all__ = ["api_page", "cli_page", "commands", "options_of", "settings", "settings_page", "setup"]

MARK = re.compile(r"^% mira: (\w+)$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _returns, priority=400)  # before napoleon's 500
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    pages: dict[str, Callable[[], str]] = {"cli": cli_page, "settings": settings_page, "api": api_page}
    source[0] = MARK.sub(lambda match: pages[match[1]](), source[0])


def _signature(_app: Sphinx, _kind: str, _name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out the signatures of settings, which have a page of their own, and of protocols, which nobody calls."""
    hidden = isinstance(value, type) and (issubclass(value, BaseModel) or getattr(value, "_is_protocol", False))
    return ("", None) if hidden else None


def _returns(_app: Sphinx, _kind: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Mark the text of a Returns section as such: napoleon takes what precedes its first colon for a type."""
    for section in ("Returns:", "Yields:"):
        if section in lines:
            at = lines.index(section)
            after = range(at + 1, len(lines))
            end = next((i for i in after if lines[i] and not lines[i].startswith(" ")), len(lines))
            first, *rest = [line.strip() for line in lines[at + 1 : end] if line.strip()]
            lines[at:end] = ["", f":returns: {first}", *(f"    {line}" for line in rest), ""]


# The command line


def commands() -> dict[str, Any]:
    """Return every command by name, hidden ones included: click's own objects."""
    return dict(_commands(typer.main.get_command(cli), ""))


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def options_of(command: Any) -> list[str]:
    """Return the options of a command as they are typed."""
    return [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]


def cli_page() -> str:
    """Return the commands as Markdown, a section each; by use where the program groups them."""
    panels: dict[str, list[str]] = {}
    for name, command in commands().items():
        if not command.hidden:
            panels.setdefault(_panel(command), []).append(_command(name, command))
    return "\n\n".join("\n\n".join([f"## {panel}" if panel else "", *parts]) for panel, parts in panels.items())


def _panel(command: Any) -> str:
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else ""


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    pieces = [re.sub(r"^\{(.*)\}$|^\[(\[.*\])\]$", r"\1\2", piece) for piece in command.collect_usage_pieces(context)]
    usage = " ".join(["mira", name, *pieces])
    lines = [
        f"### mira {name}" if _panel(command) else f"## mira {name}",
        "",
        inspect.cleandoc(command.help or ""),
        "",
        "```text",
        usage,
        "```",
        "",
    ]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and record[0] != "--help":  # None: hidden
            lines += [f"`{record[0].strip()}`", f": {_escape(' '.join((record[1] or '-').split()))}", ""]
    return "\n".join(lines)


# The settings


def settings(model: type[BaseModel] = mira.Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting by its dotted name, endpoints' fields included."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        for inner in _models(field.annotation):
            yield from settings(inner, f"{prefix}{name}.")


def settings_page() -> str:
    """Return the settings as Markdown, a heading for every section."""
    return "\n".join(_section("", mira.Config, {}))


def _section(name: str, model: type[BaseModel], seen: dict[type[BaseModel], str]) -> Iterator[str]:
    fields = model.model_fields
    base = next((b for b in model.__mro__[1:] if b in seen), None)
    if base is not None:  # an endpoint like another, but for some fields
        fields = {n: f for n, f in fields.items() if n not in base.model_fields or _differs(f, base.model_fields[n])}
    yield f"## {'Top level' if not name else f'`{name}`'}\n"
    yield f"{inspect.cleandoc(model.__doc__ or '')}\n"
    if base is not None:
        rest = "The fields are those of" if not fields else "It has these fields, and all others of"
        yield f"{rest} [`{seen[base]}`](#{_anchor(seen[base])}).\n"
    inner = []
    for key, field in fields.items():
        own = list(_models(field.annotation))
        dotted = f"{name}.{key}" if name else key
        yield f"`{key}`\n: {_meaning(field)}\n"
        for part in own:
            if part in seen:
                yield f"  Its fields are those of [`{seen[part]}`](#{_anchor(seen[part])}).\n"
            else:
                yield f"  Its fields: [`{dotted}`](#{_anchor(dotted)}).\n"
                inner.append((dotted, part))
                seen[part] = dotted
    for dotted, part in inner:
        yield from _section(dotted, part, seen)


def _differs(field: FieldInfo, other: FieldInfo) -> bool:
    return (field.default, field.description) != (other.default, other.description)


def _anchor(name: str) -> str:
    return re.sub(r"[^\w-]", "", name.lower())


def _meaning(field: FieldInfo) -> str:
    """Return what a setting is for, its type and its default."""
    inner = next(_models(field.annotation), None)
    text = _escape(" ".join((field.description or (inner and inner.__doc__) or "").split()))
    about = [_type(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)]
    if field.is_required():
        about.append("required")
    else:
        default = field.get_default(call_default_factory=True)
        if not isinstance(default, BaseModel) and default not in (None, "", [], {}):
            about.append(f"default `{_yaml(default)}`")
    return f"{text}\n  *{', '.join(part for part in about if part)}*"


def _escape(text: str) -> str:
    return re.sub(r"([<>*_{}\[\]$])", r"\\\1", text)


def _yaml(value: Any) -> str:
    plain = [str(v) for v in value] if isinstance(value, list) else value
    plain = plain if isinstance(plain, bool | int | float | list | dict) else str(plain)
    return yaml.safe_dump(plain, default_flow_style=True, width=200).removesuffix("\n...\n").strip()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _type(annotation: Any) -> str:
    """Name a type as a user of YAML would."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind = next((item.name for item in arguments[1:] if isinstance(item, Kind)), "") or _type(arguments[0])
        limits = " and ".join(_limits(arguments[1:]))
        return f"{kind}{', ' if ':' in kind and limits else ' '}{limits}".strip()
    if origin is Literal:
        return "one of " + ", ".join(f"`{a}`" for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in arguments if a is not type(None)))
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if isinstance(annotation, type) and hasattr(annotation, "__members__"):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    names = {str: "text", bool: "true or false", int: "whole number", float: "number", object: "any value"}
    return names.get(annotation, "path" if "Path" in str(annotation) else "text")


def _limits(metadata: Iterable[Any]) -> Iterator[str]:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found: dict[str, float] = {}  # the last counts: a type may narrow the limits of another
    for item in metadata:
        for inner in getattr(item, "metadata", [item]):  # a FieldInfo holds its own
            found |= {sign: bound for sign in signs if (bound := getattr(inner, sign, None)) is not None}
    for below, strictly in (("ge", "gt"), ("le", "lt")):
        if strictly in found:
            found.pop(below, None)
    yield from (f"{words} {found[sign]:g}" for sign, words in signs.items() if sign in found)


# The Python API


def api_page() -> str:
    """Return an autodoc directive for every exported name, by kind."""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name in sorted(mira.__all__):
        value = getattr(mira, name)
        if isinstance(value, type) and issubclass(value, Exception):
            kinds["Errors"].append(_auto("exception", name))
        elif isinstance(value, type) and issubclass(value, BaseModel):
            kinds["Classes"].append(_auto("class", name) + "\n\nIts fields are the [settings](settings.md).")
        elif isinstance(value, type):
            kinds["Classes"].append(_auto("class", name, _members(value)))
        elif callable(value):
            kinds["Functions"].append(_auto("function", name))
    return "\n\n".join(f"## {kind}\n\n" + "\n\n".join(parts) for kind, parts in kinds.items() if parts)


def _members(value: type) -> str:
    """Return the options of a class: the fields of a named tuple are in its docstring already."""
    fields = getattr(value, "_fields", ())
    return "   :members:" + (f"\n   :exclude-members: {', '.join(fields)}" if fields else "")


def _auto(kind: str, name: str, options: str = "") -> str:
    return f"```{{eval-rst}}\n.. auto{kind}:: mira.{name}\n{options}\n```"
