"""The selection method `dataman`: scores that a DataMan model gives now, or gave before."""

from pathlib import Path

from mira.config.settings import CorpusSettings, EndpointSettings, SelectSettings
from mira.errors import RunError
from mira.run_folder.files import hash_file, hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.dataman import DataMan
from mira.selection.methods.dataman_endpoint import dataman_job, score_dataman
from mira.selection.methods.method import Asked, Method
from mira.selection.values import SelectionInputs, SelectionMethod

__all__ = ["METHOD"]


def _load(inputs: SelectionInputs) -> SelectionMethod:
    given = inputs.select.dataman
    if _endpoint(inputs.select):
        score_dataman(inputs)
    elif not given.scores and not (inputs.run.path / "dataman").is_dir():
        raise RunError(
            "dataman ranks by the scores of a DataMan model, and there are no scores",
            "Set select.dataman.endpoint (base_url and model of a served one, such as RuPeng/DataMan-1.5B-EN), or "
            "select.dataman.scores to a folder of scores.",
        )
    return DataMan(given)


def _endpoint(select: SelectSettings) -> EndpointSettings | None:
    return None if select.dataman.scores else select.dataman.endpoint


def _files(select: SelectSettings, _corpus: CorpusSettings, run: RunFolder) -> dict[str, str]:
    """Hash the scores that were made elsewhere: those that an endpoint gives are the stage's own."""
    if _endpoint(select):
        return {}
    folder = Path(select.dataman.scores or run.path / "dataman")
    found = sorted(folder.rglob("*.parquet"))
    return {"select.dataman.scores": hash_json([[p.relative_to(folder).as_posix(), hash_file(p)] for p in found])}


METHOD = Method(
    name="dataman",
    load=_load,
    files=_files,
    endpoint=_endpoint,
    asked=lambda select: Asked(dataman_job, DataMan(select.dataman)) if _endpoint(select) else None,
)
