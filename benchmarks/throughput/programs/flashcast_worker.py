"""`flashcast worker`: exactly once, with its usual settings; `--two`: two that share the work."""

import os
import sys
from pathlib import Path

import job

from streams.cli import main

second = "--two" in sys.argv and os.fork() == 0
os.environ |= {
    "KAFKA_BOOTSTRAP_SERVERS": job.BOOTSTRAP,
    "FLASHCAST_TOPIC_PREFIX": job.PREFIX,
    "FLASHCAST_APPLICATION": job.GROUP,
    "FLASHCAST_DATA_DIR": str(Path(job.STATE) / ("second" if second else "first")),
    "FLASHCAST_WEB_PORT": "0" if second else os.environ["BENCH_WEB_PORT"],
    "FLASHCAST_CLOCK": "event",  # the sale is long over; its decisions are wanted all the same
}
sys.argv = ["flashcast", "worker", *(one for one in sys.argv[1:] if one != "--two")]
sys.exit(main())
