"""`flashcast worker`: exactly once, with its usual settings."""

import os
import sys

import job

from streams.cli import main

os.environ |= {
    "KAFKA_BOOTSTRAP_SERVERS": job.BOOTSTRAP,
    "FLASHCAST_TOPIC_PREFIX": job.PREFIX,
    "FLASHCAST_APPLICATION": job.GROUP,
    "FLASHCAST_DATA_DIR": job.STATE,
    "FLASHCAST_WEB_PORT": os.environ["BENCH_WEB_PORT"],
    "FLASHCAST_CLOCK": "event",  # the sale is long over; its decisions are wanted all the same
}
sys.argv = ["flashcast", "worker", *sys.argv[1:]]
sys.exit(main())
