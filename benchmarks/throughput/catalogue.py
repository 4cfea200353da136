"""The programs that do the job, and what each needs.

`durable`: what it has counted survives a crash of the process. The loops by hand and the ceilings
keep everything in memory; they show what a core can do without that.
"""

import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.drills.brokers import LAUNCHER
from benchmarks.throughput.venvs import PROGRAMS, python_of
from benchmarks.throughput.workload import CLOSABLE_BUCKETS

CONNECTOR = "flink-sql-connector-kafka-*.jar"
JAVA_HEAP = "-Xmx2g"


class NotAvailableError(Exception):
    """Something that a program needs is not there."""


@dataclass(frozen=True)
class Program:
    """`package` is the one whose version counts; `requirements` names a list beside the scripts.

    `events_max`: slower ones are given fewer events, over the same event time.
    """

    name: str
    about: str
    script: str
    durable: bool = True
    requirements: str | None = None
    package: str = ""
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    events_max: int = 10**9
    buckets_held_back: int = 0  # at the end of the data, since its windows wait for more of it
    answers: bool = True  # False: a ceiling, which times itself
    quick: bool = False

    @property
    def is_flashcast(self) -> bool:
        return self.script == "flashcast_worker.py"

    @property
    def buckets(self) -> int:
        """How many from the first on it must have answered when all is read."""
        return CLOSABLE_BUCKETS - self.buckets_held_back

    @property
    def is_java(self) -> bool:
        return self.script.endswith(".java")

    def command(self) -> list[str]:
        """Installs what is needed first. Raises InstallError, NotAvailableError."""
        script = str(PROGRAMS / self.script)
        if self.is_java:
            return ["java", JAVA_HEAP, "-cp", _classpath(), script, *self.arguments]
        return [python_of(self.requirements), script, *self.arguments]

    def version(self) -> str:
        if self.is_flashcast:
            return version("flashcast")
        if self.is_java:
            jars = [Path(jar).stem for jar in _classpath().split(":")]
            return next(jar.removeprefix(f"{self.package}-") for jar in jars if self.package in jar)
        listed = (PROGRAMS / "requirements" / f"{self.requirements}.txt").read_text().split()
        pins = dict(line.split("==") for line in listed)
        return next(pin for name, pin in pins.items() if name.split("[")[0] == self.package)


def _classpath() -> str:
    if not LAUNCHER:
        raise NotAvailableError("FLASHCAST_TEST_KAFKA names no launcher, whose jars it needs")
    asked = subprocess.run([LAUNCHER, "classpath"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def flink_connector() -> str:
    """The jar beside the launcher; empty: there is none."""
    found = sorted(Path(LAUNCHER).resolve().parent.glob(f"peers/{CONNECTOR}")) if LAUNCHER else []
    return str(found[-1]) if found else ""


def _loop(name: str, about: str, script: str, package: str, *arguments: str) -> Program:
    ceiling = script.startswith("librdkafka")
    return Program(
        name,
        about,
        script,
        durable=False,
        requirements="loops",
        package=package,
        arguments=arguments,
        answers=not ceiling,
        quick=True,
    )


CATALOGUE = (
    Program(
        "flashcast",
        "exactly once, windows alone",
        "flashcast_worker.py",
        arguments=("--without-forecasts",),
        quick=True,
    ),
    Program(
        "flashcast-decisions",
        "exactly once, forecasts and decisions too",
        "flashcast_worker.py",
    ),
    Program(
        "flashcast-two",
        "exactly once, windows alone, two workers",
        "flashcast_worker.py",
        arguments=("--without-forecasts", "--two"),
    ),
    _loop(
        "librdkafka-consume",
        "ceiling: consume alone",
        "librdkafka_consume.py",
        "confluent-kafka",
    ),
    _loop(
        "librdkafka-consume-orjson",
        "ceiling: consume, decode",
        "librdkafka_consume.py",
        "confluent-kafka",
        "orjson",
    ),
    _loop("dict", "by hand: orjson, dictionaries", "loop_dict.py", "orjson"),
    _loop("numpy", "by hand: msgspec by batch, bincount", "loop_numpy.py", "numpy"),
    _loop("polars", "by hand: read_ndjson, group_by", "loop_polars.py", "polars"),
    Program(
        "kafka-streams",
        "at least once",
        "KafkaStreamsWindows.java",
        package="kafka-streams",
    ),
    Program(
        "kafka-streams-eos",
        "exactly once",
        "KafkaStreamsWindows.java",
        package="kafka-streams",
        arguments=("exactly-once",),
    ),
    Program(
        "flink-sql",
        "state exactly once, output at least once",
        "flink_sql.py",
        requirements="flink",
        package="apache-flink",
    ),
    Program(
        "quixstreams",
        "at least once",
        "quixstreams_app.py",
        requirements="quixstreams",
        package="quixstreams",
        events_max=500_000,
    ),
    Program(
        "bytewax",
        "at least once, a stateful operator",
        "bytewax_flow.py",
        requirements="bytewax",
        package="bytewax",
        events_max=1_000_000,
    ),
    Program(
        "pathway",
        "windows a minute behind the greatest time",
        "pathway_flow.py",
        buckets_held_back=6,
        durable=False,
        requirements="pathway",
        package="pathway",
        events_max=1_000_000,
    ),
    Program(
        "faust",
        "at least once, an event at a time",
        "faust_app.py",
        requirements="faust",
        package="faust-streaming",
        events_max=100_000,
    ),
)


def chosen(names: list[str] | None) -> list[Program]:
    """Raises KeyError for a name that is none of theirs."""
    by_name = {program.name: program for program in CATALOGUE}
    return [by_name[name] for name in names] if names else list(CATALOGUE)
