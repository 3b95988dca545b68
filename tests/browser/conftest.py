"""A headless Chromium, and the application behind a real server. Without them, these tests are skipped."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mira.viewer.serve import listen

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip
TOKEN = "the-token"


def _program(*names: str) -> str:
    return next((found for name in names if (found := shutil.which(name))), "")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Chromium for all tests; no window, no network but this machine."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium = os.environ.get("BROWSER") or _program("chromium", "chromium-browser", "google-chrome")
    driver = os.environ.get("CHROMEDRIVER") or _program("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its driver: scripts/test-browser installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serve applications until the test ends: application -> its first address."""
    uvicorn = pytest.importorskip("uvicorn")
    running = []

    def start(app: Any) -> str:
        listening = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread, listening))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(10)
        with suppress(OSError):
            listening.close()


def problems(browser: Any) -> list[str]:
    """Return what the browser's console complains about."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def resize(browser: Any, width: int, scheme: str = "light") -> None:
    """Show pages at a width, light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def folder_state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file of a folder."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
