"""`mira demo`: a folder with the corpus, the teacher's recorded judgments and a mira.yaml, then the whole pipeline."""

from importlib import resources
from pathlib import Path

from mira.config.loading import load_config
from mira.demo.corpus import build_corpus, split_by_source
from mira.demo.download import fetch_distributions
from mira.pipeline.runner import run_stages
from mira.progress import Log, Quiet
from mira.run_folder.files import write_bytes
from mira.urls import check_local

__all__ = ["demo", "prepare_demo"]

TEACHER_FILES = (
    "free_judgments.jsonl",
    "teacher_replies.jsonl",
    "text_group_A_dim_anchors.jsonl",
    "text_group_B_dim_anchors.jsonl",
)


def prepare_demo(folder: Path, log: Log | None = None) -> Path:
    """Fill `folder` with the demo's corpus, judgments and settings; what is already there is kept.

    Args:
        folder: Where to put them.
        log: Where progress goes; nowhere by default.

    Returns:
        The mira.yaml. A file that the user has changed is left as it is.

    Raises:
        MiraError: A download failed, or the folder is a URL.
    """
    check_local(folder, "--folder")
    log = log or Quiet()
    distributions = fetch_distributions(log)
    corpus = folder / "corpus" / "corpus.jsonl"
    build_corpus(distributions, corpus, log)
    split_by_source(corpus, corpus.parent)
    data = resources.files("mira.demo") / "data"
    for name in TEACHER_FILES:
        _put(folder / "teacher" / name, (data / name).read_bytes())
    settings = folder / "mira.yaml"
    _put(settings, (data / "mira.yaml").read_bytes())
    return settings


def demo(folder: Path, log: Log | None = None) -> Path:
    """Run the whole pipeline on the demo corpus in `folder`; return the report's path."""
    settings = prepare_demo(folder, log)
    config = load_config(settings)
    run_stages(config, log=log)
    return config.run / "report.html"


def _put(path: Path, content: bytes) -> None:
    if not path.exists():
        write_bytes(path, content)
