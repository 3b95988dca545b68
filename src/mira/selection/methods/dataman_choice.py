"""The selection method `dataman`: scores that a DataMan model gives now, or gave before."""

from pathlib import Path

from mira.config.settings import Config, EndpointSettings
from mira.errors import RunError
from mira.progress import Log
from mira.run_folder.files import hash_file, hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.dataman import DataMan
from mira.selection.methods.dataman_endpoint import score_dataman
from mira.selection.methods.method import Method
from mira.selection.values import SelectionMethod

__all__ = ["METHOD"]


def _load(config: Config, run: RunFolder, log: Log) -> SelectionMethod:
    given = config.select.dataman
    if _endpoint(config):
        score_dataman(config, run, log)
    elif not given.scores and not (run.path / "dataman").is_dir():
        raise RunError(
            "dataman ranks by the scores of a DataMan model, and there are no scores",
            "Set select.dataman.endpoint (base_url and model of a served one, such as RuPeng/DataMan-1.5B-EN), or "
            "select.dataman.scores to a folder of scores.",
        )
    return DataMan()


def _endpoint(config: Config) -> EndpointSettings | None:
    return None if config.select.dataman.scores else config.select.dataman.endpoint


def _files(config: Config, run: RunFolder) -> dict[str, str]:
    """Hash the scores that were made elsewhere: those that an endpoint gives are the stage's own."""
    if _endpoint(config):
        return {}
    folder = Path(config.select.dataman.scores or run.path / "dataman")
    found = sorted(folder.rglob("*.parquet"))
    return {"select.dataman.scores": hash_json([[p.relative_to(folder).as_posix(), hash_file(p)] for p in found])}


METHOD = Method(name="dataman", load=_load, files=_files, endpoint=_endpoint)
