"""URLs of endpoints and of places to write to: check them, show them without keys, and join paths to them.

A URL ends up in errors, journals and manifests, so it must not hold a key, and parts that look like keys are masked.
"""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mira.errors import ConfigError

__all__ = [
    "check_folder",
    "check_local",
    "check_place",
    "join_url",
    "masked",
    "problem_of_place",
    "problem_of_url",
    "shown_place",
    "shown_url",
]

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
_ANY_URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s\"']+")
_ONE_SLASH = re.compile(r"(?:^|/)((?:s3a?|gc?s|az|abfss?|memory|hf|https?):)/(?!/)", re.IGNORECASE)
# What fsspec opens for reading only, or cannot hold a run: a file is a commit, a part of an archive, a copy.
_READ_ONLY = frozenset({
    "http", "https", "data", "github", "gist", "git", "hf", "zip", "tar", "libarchive", "reference", "generic", "dir",
    "simplecache", "filecache", "cached", "blockcache", "jupyter", "jlab", "asynclocal", "ftp",
})  # fmt: skip


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


def check_folder(bundle: str, what: str) -> None:
    """Refuse a scorer bundle at a URL where one in a folder is needed.

    Args:
        bundle: Where it is.
        what: The option or setting, for the message.

    Raises:
        ConfigError: It is at a URL.
    """
    if _URL.match(bundle):
        shown = shown_place(bundle)
        raise ConfigError(
            f"{what}: '{shown}' is a URL, and bundles are used from folders", f"Pull it first: mira pull {shown} FOLDER"
        )


def problem_of_place(place: str) -> tuple[str, str] | None:
    """Return why nothing can be written to a folder or URL, and the way out, or None. Asks nobody; repeats no key."""
    shown = shown_place(place)
    if one := _ONE_SLASH.search(place):
        return f"'{shown}' has one slash after {one[1]}", f"Write {one[1]}//, as in {one[1]}//bucket/run."
    scheme, mark, rest = place.partition("://")
    if not mark or not _URL.match(place):
        return None
    scheme = scheme.lower()
    if "::" in scheme or scheme in _READ_ONLY:
        return f"'{shown}': mira cannot write to {scheme}://", "Name a bucket, such as s3://bucket/run, or a folder."
    if re.search(r"[@?#\\]", rest):
        return (
            f"'{shown}' carries a user name, a password or a query",
            "Take it out: credentials come from the environment, or from the configuration files of the cloud.",
        )
    if scheme not in ("file", "memory") and not rest.partition("/")[0]:
        return f"'{shown}' names no bucket", f"Write {scheme}://bucket/folder."
    return None


def check_place(place: str, what: str) -> None:
    """Refuse a place to write to that cannot be one, whoever is asked.

    Args:
        place: A folder, or a URL as it was given.
        what: The option or setting, for the message.

    Raises:
        ConfigError: It cannot.
    """
    if problem := problem_of_place(place):
        raise ConfigError(f"{what}: {problem[0]}", problem[1])


def problem_of_url(url: str) -> tuple[str, str] | None:
    """Return the problem of a base URL and the way out, or None. Neither repeats a key."""
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
    """Return a URL for people and files: without user, query and fragment, and with *** for key-like parts."""
    head = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, there, rest = head.rpartition("//")
    rest = rest.rpartition("@")[2]
    host, *parts = rest.split("/")
    host = re.sub(r":(?!\d+$)[^:\]]*$", ":***", host)  # what stands for a port, and is none
    return "/".join([f"{scheme}{there}{host}", *("***" if _is_key_like(part) else part for part in parts)])


def masked(text: str) -> str:
    """Return a text in which every URL is as `shown_url` has it."""
    return _ANY_URL.sub(lambda found: shown_url(found[0]), text)


def _is_key_like(part: str) -> bool:
    words = unquote(part)
    return bool(_NAMED_KEY.search(words)) or any(map(_KEY_LIKE.fullmatch, [words, *re.split("[;,=:]", words)]))


def shown_place(url: str) -> str:
    """Return a URL to write to, without user, query and fragment; its path is not masked."""
    scheme, there, rest = re.split(r"[?#]", url, maxsplit=1)[0].rpartition("//")
    bucket, slash, inside = rest.partition("/")
    return f"{scheme}{there}{bucket.rpartition('@')[2]}{slash}{inside}"


def join_url(base: str, path: str) -> str:
    """Return the URL of a path below a base URL; the base's query stays at the end."""
    head, mark, query = base.partition("?")
    return f"{head}{path}{mark}{query}"
