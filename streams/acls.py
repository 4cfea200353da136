"""The least rights that each role needs on a Kafka with ACLs, from the topics' own plan. Pure.

`Read` and `Write` on a topic imply `Describe`, as `Read` on a group and `Write` on a transactional
id do. An idempotent producer needs no right on the cluster since Kafka 3.0.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from streams import topics
from streams.settings import Settings

Kind = Literal["topic", "group", "transactional-id"]
Role = Literal["admin", "worker", "shop", "dashboard", "reconcile", "inventory", "autoscaler"]
# what each does, in the words of the commands that it runs
ROLES: Final[dict[Role, str]] = {
    "admin": "flashcast topics create, check, describe",
    "worker": "flashcast worker",
    "shop": "the shop's producers; flashcast simulate, replay",
    "dashboard": "flashcast dashboard, tail",
    "reconcile": "flashcast reconcile",
    "inventory": "a subscriber of restock-events, in a group named as the role",
    "autoscaler": "a subscriber of capacity-forecasts, in a group named as the role",
}
READ: Final = ("Read",)
WRITE: Final = ("Write",)
KEPT_BY_WORKER: Final = (  # written, and read again at the next start or by the sum over partitions
    topics.DEMAND_WINDOWS,
    topics.CHANGELOG,
    topics.CAPACITY_SHARES,
    topics.CAPACITY_FORECASTS,
)


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations on one resource; `prefixed`: on all whose name begins so."""

    kind: Kind
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def grants(role: Role, settings: Settings) -> list[Grant]:
    """What `role` needs under these settings: their topic prefix, application and guarantee."""
    match role:
        case "admin":
            names = [plan.logical for plan in topics.plans()]
            return _on(names, ("Create", "Describe", "DescribeConfigs"), settings)
        case "worker":
            return _of_worker(settings)
        case "shop":
            return _on(topics.INPUT_TOPICS, WRITE, settings)
        case "dashboard":
            return _on(topics.OUTPUT_TOPICS, READ, settings)
        case "reconcile":
            read = (topics.DEMAND_WINDOWS, topics.LATE_EVENTS, topics.DEAD_LETTERS)
            return _on((*topics.EVENT_TOPICS, *read, topics.CHANGELOG), READ, settings)
        case "inventory":
            return [*_on([topics.RESTOCK_EVENTS], READ, settings), Grant("group", role, READ)]
        case "autoscaler":
            return [*_on([topics.CAPACITY_FORECASTS], READ, settings), Grant("group", role, READ)]


def _of_worker(settings: Settings) -> list[Grant]:
    written = [name for name in topics.OUTPUT_TOPICS if name not in KEPT_BY_WORKER]
    found = [
        *_on(topics.INPUT_TOPICS, READ, settings),
        *_on(KEPT_BY_WORKER, READ + WRITE, settings),
        *_on(written, WRITE, settings),
        Grant("group", settings.topic(settings.application), READ),
    ]
    if settings.processing_guarantee == "exactly_once":
        found.append(Grant("transactional-id", settings.transactional_id(""), WRITE, prefixed=True))
    return found


def _on(names: Sequence[str], operations: tuple[str, ...], settings: Settings) -> list[Grant]:
    return [Grant("topic", settings.topic(name), operations) for name in names]


def commands(several: list[Grant], principal: str) -> list[str]:
    """The same as `kafka-acls` commands: one for all that are granted alike."""
    alike: dict[tuple[Kind, tuple[str, ...], bool], list[str]] = {}
    for one in several:
        alike.setdefault((one.kind, one.operations, one.prefixed), []).append(one.name)
    return [_command(*key, names, principal) for key, names in alike.items()]


def _command(
    kind: Kind, operations: tuple[str, ...], prefixed: bool, names: list[str], principal: str
) -> str:
    parts = [
        f"kafka-acls --bootstrap-server $KAFKA_BOOTSTRAP_SERVERS --command-config admin.properties"
        f" --add --allow-principal '{principal}'",
        *(f"--operation {operation}" for operation in operations),
        *(["--resource-pattern-type prefixed"] if prefixed else []),
        *(f"--{kind} {name}" for name in names),
    ]
    return " ".join(parts)


def run_acls(
    settings: Settings, roles: Sequence[Role], principal: str | None, json_output: bool = False
) -> int:
    """Print what `roles` need; `principal` None: one of its own for each."""
    needed = {role: grants(role, settings) for role in roles}
    if json_output:
        print(
            json.dumps({role: [asdict(one) for one in several] for role, several in needed.items()})
        )
        return 0
    for role, several in needed.items():
        print(f"# {role}: {ROLES[role]}")
        for command in commands(several, principal or f"User:flashcast-{role}"):
            print(command)
    return 0


def table() -> str:
    """The rights of all roles under default settings, in Markdown."""
    rows = ["| role | what it runs | resource | operations |", "|---|---|---|---|"]
    for role, runs in ROLES.items():
        alike: dict[tuple[Kind, tuple[str, ...]], list[str]] = {}
        for one in grants(role, Settings.model_construct()):
            shown = f"`{one.name}{'*' * one.prefixed}`"
            alike.setdefault((one.kind, one.operations), []).append(shown)
        for (kind, operations), names in alike.items():
            many = "s" * (len(names) > 1)
            what = f"{kind.replace('-', ' ')}{many} {', '.join(names)}"
            rows.append(f"| {role} | {runs} | {what} | {', '.join(operations)} |")
    return "\n".join(rows) + "\n"
