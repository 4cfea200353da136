"""The group coordinator: members, generations, who has which partitions, who keeps them warm."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.faults.chance import Chance

REBALANCE_TIMEOUT_S: Final = 3.0
JOIN_WAIT_S: Final = 0.05  # for others who come at the same time


class Assignment(NamedTuple):
    """Of one member. `standbys` are partition numbers to keep warm for others."""

    generation: int
    owned: set[int]
    standbys: set[int]


@dataclass(slots=True)
class Member:
    """`joining` is set while it waits for the new generation."""

    heard_s: float
    joining: "asyncio.Future[Assignment] | None" = None


class UnknownMemberError(Exception):
    """The group goes on without this member; it may join anew."""


class RebalanceNeededError(Exception):
    """The group waits for this member to join again."""


class GroupCoordinator:
    """Of one group over `partitions` numbers, each with `replicas` standbys where there are as many
    others. Generations of members who are heard of.
    """

    def __init__(
        self,
        partitions: int,
        replicas: int,
        session_s: float,
        chance: Chance,
        later: Callable[..., None],
        now_s: Callable[[], float],
    ) -> None:
        self._partitions = partitions
        self._replicas = replicas
        self._session_s = session_s
        self._chance = chance
        self._later = later
        self._now_s = now_s
        self._members: dict[str, Member] = {}
        self._preparing = False
        self._round = 0
        self.generation = 0
        self.owners: dict[int, str] = {}
        self.standbys: dict[int, list[str]] = {}
        self.offsets: dict[tuple[str, int], int] = {}  # by logical topic
        self.evicted = 0

    def join(self, member_id: str, answer: "asyncio.Future[Assignment]") -> None:
        """The answer comes when all members have joined, or the others have had their time."""
        member = self._members.setdefault(member_id, Member(self._now_s()))
        member.heard_s = self._now_s()
        member.joining = answer
        self._prepare()
        if all(one.joining is not None for one in self._members.values()):
            self._later(JOIN_WAIT_S, self._complete_if_all, self._round)
        self._later(self._session_s, self._look, member_id)

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Raises UnknownMemberError, RebalanceNeededError."""
        member = self._known(member_id, generation)
        member.heard_s = self._now_s()
        if self._preparing:
            raise RebalanceNeededError

    def commit(self, member_id: str, generation: int, offsets: dict[tuple[str, int], int]) -> None:
        """Raises UnknownMemberError unless the member is of this generation."""
        self._known(member_id, generation)
        self.offsets.update(offsets)

    def leave(self, member_id: str) -> None:
        if self._members.pop(member_id, None) is not None and self._members:
            self._prepare()
            self._later(JOIN_WAIT_S, self._complete_if_all, self._round)

    def _known(self, member_id: str, generation: int) -> Member:
        member = self._members.get(member_id)
        if member is None or generation != self.generation:
            raise UnknownMemberError
        return member

    def _prepare(self) -> None:
        if not self._preparing:
            self._preparing = True
            self._round += 1
            self._later(REBALANCE_TIMEOUT_S, self._complete, self._round)

    def _look(self, member_id: str) -> None:
        """Evict who has not been heard of for a session."""
        member = self._members.get(member_id)
        if member is None:
            return
        silent_s = self._now_s() - member.heard_s
        if member.joining is None and silent_s >= self._session_s - 1e-6:
            self.evicted += 1
            self.leave(member_id)
        else:
            wait_s = self._session_s if member.joining else self._session_s - silent_s
            self._later(max(wait_s, 0.01), self._look, member_id)

    def _complete_if_all(self, round_: int) -> None:
        if all(one.joining is not None for one in self._members.values()):
            self._complete(round_)

    def _complete(self, round_: int) -> None:
        if not self._preparing or round_ != self._round:
            return
        self._members = {
            name: one for name, one in self._members.items() if one.joining is not None
        }
        self._preparing = False
        self.generation += 1
        shares = self._shares(list(self._members))
        self.owners = {number: name for name, share in shares.items() for number in share}
        self.standbys = self._warm(list(self._members))
        for name, member in self._members.items():
            answer, member.joining = member.joining, None
            member.heard_s = self._now_s()
            assert answer is not None
            warm = {number for number, names in self.standbys.items() if name in names}
            if not answer.done():
                answer.set_result(Assignment(self.generation, shares[name], warm))

    def _shares(self, names: list[str]) -> dict[str, set[int]]:
        """Evenly; who had a partition mostly keeps it, and else mostly who kept it warm has it."""
        shares: dict[str, set[int]] = {name: set() for name in names}
        most = -(-self._partitions // max(len(names), 1))
        for number in range(self._partitions):
            before = self.owners.get(number)
            free = [name for name in names if len(shares[name]) < most]
            if not free:
                continue
            stays = before in free and self._chance.rng.random() < 0.8
            chosen = before if stays else self._chance.one_of(self._ready(number, free))
            assert chosen is not None
            shares[chosen].add(number)
        return shares

    def _ready(self, number: int, free: list[str]) -> list[str]:
        """Those of `free` who kept the partition warm, if any did and this is one of the times when
        that counts.
        """
        warm = [name for name in free if name in self.standbys.get(number, [])]
        return warm if warm and self._chance.rng.random() < 0.8 else free

    def _warm(self, names: list[str]) -> dict[int, list[str]]:
        """Who keeps which partition warm: never its owner, and mostly who did so before."""
        if not self._replicas:
            return {}
        found: dict[int, list[str]] = {}
        for number, owner in self.owners.items():
            before = self.standbys.get(number, [])
            others = self._chance.shuffled([name for name in names if name != owner])
            if self._chance.rng.random() < 0.8:
                others.sort(key=lambda name: name not in before)
            found[number] = others[: self._replicas]
        return found
