"""Scorer bundles: portable folders, checked by hash, that run no foreign code when they are loaded.

A bundle is a folder with `bundle.json` (what it is), `rubric.jsonl` (the slots it scores) and its weights. `SHA256SUMS`
lists every other file, in the form that `sha256sum -c` reads. Only data formats may be inside: weights as safetensors,
everything else as text, JSON, Parquet or ONNX. Pickles and Python files are refused by name, whatever they hold, and so
is JSON that tells a loader to fetch code from elsewhere (`auto_map`). An ONNX file is a graph of the runtime's own
operators; other operators come from libraries, and mira loads none.
"""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from mira.errors import ConfigError, InputError, MiraError, install_hint
from mira.progress import printable
from mira.run_folder.files import hash_json, read_json, sha256_file, write_bytes
from mira.run_folder.probe import probe
from mira.run_folder.stored import place_path
from mira.run_folder.working_copy import fetch, refresh
from mira.urls import check_place

__all__ = [
    "HUB",
    "SUMS",
    "check_safe",
    "check_target",
    "install",
    "pull",
    "push",
    "read_bundle",
    "seal",
    "verify",
    "weights_hash",
]

SUMS = "SHA256SUMS"
HUB = "hf://"
_SUFFIXES = frozenset(
    (".safetensors", ".json", ".jsonl", ".txt", ".md", ".svg", ".html", ".jinja", ".parquet", ".npy", ".model", ".onnx")
)
_NAMES = frozenset({"LICENSE", "NOTICE"})
_HUB_FILES = frozenset({".gitattributes"})
_ANSWERING = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_SHOWN = 200
# Names, for which HTTP client the hub's library uses depends on its version.
_NO_NETWORK = frozenset({"LocalEntryNotFoundError", "OfflineModeIsEnabled", "TransportError", "RequestException"})
_LOADER_FILES = "*config*.json"


def read_bundle(folder: Path, kind: str = "") -> dict[str, Any]:
    """Read a bundle's `bundle.json`, after checking that nothing in the folder could run code.

    Args:
        folder: The bundle.
        kind: The kind that is expected ("encoder", "sft"); any by default.

    Raises:
        InputError: There is no bundle, it is of another kind, or it holds a file that a bundle may not hold.
    """
    path = folder / "bundle.json"
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{folder} is not a scorer bundle: it has no bundle.json", "Make one: mira distill") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}", "Pull or train the bundle again.") from None
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise InputError(f"{path}: field 'kind' is missing", "Pull or train the bundle again.")
    if kind and value["kind"] != kind:
        raise InputError(f"{path}: a bundle of kind '{value['kind']}', expected '{kind}'", "Point to another bundle.")
    check_safe(folder)
    return value


def check_safe(folder: Path) -> list[str]:
    """Check that a bundle holds data formats only.

    Returns:
        The names of its files, relative to the folder, sorted, without `SHA256SUMS`.

    Raises:
        InputError: A file has another format, is a link, or tells a loader to fetch code.
    """
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise InputError(f"{path}: a bundle may not hold links", "Replace the link by the file.")
        if path.is_dir() or name == SUMS or name in _HUB_FILES:
            continue
        if path.suffix not in _SUFFIXES and path.name not in _NAMES:
            raise InputError(
                f"{path}: a bundle may not hold '{path.suffix or path.name}' files: loading them could run code",
                "Weights go in .safetensors, everything else in JSON, text or Parquet.",
            )
        names.append(name)
    for path in sorted(folder.rglob(_LOADER_FILES)):
        if _holds_key(_object(path), "auto_map"):
            raise InputError(f"{path}: field 'auto_map' makes loaders run code from elsewhere", "Remove the field.")
    return names


def _holds_key(value: Any, key: str) -> bool:
    """Tell whether a key is anywhere in a JSON value: loaders read the settings of parts, too (`text_config`)."""
    todo = [value]
    while todo:
        current = todo.pop()
        if isinstance(current, dict):
            if key in current:
                return True
            todo.extend(current.values())
        elif isinstance(current, list):
            todo.extend(current)
    return False


def _object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}", "Pull or train the bundle again.") from None
    return value if isinstance(value, dict) else {}


def seal(folder: Path) -> None:
    """Write `SHA256SUMS` over every file of a bundle.

    Raises:
        InputError: The bundle holds a file that it may not hold.
    """
    lines = [f"{sha256_file(folder / name)}  {name}\n" for name in check_safe(folder)]
    write_bytes(folder / SUMS, "".join(lines).encode())


def verify(folder: Path, besides: Collection[str] = ()) -> dict[str, Any]:
    """Check every file of a bundle against `SHA256SUMS`.

    Args:
        folder: The bundle.
        besides: Names of files that are not checked, because they are about to be written anew.

    Returns:
        The bundle's `bundle.json`.

    Raises:
        InputError: A file is missing, changed or not listed, or the folder is not a safe bundle.
    """
    value = read_bundle(folder)
    expected = {name: sum_ for name, sum_ in _read_sums(folder / SUMS).items() if name not in besides}
    found = set(check_safe(folder)) - set(besides)
    missing, extra = sorted(expected.keys() - found), sorted(found - expected.keys())
    if missing or extra:
        what = f"missing: {', '.join(missing[:3])}" if missing else f"not listed: {', '.join(extra[:3])}"
        raise InputError(f"{folder / SUMS} does not match the folder; {what}", "Pull or train the bundle again.")
    for name, digest in expected.items():
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name}: content differs from {SUMS}", "Pull or train the bundle again.")
    return value


def weights_hash(folder: Path) -> str:
    """Return the hash of what a sealed checkpoint answers with: weights, config, tokenizer and chat template.

    It stays the same when other files are added, so that paid-for replies are found again.

    Raises:
        InputError: The bundle is not sealed.
    """
    sums = _read_sums(folder / SUMS)
    return hash_json({n: s for n, s in sums.items() if n.endswith(".safetensors") or n in _ANSWERING})


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}", "Pull or train the bundle again.") from None
    sums = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        parts = PurePosixPath(name)
        if len(digest) != 64 or not name or parts.is_absolute() or ".." in parts.parts:
            raise InputError(f"{path}:{number}: expected '<sha256>  <file>'", "Pull or train the bundle again.")
        sums[name] = digest
    return sums


def install(staged: Path, folder: Path) -> None:
    """Put a finished folder in the place of `folder`. Both must be on one file system.

    Raises:
        InputError: `folder` holds something that is not a bundle.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "bundle.json").is_file():
            raise InputError(f"{folder} is not empty and is not a bundle", "Choose another folder.")
        folder.replace(old)
    staged.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def push(bundle: Path, target: str, *, private: bool = True) -> str:
    """Copy a bundle to a folder, or to a hub repository `hf://owner/name`.

    Args:
        bundle: The bundle. It is sealed first if it has no `SHA256SUMS` yet, and verified in any case.
        target: A folder, a URL that can be written to, or `hf://owner/name`.
        private: Whether a new hub repository is private.

    Returns:
        Where the bundle is now: the folder, or the repository with its commit.

    Raises:
        ConfigError: The target is a URL that cannot be written to, or a folder and `private` is off.
        InputError: The bundle is damaged or unsafe, or the target is taken by something else.
        MiraError: The hub cannot be reached, or its extra is not installed.
    """
    check_target(target, private=private)
    if not (bundle / SUMS).is_file():
        read_bundle(bundle)
        seal(bundle)
    verify(bundle)
    if target.startswith(HUB):
        return _push_hub(bundle, target, private)
    return f"{_copy(bundle, place_path(target))}"


def check_target(target: str, *, private: bool = True) -> None:
    """Refuse a place that a bundle cannot be pushed to.

    Raises:
        ConfigError: It is a URL that cannot be written to, or not the hub and `private` is off.
        RunError: The URL does not take what is put there.
    """
    if target.startswith(HUB):
        return
    if not private:
        raise ConfigError("--public is for hub repositories", f"Leave it out, or push to {HUB}owner/name.")
    probe(place_path(target), "push")


def pull(source: str, folder: Path) -> Path:
    """Copy a bundle from a folder, a URL, or a hub repository `hf://owner/name[@revision]`, and verify it.

    Returns:
        `folder`. What was there is replaced only after the new bundle has been verified.

    Raises:
        InputError: There is no bundle, or it is damaged or unsafe.
        MiraError: The hub cannot be reached, or its extra is not installed.
    """
    probe(folder, "pull")
    if source.startswith(HUB):
        return _pull_hub(source, folder)
    check_place(source, "pull")
    there = place_path(source)
    refresh(there)
    if not there.is_dir():
        raise InputError(f"{there}: there is no such folder", f"A hub repository is written {HUB}owner/name.")
    return _copy(there, folder)


def _copy(source: Path, folder: Path) -> Path:
    if source.resolve() == folder.resolve():
        raise InputError(f"{folder}: source and target are the same folder", "Choose another folder.")
    fetch([source])
    verify(source)
    staged = _staging(folder)
    try:
        shutil.copytree(source, staged)
        verify(staged)
        install(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _staging(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    return staged


def _hub() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415
    except ImportError:
        raise MiraError("hub repositories need huggingface_hub", install_hint("hub")) from None
    return huggingface_hub


def _split(address: str) -> tuple[str, str | None]:
    name, _, revision = address.removeprefix(HUB).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"'{address}' is not a hub repository", f"Write {HUB}owner/name, or {HUB}owner/name@revision.")
    return name, revision or None


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Tell what goes wrong at the hub. Its library raises errors of its own, ValueErrors, and those of HTTP clients."""
    try:
        yield
    except MiraError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # a file of this machine
            raise
        # What it says of a file that it could not fetch hides why.
        reason = error.__cause__ if type(error).__name__ == "LocalEntryNotFoundError" else error
        what, hint = _trouble(reason or error)
        said = printable(" ".join(str(reason or error).split()))
        raise MiraError(f"{address}: {what}: {said[:_SHOWN] or type(error).__name__}", hint) from None


def _trouble(error: BaseException) -> tuple[str, str]:
    """Return what an error at the hub amounts to, and the way out."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if status >= 500 or status == 429:
        return f"the hub answers {status}", "Try again later."
    if "HFValidationError" in kinds:
        return "no name for a repository", f"Write {HUB}owner/name, or {HUB}owner/name@revision."
    if "RevisionNotFoundError" in kinds:
        return "there is no such revision", "Check what follows the @: a branch, a tag or a commit."
    if status == 404:
        return "the hub knows no such repository", "Check the name; if it is private, log in: hf auth login"
    if status in (401, 403) or "LocalTokenNotFoundError" in kinds:
        return "the hub refuses", "Check the name, and log in with a token that may do this: hf auth login"
    if not status and (kinds & _NO_NETWORK or isinstance(error, OSError)):
        return (
            "the hub cannot be reached",
            "Is there a network? A proxy goes in HTTPS_PROXY, another hub in HF_ENDPOINT; HF_HUB_OFFLINE must be off.",
        )
    return f"the hub refuses ({type(error).__name__})", "Check the name, and log in: hf auth login"


def _push_hub(bundle: Path, target: str, private: bool) -> str:
    hub, (name, revision) = _hub(), _split(target)
    with _told(target):
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=bundle, revision=revision, delete_patterns="*", commit_message="mira push"
        )
    return f"{HUB}{name}@{commit.oid}"


def _pull_hub(source: str, folder: Path) -> Path:
    hub, (name, revision) = _hub(), _split(source)
    staged = _staging(folder)
    try:
        with _told(source):
            hub.snapshot_download(name, revision=revision, local_dir=staged)
        shutil.rmtree(staged / ".cache", ignore_errors=True)
        verify(staged)
        install(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder
