"""A dashboard on a thread of its own."""

import asyncio
import threading

from streams.settings import Settings
from streams.web.dashboard import running


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
