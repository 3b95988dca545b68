"""Base URLs of endpoints: what is refused in one, how it is shown, and how a path is joined to it.

A URL ends up in errors, journals and manifests, so it must hold no key, and what may be one is not shown.
"""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mira.errors import ConfigError

__all__ = ["check_local", "join_url", "problem_of_url", "shown_url"]

_HARMLESS = frozenset({"api-version", "api_version", "version", "region"})
_HARMLESS_VALUE = re.compile(r"[A-Za-z0-9.-]{1,32}")
# A part of a path that looks like a key: a known beginning, or long and of letters and digits mixed.
_KEY_LIKE = re.compile(
    r"(?:sk|pk|rk|hf|gsk|xai|nvapi|key|token|api[-_]?key|bearer)[-_][\w.-]{6,}|AIza[\w-]{20,}|bot\d+:.+"
    r"|(?=[\w.~+-]*\d)(?=[\w.~+-]*[A-Za-z])[\w~+]{24,}|eyJ[\w-]{8,}\..+",
    re.IGNORECASE,
)
_NAMED_KEY = re.compile(r"(?:key|token|secret|password|signature|auth\w*)[=:].|bearer\s", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?:/|:)")  # a Path has one slash where the URL had two


def check_local(path: Path | str, what: str) -> None:
    """Refuse a URL as a place to write to: taken for a folder, it would become one called "s3:".

    Args:
        path: Where something is to be written.
        what: The option or setting, for the message.

    Raises:
        ConfigError: It is a URL.
    """
    if _URL.match(str(path)):
        raise ConfigError(
            f"{what}: '{shown_url(str(path))}' is a URL, and mira writes to local folders only",
            "Name a folder of this machine, and copy what is in it afterwards.",
        )


def problem_of_url(url: str) -> tuple[str, str] | None:
    """Return what is wrong with a base URL and the way out; None where it is in order. Neither repeats a key."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"'{shown_url(url)}' is not an HTTP URL", "It looks like http://localhost:8000/v1."
    if "@" in url.partition("?")[0] or "\\" in url:
        return "the URL carries a user name or password", _NAME_IT
    if parts.scheme not in {"http", "https"} or not host:
        hint = "It looks like http://localhost:8000/v1."
        return (
            f"'{shown_url(url)}' is not an HTTP URL",
            hint if "://" in url else f"Add http:// or https://: http://{shown_url(url)}",
        )
    if "#" in url:
        return f"the URL of {host} carries a fragment (#...)", _NAME_IT
    for name, value in parse_qsl(parts.query, keep_blank_values=True) or ([("", "")] if parts.query else []):
        if name.lower() not in _HARMLESS or not _HARMLESS_VALUE.fullmatch(value):
            known = ", ".join(sorted(_HARMLESS))
            return f"the URL of {host} carries a user name, password or query", f"{_NAME_IT} A query may hold {known}."
    return None


_NAME_IT = "Put the key into an environment variable and name that in api_key_env or headers; URLs end up in logs."


def shown_url(url: str) -> str:
    """Return a URL for people and files: without user, query and fragment, and with what may be a key as ***."""
    head = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, there, rest = head.rpartition("//")
    rest = rest.rpartition("@")[2]
    host, *parts = rest.split("/")
    host = re.sub(r":(?!\d+$)[^:\]]*$", ":***", host)  # what stands for a port, and is none
    return "/".join([f"{scheme}{there}{host}", *("***" if _is_key_like(part) else part for part in parts)])


def _is_key_like(part: str) -> bool:
    words = unquote(part)
    return bool(_NAMED_KEY.search(words)) or any(map(_KEY_LIKE.fullmatch, [words, *re.split("[;,=:]", words)]))


def join_url(base: str, path: str) -> str:
    """Return the URL of a path below a base URL; the base's query stays at the end."""
    head, mark, query = base.partition("?")
    return f"{head}{path}{mark}{query}"
