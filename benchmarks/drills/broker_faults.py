"""Brokers killed, frozen and restarted while workers commit."""

from pathlib import Path

from benchmarks.drills.drill import Drill
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.waiting import until

ROUNDS, ROUNDS_QUICK = 5, 1
NODES = 3
FROZEN_S, FROZEN_QUICK_S = 60.0, 10.0
COMMIT_TIMEOUT_S = 60.0
DECIDED_WITHIN_S = 0.06


def kill_the_broker(stage: Stage) -> None:
    """The only broker killed (-9) and started again on its data, five times, under load."""
    stage.begin(2)
    for _ in range(_rounds(stage)):
        stage.pause(1.0, 3.0)
        fault = Moment()
        stage.cluster.kill_at_once(0)
        stage.pause(0.0, 1.5)
        stage.cluster.start()
        stage.note(broker_kills=1)
        stage.resume(fault)
    stage.note(commits_without_markers=skipped_markers(stage.cluster.directory))


def kill_within_commits(stage: Stage) -> None:
    """The only broker killed some milliseconds after a transaction was seen open, about when it is
    decided: a commit whose markers are not all written must be ended as it was decided.
    """
    stage.begin(2)
    for _ in range(_rounds(stage)):
        stage.pause(0.5, 1.5)
        with stage.transactions() as view:
            until(
                lambda view=view: view.open(stage.transactional_ids(), ("Ongoing",)),
                COMMIT_TIMEOUT_S,
                "an open transaction",
                poll_s=0.002,
            )
            stage.pause(0.0, DECIDED_WITHIN_S)
            fault = Moment()
            stage.cluster.kill_at_once(0)
        stage.cluster.start()
        stage.note(broker_kills=1)
        stage.resume(fault)
    stage.note(commits_without_markers=skipped_markers(stage.cluster.directory))


def skipped_markers(directory: Path) -> int:
    """Transactions for which a broker that came back wrote no markers, by its own log."""
    logs = directory.glob("node-*/log")
    return sum(log.read_text(errors="replace").count("hence can be skipped") for log in logs)


def kill_coordinators(stage: Stage) -> None:
    """One of three brokers at a time, the topics replicated three times: each time the one that
    coordinates some partition's transactions.
    """
    stage.begin(2)
    for _ in range(_rounds(stage)):
        stage.pause(1.0, 3.0)
        with stage.transactions() as view:
            found = view.of([stage.chance.choice(stage.transactional_ids())])
        coordinators = [one.coordinator for one in found.values() if one.coordinator > 0]
        node = stage.cluster.node_of(coordinators[0]) if coordinators else 0
        fault = Moment()
        stage.cluster.kill_at_once(node)
        stage.note(broker_kills=1)
        stage.resume(fault)
        stage.cluster.start()


def freeze_the_broker(stage: Stage) -> None:
    """The only broker stopped (SIGSTOP) for a minute: connections stay open, nothing answers."""
    stage.begin(2)
    stage.pause(1.0, 3.0)
    fault = Moment()
    stage.cluster.freeze(0)
    frozen_s = FROZEN_QUICK_S if stage.quick else FROZEN_S
    stage.pause(frozen_s, frozen_s)
    stage.cluster.thaw(0)
    stage.note(frozen_s=frozen_s)
    stage.resume(fault)


def _rounds(stage: Stage) -> int:
    return ROUNDS_QUICK if stage.quick else ROUNDS


KILL_BROKER = Drill(
    "kill-broker",
    "the only broker killed (-9) and restarted under load, five times",
    kill_the_broker,
    bound_s=900.0,
    brokers=1,
)
KILL_WITHIN_COMMITS = Drill(
    "kill-broker-in-commit",
    "the only broker killed around the end of a commit, five times",
    kill_within_commits,
    bound_s=900.0,
    brokers=1,
)
KILL_COORDINATORS = Drill(
    "kill-coordinator",
    "one broker of three killed (-9), each time a transaction coordinator, five times",
    kill_coordinators,
    bound_s=900.0,
    brokers=NODES,
)
FREEZE = Drill(
    "broker-unreachable",
    "the only broker frozen for 60 s under load",
    freeze_the_broker,
    bound_s=600.0,
    brokers=1,
)
