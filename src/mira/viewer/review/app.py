"""The application of a review: the viewer's door and style, and none of the viewer's pages."""

from pathlib import Path

from jinja2 import PackageLoader
from starlette.applications import Starlette

from mira.run_view import Run
from mira.viewer.app import application
from mira.viewer.guard import new_token
from mira.viewer.review.deck import Deck
from mira.viewer.review.pages import ROUTES
from mira.viewer.site import Site

__all__ = ["review_app"]


def review_app(run: Run, deck: Deck, host: str = "127.0.0.1", token: str = "") -> tuple[Starlette, str]:
    """Return the application and the token that opens it.

    Args:
        run: The run.
        deck: The cards.
        host: Address at which it will listen.
        token: The token; a new one by default.
    """
    token = token or new_token()
    site = Site(run, loaders=[PackageLoader("mira.viewer.review")], static=[Path(__file__).parent / "static"])
    site.tabs = ()  # blind: no way to pages that show scores
    app = application(site, token, ROUTES, hosts=[host], pages=())
    app.state.deck = deck
    return app, token
