"""Who gets which partitions, and who keeps them warm for the case that their owner dies.

The group, the protocol and what members tell each other are Faust's; whichever member leads decides
with this. In order of weight:
- actives: every client has its share, P / N rounded down or up; as few partitions as possible
  change hands; of those, as many as possible go to a client that keeps them warm.
- standbys: the death of each owner is played through beforehand. Its partitions are kept warm by
  those who would have room for them, so that all are promoted and the shares are even again. Those
  that are there stay where they are unless that, or a client with too many of them, says otherwise.
Faust goes through the partitions one after the other instead: an early one takes the room of the
client that keeps a later one warm, and standbys lie where there will be no room.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from faust.assignor.copartitioned_assignor import CopartitionedAssignor
from numpy.typing import NDArray

Held = Mapping[str, Collection[int]]  # partition numbers by client
Sets = dict[str, set[int]]
Cost = Callable[[int, str, int], int]  # of a partition number, a client, and a place there

_FAR: Final = np.iinfo(np.int64).max // 4  # above every sum of costs


class Assignor(CopartitionedAssignor):  # type: ignore[misc]  # Faust is untyped to mypy here
    """Of topics whose partitions belong together. The order in which clients come plays no part.

    A partition that several claim, since one of them stood still, goes to one of them.
    """

    def get_assignment(self) -> Any:
        """Clients by name; what they held is replaced by what they are to hold."""
        clients = {
            name: self._client_assignments[name] for name in sorted(self._client_assignments)
        }
        actives = {name: client.actives for name, client in clients.items()}
        standbys = {name: client.standbys for name, client in clients.items()}
        owners = owners_of(self.num_partitions, actives, standbys)
        keepers = keepers_of(owners, standbys, self.replicas)
        for name, client in clients.items():
            client.actives = {number for number, owner in enumerate(owners) if owner == name}
            client.standbys = {number for number, some in enumerate(keepers) if name in some}
        return self._client_assignments


def owners_of(partitions: int, actives: Held, standbys: Held) -> list[str]:
    """The owner of each partition, given who had it and who keeps it warm."""
    moved = partitions + 1  # more than all that could be cold

    def cost(number: int, client: str, _: int) -> int:
        return 0 if number in actives[client] else moved + (number not in standbys[client])

    owners = shared(range(partitions), dict.fromkeys(actives, 0), cost)
    return [owners[number] for number in range(partitions)]


def keepers_of(owners: Sequence[str], standbys: Held, replicas: int) -> list[set[str]]:
    """Who keeps each partition warm: `replicas` clients, fewer than there are in all."""
    if not replicas:
        return [set() for _ in owners]
    kept = {client: {n for n in held if n < len(owners)} for client, held in standbys.items()}
    for _ in owners:  # two or three times; nothing moves any more but off overfull clients
        before, kept = kept, _replayed(owners, kept, replicas)
        if kept == before:
            break
    return [{client for client, held in kept.items() if n in held} for n in range(len(owners))]


def _replayed(owners: Sequence[str], before: Sets, replicas: int) -> Sets:
    """The standbys after the deaths of all owners were played through, one after the other."""
    kept = {client: set(held) for client, held in before.items()}
    owned = {client: [n for n, owner in enumerate(owners) if owner == client] for client in kept}
    fair = -(-len(owners) * replicas // len(kept))
    for owner, numbers in owned.items():
        for held in kept.values():
            held.difference_update(numbers)
        others = {client: len(has) for client, has in owned.items() if client != owner}
        cost = _cost_of_standby(before, kept, fair, len(numbers))
        for number, client in shared(numbers, others, cost).items():
            kept[client].add(number)
        for number in numbers * (replicas - 1):
            free = [client for client in others if number not in kept[client]]
            full = {client: len(kept[client]) >= fair for client in free}
            of_owner = {client: len(kept[client].intersection(numbers)) for client in free}
            client = min(free, key=lambda c: (full[c], number not in before[c], of_owner[c], c))
            kept[client].add(number)
    return kept


def _cost_of_standby(before: Sets, kept: Sets, fair: int, most: int) -> Cost:
    """Beyond its fair share a client gets one last; else standbys stay; else the least loaded."""
    load = {client: len(held) for client, held in kept.items()}
    above_all_load = most * (max(load.values()) + most) + 1

    def cost(number: int, client: str, place: int) -> int:
        loaded = load[client] + place
        moved, overfull = number not in before[client], loaded >= fair
        return loaded + above_all_load * (moved + (most + 1) * overfull)

    return cost


def shared(numbers: Sequence[int], has: Mapping[str, int], cost: Cost) -> dict[int, str]:
    """A client for each of `numbers`, at the least sum of costs, so that with those that it `has`
    already every client's count is the mean, rounded down or up.

    `cost(number, client, place)` is that of the client's `place`-th of them, from 0.
    """
    floor = (sum(has.values()) + len(numbers)) // len(has)
    places = [(client, n) for client in sorted(has) for n in range(has[client], floor + 1)]
    table = [[cost(number, client, n - has[client]) for client, n in places] for number in numbers]
    costs = np.array(table, np.int64).reshape(len(numbers), len(places))
    # As few as possible lie above the mean: then none is left below it.
    costs += (int(costs.max(initial=0)) * len(numbers) + 1) * np.array(
        [n == floor for _, n in places]
    )
    return {number: places[at][0] for number, at in zip(numbers, matched(costs), strict=True)}


def matched(costs: NDArray[np.int64]) -> list[int]:
    """The column of each row, no column twice, at the least sum; costs: (rows, columns >= rows).

    The Hungarian method: rows come one by one, each over the cheapest chain of swaps to a free
    column. Row and column 0 of the arrays stand for none.
    """
    padded = np.pad(costs, ((1, 0), (1, 0)), constant_values=_FAR)
    rows, columns = padded.shape
    row_price, column_price = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
    row_at = np.zeros(columns, np.int64)
    for row in range(1, rows):
        row_at[0], column = row, 0
        nearest = np.full(columns, _FAR)
        reached_from = np.zeros(columns, np.int64)
        unseen = np.ones(columns, bool)
        while at := row_at[column]:
            unseen[column] = False
            distance = padded[at] - row_price[at] - column_price
            nearer = unseen & (distance < nearest)
            nearest[nearer], reached_from[nearer] = distance[nearer], column
            # of equals one that is free: else the chain would go through all that are taken
            column = int(np.where(unseen, 2 * nearest + (row_at > 0), 2 * _FAR).argmin())
            step = nearest[column]
            row_price[row_at[~unseen]] += step
            column_price[~unseen] -= step
            nearest[unseen] -= step
        while column:
            row_at[column] = row_at[reached_from[column]]
            column = int(reached_from[column])
    found = {int(row): column - 1 for column, row in enumerate(row_at) if column and row}
    return [found[row] for row in range(1, rows)]
