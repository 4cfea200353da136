"""A headless Chromium, the embedded broker, and a dashboard on a thread of its own."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.embedded import EmbeddedBroker, binary
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.web.dashboard import running

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1500,1600",
)


@pytest.fixture(scope="session")
def chromium() -> "Iterator[WebDriver]":
    """Left out, with the reason, where selenium, Chromium or its driver is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chrome = webdriver.Chrome(options=options, service=service)
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """An embedded broker of the test's own: it may stop and start it."""
    try:
        binary()
    except ConfigurationError as error:
        pytest.skip(str(error))
    with EmbeddedBroker(tmp_path / "broker") as started:
        yield started


class Served:
    """A dashboard on a thread; `url` while it runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = threading.Event()
        self._stopped: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.url = ""

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with running(self._settings, "127.0.0.1", 0) as port:
            self.url = f"http://127.0.0.1:{port}/"
            self._ready.set()
            await self._stopped.wait()

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(20), "the dashboard did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns when it has left."""
        if self._thread.is_alive() and self._loop and self._stopped:
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(20)
            assert not self._thread.is_alive(), "the dashboard did not stop"
