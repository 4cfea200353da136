"""Compiles every kernel and keeps it on disk: at install and image build, never in an event's path.

`python -m streams.warm_up`
"""

import time

from streams.codec import kernel as codec_kernel


def main() -> None:
    """Compile, or load what is compiled already."""
    began = time.monotonic()
    codec_kernel.warm_up()
    print(f"kernels ready in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
