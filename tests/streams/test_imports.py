"""What a worker loads, and what it is spared."""

import subprocess
import sys

SCRIPT = """
import sys
from streams import running
from streams.opening import load_forecaster
from streams.settings import load
assert load_forecaster(load(forecasting=False)) is None
print("torch" in sys.modules)
assert load_forecaster(load()) is not None
print("torch" in sys.modules)
"""


def test_a_worker_without_forecasts_does_not_load_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
