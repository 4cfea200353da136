"""SIGKILL of workers: in the middle of batches and checkpoints, and while they take over."""

from benchmarks.drills.drill import Drill
from benchmarks.drills.errors import DrillError
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.transactions import Transaction, TransactionView
from benchmarks.drills.waiting import until

WORKERS = 3
ROUNDS, ROUNDS_QUICK = 25, 1
AT_ONCE = 2
TAKEOVERS, TAKEOVERS_QUICK = 5, 1
OPEN_TIMEOUT_S = 5.0
TAKEOVER_TIMEOUT_S = 90.0

Transactions = dict[str, Transaction]


def kill_in_the_middle(stage: Stage) -> None:
    """Two of three workers at a time, 25 times; every second time at the moment when a transaction
    is seen open, else at a moment of chance. The places are filled again at once.
    """
    stage.begin(WORKERS)
    with stage.transactions() as view:
        for number in range(ROUNDS_QUICK if stage.quick else ROUNDS):
            stage.pause(0.2, 1.5)
            places = stage.chance.sample(range(WORKERS), AT_ONCE)
            if number % 2 == 0 and stage.drill.guarantee == "exactly_once":
                seen = _sees_open(stage, view)
                stage.note(kills_with_a_transaction_open=AT_ONCE if seen else 0)
            fault = Moment()
            for place in places:
                stage.fleet.at[place].process.kill()
            for place in places:
                stage.fleet.at[place].kill()
                stage.fleet.start(place)
            stage.note(kills=AT_ONCE)
            stage.resume(fault)


def kill_during_takeover(stage: Stage) -> None:
    """One of two workers is killed, and the other as soon as it has begun to restore what it
    inherits: between shutting out the old owner and the first checkpoint of its own.
    """
    stage.begin(2)
    with stage.transactions() as view:
        for _ in range(TAKEOVERS_QUICK if stage.quick else TAKEOVERS):
            stage.pause(0.5, 2.0)
            first = stage.chance.randrange(2)
            before = view.of(stage.transactional_ids())
            fault = Moment()
            stage.fleet.at[first].kill()
            until(
                lambda before=before: _taken_over(before, view.of(stage.transactional_ids())),
                TAKEOVER_TIMEOUT_S,
                "the other worker takes over",
                poll_s=0.002,
            )
            stage.pause(0.0, 0.15)
            stage.fleet.at[1 - first].kill()
            stage.note(kills=2, kills_during_takeover=1)
            for place in range(2):
                stage.fleet.start(place)
            stage.resume(fault)


def _sees_open(stage: Stage, view: TransactionView) -> bool:
    """Whether a transaction was caught open in time: they are, for some milliseconds."""
    ids = stage.transactional_ids()
    try:
        until(lambda: view.open(ids, ("Ongoing",)), OPEN_TIMEOUT_S, "a transaction", poll_s=0.002)
    except DrillError:
        return False
    return True


def _taken_over(before: Transactions, now: Transactions) -> bool:
    """Whether some transactional id has a new owner."""
    return any(name in before and now[name].epoch != before[name].epoch for name in now)


KILLS = Drill(
    "kill-worker",
    "two of three workers killed (-9) 25 times, mid-batch and mid-checkpoint",
    kill_in_the_middle,
    bound_s=900.0,
    static_members=True,
    quick=True,
)
KILLS_AT_LEAST_ONCE = Drill(
    "kill-worker-at-least-once",
    "the same under at_least_once: what repeats, and what never does",
    kill_in_the_middle,
    bound_s=900.0,
    static_members=True,
    guarantee="at_least_once",
)
TAKEOVER = Drill(
    "kill-during-takeover",
    "a worker killed, and its heir while it restores",
    kill_during_takeover,
    bound_s=900.0,
)
