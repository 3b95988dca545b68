"""The encoder student's files: bundle.json, rubric.jsonl and weights.safetensors."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mira import plugins
from mira._version import __version__
from mira.config.settings import WindowSettings
from mira.corpus.families import find_family
from mira.distillation.bundle import seal, verify
from mira.distillation.encoder.detail import detail_names
from mira.distillation.encoder.features import Features, Scaling
from mira.distillation.encoder.head import Head, TargetMap
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.distillation.encoder.ngrams import BUCKETS, LONGEST
from mira.distillation.encoder.structure import STRUCTURE
from mira.distillation.unspaced import READING
from mira.embedding.embedder import Embedder
from mira.embedding.minilm import MiniLM
from mira.embedding.static import StaticTokens
from mira.errors import InputError
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, hash_json, write_bytes, write_json

__all__ = ["EncoderBundle", "read_encoder", "write_encoder"]

FORMAT = 1
WEIGHTS, RUBRIC = "weights.safetensors", "rubric.jsonl"


@dataclass(frozen=True, slots=True)
class EncoderBundle:
    """A loaded bundle.

    Attributes:
        head: The weights.
        rubric: The slots that it scores.
        embedder_identity: Identity of the embedder that it needs; "" for none.
        identity: Hash of weights, rubric and embedder.
        reads_unspaced: Whether it was trained on features that know scripts without spaces.
        windows: The windows that it was trained on, if any.
    """

    head: Head
    rubric: Rubric
    embedder_identity: str
    identity: str
    reads_unspaced: bool
    windows: WindowSettings | None = None

    def embedder(self, given: Embedder | None, threads: int) -> Embedder | None:
        """Return the embedder that the bundle needs: the given one, or the built-in one.

        Raises:
            InputError: The bundle was trained with another embedder than the one at hand.
        """
        if not self.embedder_identity:
            return None
        found = given or _built_in(self.embedder_identity, threads)
        if found is None or found.identity != self.embedder_identity:
            raise InputError(
                f"the student was trained with embedder {self.embedder_identity}, "
                f"not {found.identity if found else 'the built-in one'}",
                "Set `embedding` as it was then, or train the student again: mira distill.",
            )
        return found


def _built_in(identity: str, threads: int) -> Embedder | None:
    if identity.startswith("static-minilm:"):
        return StaticTokens()
    found = re.fullmatch(r"minilm-int8:[0-9a-f]{8}:(\d+)x(\d+)", identity)
    return MiniLM(int(found[1]), int(found[2]), threads) if found else None


def write_encoder(
    folder: Path, head: Head, rubric: Rubric, embedder: Embedder | None, target: str, extra: dict[str, Any]
) -> None:
    """Write a bundle into `folder` and seal it.

    Args:
        folder: Where the files go.
        head: The weights.
        rubric: The rubric.
        embedder: The embedder that the head needs, or None.
        target: "scores" or "ranks": what the head fits.
        extra: More to say in bundle.json.
    """
    rubric.save(folder / RUBRIC)
    write_bytes(folder / WEIGHTS, save(_arrays(head)))
    bundle = {
        "kind": "encoder",
        "format": FORMAT,
        "mira": __version__,
        "group": rubric.group,
        "rubric": rubric.hash,
        "prompt": None,
        "embedder": embedder.identity if embedder else None,
        "blocks": {
            "structure": head.blocks.structure,
            "embedding": head.blocks.embedding,
            **({"detail": True} if head.blocks.detail else {}),
        },
        "ngrams": {"longest": LONGEST, "buckets": BUCKETS},
        "structure": list(STRUCTURE),
        "unspaced": READING,
        **({"parts": _part_names(rubric.group)} if head.landmarks.parts.shape[1] else {}),
        **({"detail": _detail_names(rubric.group)} if head.blocks.detail else {}),
        "sources": list(head.sources),
        "target": target,
        "penalties": list(head.penalties),
        **extra,
    }
    write_json(folder / "bundle.json", bundle)
    seal(folder)


def _part_names(group: str) -> list[str]:
    """Return the names of the parts' features of a group's family, which its name begins with; none by default."""
    family = group.partition("_group_")[0]
    return list(find_family(family).part_features().names) if plugins.is_known(plugins.FAMILIES, family) else []


def _detail_names(group: str) -> list[str]:
    return list(detail_names(group.partition("_group_")[0]))


def _detail(head: Head) -> dict[str, npt.NDArray[Any]]:
    if not head.blocks.detail:
        return {}
    scaling = head.scaling
    return {
        "landmark_detail": head.landmarks.detail,
        "detail_mean": scaling.detail_mean,
        "detail_deviation": scaling.detail_deviation,
    }


def _parts(head: Head) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the parts' features; text has none."""
    if not head.landmarks.parts.shape[1]:
        return {}
    scaling = head.scaling
    return {
        "landmark_parts": head.landmarks.parts,
        "parts_mean": scaling.parts_mean,
        "parts_deviation": scaling.parts_deviation,
    }


def _arrays(head: Head) -> dict[str, npt.NDArray[Any]]:
    sizes = np.cumsum([0, *(len(m.fitted) for m in head.maps)], dtype=np.int64)
    arrays = {
        "idf": head.scaling.idf,
        "mean": head.scaling.mean,
        "deviation": head.scaling.deviation,
        "centre": head.scaling.centre,
        "length": np.array([head.scaling.length]),
        "buckets": head.buckets,
        "landmark_structure": head.landmarks.structure,
        "landmark_embedding": head.landmarks.embedding,
        **_parts(head),
        **_detail(head),
        "duals": head.duals,
        "sources": np.array(list(head.sources.values())),
        "intercept": head.intercept,
        "map_offsets": sizes,
        "map_fitted": np.concatenate([m.fitted for m in head.maps]),
        "map_scores": np.concatenate([m.scores for m in head.maps]),
    }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def read_encoder(folder: Path) -> EncoderBundle:
    """Read a bundle, checking every file against its hash.

    Raises:
        InputError: A file is missing or changed, or the bundle is of another kind, format or feature set.
    """
    bundle = verify(folder)
    if bundle.get("kind") != "encoder" or bundle.get("format") != FORMAT:
        raise InputError(
            f"{folder / 'bundle.json'}: kind {bundle.get('kind')!r}, format {bundle.get('format')!r}; "
            f"expected 'encoder', {FORMAT}",
            "Load it with the mira that wrote it, or train the student again.",
        )
    ngrams, group = {"longest": LONGEST, "buckets": BUCKETS}, str(bundle.get("group", ""))
    family = group.partition("_group_")[0]
    if bundle.get("parts") and not plugins.is_known(plugins.FAMILIES, family):
        raise InputError(
            f"{folder / 'bundle.json'}: the student scores records of family '{family}', which is not known here",
            f"Install the package that adds it. Known: {', '.join(plugins.names(plugins.FAMILIES))}.",
        )
    features = [bundle.get("structure"), bundle.get("ngrams"), bundle.get("parts", []), bundle.get("detail", [])]
    details = _detail_names(group) if bundle.get("blocks", {}).get("detail") else []
    if features != [list(STRUCTURE), ngrams, _part_names(group), details]:
        raise InputError(
            f"{folder / 'bundle.json'}: written by mira {bundle.get('mira')}, whose features differ",
            "Load it with that version, or train the student again: mira distill.",
        )
    rubric = Rubric.load(folder / RUBRIC, group)
    if rubric.hash != bundle.get("rubric"):
        raise InputError(f"{folder / RUBRIC}: not the rubric that the student was trained on", "Train it again.")
    try:
        head = _head(load_file(folder / WEIGHTS), bundle)
    except (KeyError, ValueError, IndexError, SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS}: weights cannot be read: {error!r}", "Train the student again.") from None
    embedder = str(bundle.get("embedder") or "")
    windows = WindowSettings.model_validate(bundle["windows"]) if bundle.get("windows") else None
    facts = ["encoder", FORMAT, hash_file(folder / WEIGHTS), rubric.hash, embedder]
    identity = hash_json([*facts, bundle["windows"]] if windows else facts)
    return EncoderBundle(head, rubric, embedder, identity, "unspaced" in bundle, windows)


def _head(arrays: dict[str, npt.NDArray[Any]], bundle: dict[str, Any]) -> Head:
    from scipy import sparse  # noqa: PLC0415 - slow to import

    offsets = arrays["map_offsets"]
    maps = tuple(
        TargetMap(arrays["map_fitted"][a:b], arrays["map_scores"][a:b]) for a, b in itertools.pairwise(offsets)
    )
    n = len(arrays["duals"])
    no_parts = np.zeros((n, 0))
    return Head(
        scaling=Scaling(
            arrays["idf"],
            arrays["mean"],
            arrays["deviation"],
            arrays["centre"],
            float(arrays["length"][0]),
            arrays.get("parts_mean", no_parts[0]),
            arrays.get("parts_deviation", no_parts[0]),
            arrays.get("detail_mean", no_parts[0]),
            arrays.get("detail_deviation", no_parts[0]),
        ),
        blocks=FeatureBlocks(**bundle["blocks"]),
        buckets=arrays["buckets"],
        landmarks=Features(
            sparse.csr_matrix((n, BUCKETS)),
            arrays["landmark_structure"],
            arrays["landmark_embedding"],
            ("",) * n,
            arrays.get("landmark_parts", no_parts),
            arrays.get("landmark_detail", no_parts),
        ),
        duals=arrays["duals"],
        sources=dict(zip(bundle["sources"], arrays["sources"], strict=True)),
        intercept=arrays["intercept"],
        maps=maps,
        penalties=tuple(bundle["penalties"]),
    )
