"""Serving a review on this machine."""

from mira.config.settings import Config
from mira.pipeline.runner import run_extra
from mira.plugins import resolve
from mira.progress import Log
from mira.reviewing.journal import has_judgements
from mira.run_folder.paths import RunFolder
from mira.run_view import Run
from mira.viewer.review.command import prepare
from mira.viewer.serve import PORT, check_installed, listen, run_app

__all__ = ["serve_review"]


def serve_review(config: Config, log: Log, *, slots: bool = False, host: str = "127.0.0.1", port: int = PORT) -> None:
    """Serve the cards of a blind sample until the process is interrupted; the sample is drawn if needed.

    Pages that show scores are not served: reviewers see the texts alone.

    Args:
        config: The settings.
        log: Where the address is printed.
        slots: Ask for scores of the slots, too.
        host: Address to listen at; others than this machine's are reachable from the network.
        port: Port to listen at. If it is taken, another one is used.

    Raises:
        ConfigError: The extra is not installed, or nothing can listen at this address.
        RunError: Nothing is selected yet, or a source has changed since.
    """
    check_installed()
    listen(host, 0).close()  # a wrong address is refused before a sample is drawn
    run = RunFolder(config.run)
    # A sample that is judged is only read, so a review goes on while a stage runs.
    sample = prepare(config, run, log) if has_judgements(run) else run_extra(config, prepare, log)
    deck = resolve("mira.viewer.review.deck:Deck")(config.corpus, run, sample, log, slots=slots)
    app, token = resolve("mira.viewer.review.app:review_app")(Run(run, config), deck, host)
    run_app(app, token, log, host=host, port=port)
