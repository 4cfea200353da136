"""A topic that refuses what a worker has for it, in the middle of its transactions."""

import time

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from benchmarks.drills.aside import said
from benchmarks.drills.drill import Drill
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.waiting import until

TOPICS = ("demand-windows", "demand-forecasts")
TOO_SMALL, USUAL = 200, 2**20 + 12
HELD_S = 6.0
NOTICE_TIMEOUT_S = 60.0
NOTICE = "refused a batch of up to"


def lower_the_limit(stage: Stage) -> None:
    """`max.message.bytes` of an output topic falls below any batch, and is raised again after the
    workers have said so and tried for some seconds more.
    """
    stage.begin(2)
    for topic in TOPICS[:1] if stage.quick else TOPICS:
        stage.pause(1.0, 3.0)
        notices = [said(stage, place, NOTICE) for place in stage.fleet.at]
        _limit(stage, topic, TOO_SMALL)
        until(lambda several=notices: all(one() for one in several), NOTICE_TIMEOUT_S, NOTICE)
        time.sleep(HELD_S)
        _limit(stage, topic, USUAL)
        stage.resume(Moment())
    logs = [worker.said() for worker in stage.fleet.at.values()]
    stage.note(checkpoints_refused=sum(log.count(NOTICE) for log in logs))


def _limit(stage: Stage, topic: str, bytes_max: int) -> None:
    name = stage.settings.topic(topic)
    configs = {"max.message.bytes": str(bytes_max)}
    admin = KafkaAdminClient(bootstrap_servers=stage.settings.bootstrap_servers)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=configs)])
    admin.close()


OUTPUT_TOO_LARGE = Drill(
    "output-too-large",
    "output topics that refuse every batch in the middle of a transaction, for a while",
    lower_the_limit,
)
