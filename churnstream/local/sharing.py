"""Who of a function's workers is to hold which shard: even shares, few moves, and no shard with two at a time.

A worker is told everything that it is to hold, and answers with what it does hold. A shard that moves is first taken off its old
holder's list; the new one is told when the old one has answered that it gave it up, is gone, or is silent. A silent worker may
still be at work: the epoch beside each shard, above all before it, is what keeps its writes out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to hold, shard -> epoch, and whether it keeps the function's clocks."""

    shards: Mapping[int, int]
    clocks: bool


@dataclass(slots=True)
class _Member:
    told: Order | None = None
    asked: int = 0  # orders that it was given
    answered: int = 0
    holds: dict[int, int] = field(default_factory=dict)
    silent: bool = False
    silent_since: int = 0  # the last order before it fell silent
    leaving: bool = False


def split(shards: int, workers: Iterable[int], held: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """Worker -> its share of ``shards``; no two shares differ by more than one.

    Of what a worker has ``held`` it keeps the first as far as its share goes, so that as few shards move as can be.

    >>> split(8, [0, 1, 2], {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]})
    {0: [0, 1, 2], 1: [4, 5, 6], 2: [3, 7]}
    """
    ranked = sorted(workers, key=lambda worker: (-len(held.get(worker, ())), worker))
    least, larger = divmod(shards, len(ranked))
    size = {worker: least + (place < larger) for place, worker in enumerate(ranked)}
    shares = {worker: list(held.get(worker, ()))[: size[worker]] for worker in sorted(ranked)}
    kept = {shard for share in shares.values() for shard in share}
    free = iter([shard for shard in range(shards) if shard not in kept])
    for worker, share in shares.items():
        share += [next(free) for _ in range(size[worker] - len(share))]
    return shares


class Sharing:
    """The shares of one deployment. Knows no processes: it is told what happened, and says what to tell whom."""

    def __init__(self) -> None:
        self.shards = 0
        self.turns = 0
        """How many orders were given so far; while it stays the same, so do the shares."""
        self._epoch = 0
        self._members: dict[int, _Member] = {}
        self._holders: dict[int, int] = {}  # shard -> who was told to hold it, until it is known not to
        self._timekeeper: int | None = None
        self._left_by: dict[int, int] = {}  # shard -> the silent worker that it was taken from

    def join(self, worker: int, shards: int, newest: int) -> None:
        """A worker is ready; it counts ``shards``, and ``newest`` is the highest epoch that it found anywhere."""
        self.shards = shards
        self._epoch = max(self._epoch, newest)
        self._members[worker] = _Member()

    def leave(self, worker: int) -> None:
        """A worker is gone."""
        self._members.pop(worker, None)
        self._holders = {shard: holder for shard, holder in self._holders.items() if holder != worker}
        self._left_by = {shard: holder for shard, holder in self._left_by.items() if holder != worker}

    def retire(self, worker: int) -> None:
        """A worker is to give up everything."""
        if worker in self._members:
            self._members[worker].leaving = True

    def silence(self, worker: int) -> None:
        """A worker gives no sign of life; where there are others, they get what it holds."""
        member = self._members.get(worker)
        if member is not None:
            member.silent, member.silent_since = True, member.asked

    def heard(self, worker: int) -> None:
        """A worker gives signs of life again; when something was taken from it, it must first answer that it knows."""
        member = self._members.get(worker)
        if member is not None and member.asked == member.silent_since:
            member.silent = False

    def lost(self, worker: int, shard: int, epoch: int) -> None:
        """A worker found that somebody else has taken a shard that it held under ``epoch``."""
        member = self._members.get(worker)
        if member is not None and member.told is not None and member.told.shards.get(shard) == epoch:
            self._forget(worker, member, {shard})

    def answer(self, worker: int, turn: int, holds: Mapping[int, int], newest: int) -> set[int]:
        """A worker has obeyed the order ``turn``; returns the shards of it that it could not take."""
        self._epoch = max(self._epoch, newest)
        member = self._members.get(worker)
        if member is None or member.told is None:
            return set()
        member.answered = max(member.answered, turn)
        member.holds = dict(holds)
        if turn != member.asked:
            return set()  # another order is on its way
        member.silent = member.silent and turn == member.silent_since
        self._left_by = {shard: holder for shard, holder in self._left_by.items() if holder != worker and shard not in holds}
        failed = {shard for shard, epoch in member.told.shards.items() if holds.get(shard) != epoch}
        gone = {shard for shard, holder in self._holders.items() if holder == worker and shard not in holds}
        self._forget(worker, member, failed | gone)
        return failed

    def orders(self) -> dict[int, tuple[int, Order]]:
        """What to tell now: worker -> (turn, order); none for those who know already."""
        active = sorted(worker for worker, member in self._members.items() if not member.silent and not member.leaving)
        if active:
            for shard, holder in list(self._holders.items()):
                if self._members[holder].silent:
                    self._left_by[shard] = self._holders.pop(shard)
        shares = split(self.shards, active, {worker: self._oldest_first(worker) for worker in active}) if active else {}
        if active and self._timekeeper not in active and not self._keeps_time(self._timekeeper):
            self._timekeeper = active[0]
        found: dict[int, tuple[int, Order]] = {}
        for worker, member in self._members.items():
            if member.silent and not active:
                continue  # there is nobody to take over
            mine = [shard for shard in shares.get(worker, ()) if self._holders.get(shard, worker) == worker]
            order = Order(self._with_epochs(member, mine), worker == self._timekeeper and worker in active)
            self._holders |= dict.fromkeys(mine, worker)
            if order != member.told or (member.silent and member.asked == member.silent_since):
                member.told = order
                member.asked += 1
                self.turns += 1
                found[worker] = (member.asked, order)
        return found

    def holds(self, worker: int) -> list[int]:
        """What a worker said that it holds, less what was taken from it while it was silent."""
        member = self._members.get(worker)
        return sorted(shard for shard in (member.holds if member else ()) if self._holders.get(shard) == worker)

    def told(self, worker: int) -> list[int]:
        """What a worker was told to hold, whether or not it has answered."""
        member = self._members.get(worker)
        return sorted(member.told.shards) if member and member.told else []

    def is_silent(self, worker: int) -> bool:
        return worker in self._members and self._members[worker].silent

    def left_by(self, shard: int) -> int | None:
        """The silent worker that held ``shard`` last; it may keep the journal locked."""
        return self._left_by.get(shard)

    @property
    def settled(self) -> bool:
        """True when every shard is held, and nobody has an order that it has not answered, but for the silent."""
        awake = {worker: member for worker, member in self._members.items() if not member.silent}
        answered = all(member.told is not None and member.answered == member.asked for member in awake.values())
        return bool(awake) and answered and all(shard in self._held(awake) for shard in range(self.shards))

    def _keeps_time(self, worker: int | None) -> bool:
        """Whether a worker that is leaving may still keep the clocks."""
        member = None if worker is None else self._members.get(worker)
        if member is None or member.silent or member.told is None:
            return False
        return member.told.clocks or member.answered < member.asked

    def _held(self, awake: Mapping[int, _Member]) -> set[int]:
        return {shard for worker, member in awake.items() for shard in member.holds if self._holders.get(shard) == worker}

    def _forget(self, worker: int, member: _Member, shards: Iterable[int]) -> None:
        assert member.told is not None
        for shard in shards:
            if self._holders.get(shard) == worker:
                del self._holders[shard]
            member.holds.pop(shard, None)
        member.told = Order(
            {shard: epoch for shard, epoch in member.told.shards.items() if shard not in shards}, member.told.clocks
        )

    def _oldest_first(self, worker: int) -> list[int]:
        told = self._members[worker].told
        return sorted(told.shards, key=lambda shard: (told.shards[shard], shard)) if told else []

    def _with_epochs(self, member: _Member, shards: Iterable[int]) -> dict[int, int]:
        known = member.told.shards if member.told else {}
        new = [shard for shard in shards if shard not in known]
        if new:
            self._epoch += 1
        return {shard: known.get(shard, self._epoch) for shard in shards}
