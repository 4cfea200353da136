"""What a log line of ours shows."""

import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from streams import logs
from streams.settings import load
logs.configure(load())
def fails(password):
    raise ValueError("no connection")
try:
    fails("hunter2-hunter2")
except ValueError:
    structlog.get_logger("test").exception("it failed")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_value_of_a_variable(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHCAST_LOG_FORMAT", form)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert "it failed" in done.stderr and "ValueError: no connection" in done.stderr
    assert "hunter2-hunter2" not in done.stderr.replace('fails("hunter2-hunter2")', "")
