"""Nothing but consuming; with `orjson`, decoding each value too. No answers: a ceiling."""

import sys

import job
import orjson
from confluent_kafka import Consumer

decodes = sys.argv[1:] == ["orjson"]
consumer = Consumer(job.CONSUMER)
consumer.subscribe(list(job.TOPICS))
ceiling = job.Ceiling()
events = checksum = 0
while not ceiling.seen(events, checksum):
    messages = consumer.consume(10_000, 1.0)
    if decodes:
        loads = orjson.loads
        checksum += sum(loads(message.value())["price_cents"] for message in messages)
    else:
        checksum += sum(len(message.value()) for message in messages)
    events += len(messages)
consumer.close()
