"""The manifest of a run folder: read, and checked for the form that mira writes."""

from typing import Any

from mira._version import __version__
from mira.errors import RunError
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder

__all__ = ["read_manifest"]

FORMAT = 1  # of the run folder
_RECORD = {"fingerprint": str, "inputs": dict, "digest": str, "files": int, "bytes": int, "summary": dict}
_INPUTS = {"version": int, "settings": dict, "files": dict, "stages": dict}


def read_manifest(run: RunFolder) -> dict[str, Any]:
    """Return the run's manifest; one without stages where nothing has run.

    Raises:
        RunError: The file is damaged, or of another form of run folder.
    """
    try:
        manifest: Any = read_json(run.manifest)
    except FileNotFoundError:
        return {"mira": __version__, "format": FORMAT, "stages": {}}
    except ValueError:
        manifest = None
    if isinstance(manifest, dict) and manifest.get("format") not in (FORMAT, None):
        raise RunError(
            f"{run.path}: made by mira {manifest.get('mira')}, whose run folders have another form",
            f"Choose a new run folder, or install that version: pip install mira-select=={manifest.get('mira')}",
        )
    odd = "the whole file" if not isinstance(manifest, dict) else _odd_field(manifest)
    if odd:
        raise RunError(
            f"{run.manifest}: not a manifest: {odd} has another form than mira writes",
            "Remove the file to have every stage checked anew.",
        )
    return {**manifest, "mira": __version__}


def _odd_field(manifest: dict[str, Any]) -> str:
    """Return the first field of a manifest that has not the form that mira writes; "" where all have."""
    stages = manifest.get("stages")
    if manifest.get("format") != FORMAT or not isinstance(stages, dict):
        return "field 'stages'" if manifest.get("format") == FORMAT else "field 'format'"
    for name, record in stages.items():
        for at, value, form in (("", record, _RECORD), ("inputs.", _get(record, "inputs"), _INPUTS)):
            if not isinstance(value, dict):
                return f"stages.{name}.{at}".rstrip(".")
            for field, kind in form.items():
                if not isinstance(value.get(field), kind):
                    return f"stages.{name}.{at}{field}"
    return ""


def _get(value: Any, field: str) -> Any:
    return value.get(field) if isinstance(value, dict) else None
