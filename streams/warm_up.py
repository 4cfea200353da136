"""Compiles every kernel and keeps it on disk: at install and image build, never in an event's path.

`python -m streams.warm_up`
"""

import time

from rich.console import Console

from models import forecaster
from streams import windows_warm_up
from streams.codec import kernel as codec_kernel
from streams.decisions import warm_up as decisions_warm_up


def main() -> None:
    """Compile, or load what is compiled already."""
    parts = {
        "codec": codec_kernel.warm_up,
        "windows": windows_warm_up.warm_up,
        "decisions": decisions_warm_up.warm_up,
        "forecaster": forecaster.warm_up,
    }
    began = time.monotonic()
    console = Console()
    with console.status("compiling") as status:
        for name, warm_up in parts.items():
            status.update(f"compiling the kernels: {name}")
            warm_up()
    console.print(f"kernels ready in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
