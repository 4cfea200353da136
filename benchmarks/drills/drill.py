"""What a drill is: a name, what it shows, a workload, a stage, and the faults."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.drills.workload import Workload

if TYPE_CHECKING:
    from benchmarks.drills.stage import Stage

Guarantee = Literal["exactly_once", "at_least_once"]
Row = dict[str, Any]


def _nothing(stage: "Stage", row: Row) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Drill:
    """`faults` runs while the load goes on; when it returns, the load ends and all is checked.

    `brokers` 0: any broker will do, and it is left in peace; else a cluster of the drill's own,
    with `broker_settings`. `settings` are of the workers, beside those of the stage. `bound_s` is
    how long the whole may take, start and verdict included. `also` sees the row of a drill whose
    workers have left, and says what else is wrong.
    """

    name: str
    about: str
    faults: Callable[["Stage"], None]
    bound_s: float = 300.0
    workload: Workload = field(default_factory=Workload)
    brokers: int = 0
    broker_settings: tuple[str, ...] = ()
    guarantee: Guarantee = "exactly_once"
    settings: Mapping[str, Any] = field(default_factory=dict)
    static_members: bool = False
    also: Callable[["Stage", Row], Iterable[str]] = _nothing
    quick: bool = False  # one of the few that CI runs, shortened
