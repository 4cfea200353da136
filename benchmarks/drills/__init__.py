"""Drills: what flashcast promises under failure, tried out on Apache Kafka and counted."""
