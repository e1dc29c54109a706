"""Who is to hold what, against a world in which messages are late and workers stop, die and wake up again."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.local.sharing import Order, Sharing, split

SHARDS = 8
MOST = 4


@dataclass
class Worker:
    """A process: what it believes to hold, and what is on its way to it and from it."""

    held: dict[int, int] = field(default_factory=dict)
    orders: deque[tuple[int, Order]] = field(default_factory=deque)
    answers: deque[tuple[int, dict[int, int], int]] = field(default_factory=deque)
    stopped: bool = False


class World:
    """Workers, the journals' epochs, and the sharing that knows of them only what it is told."""

    def __init__(self) -> None:
        self.sharing = Sharing()
        self.workers: dict[int, Worker] = {}
        self.epochs = [(0, -1)] * SHARDS
        self.next = 0

    def tell(self) -> bool:
        """Whether there was anything to tell."""
        orders = self.sharing.orders()
        for worker, order in orders.items():
            self.workers[worker].orders.append(order)
        return bool(orders)

    def start(self) -> None:
        if len(self.workers) < MOST:
            self.workers[self.next] = Worker()
            self.sharing.join(self.next, SHARDS, max(epoch for epoch, _ in self.epochs))
            self.next += 1

    def kill(self, worker: int) -> None:
        del self.workers[worker]
        self.sharing.leave(worker)

    def stop(self, worker: int) -> None:
        self.workers[worker].stopped = True

    def silence(self, worker: int) -> None:
        if self.workers[worker].stopped:
            self.sharing.silence(worker)

    def wake(self, worker: int) -> None:
        if self.workers[worker].stopped:
            self.workers[worker].stopped = False
            self.sharing.heard(worker)

    def obey(self, worker: int) -> None:
        """The worker does what the next order says: first it gives up, then it takes, as its journals let it."""
        me = self.workers[worker]
        if me.stopped or not me.orders:
            return
        turn, order = me.orders.popleft()
        me.held = {shard: epoch for shard, epoch in me.held.items() if order.shards.get(shard) == epoch}
        for shard, epoch in order.shards.items():
            if shard not in me.held and epoch > self.epochs[shard][0]:
                self.epochs[shard] = (epoch, worker)
                me.held[shard] = epoch
        me.answers.append((turn, dict(me.held), max(epoch for epoch, _ in self.epochs)))

    def hear(self, worker: int) -> None:
        """The next answer arrives."""
        if self.workers[worker].answers:
            self.sharing.answer(worker, *self.workers[worker].answers.popleft())

    def foreign(self, shard: int) -> None:
        """Somebody whom nobody knows takes a shard; its holder notices by a refused write."""
        epoch, holder = self.epochs[shard]
        self.epochs[shard] = (epoch + 1, -1)
        if holder in self.workers and self.workers[holder].held.get(shard) == epoch and not self.workers[holder].stopped:
            del self.workers[holder].held[shard]
            self.sharing.lost(holder, shard, epoch)

    def let_all_be_heard(self) -> None:
        for _ in range(100):
            quiet = all(not each.answers and (each.stopped or not each.orders) for each in self.workers.values())
            if not self.tell() and quiet:
                return
            for worker in self.workers:
                self.obey(worker)
                self.hear(worker)
        raise AssertionError("they never come to rest")

    def may_write(self, shard: int) -> list[int]:
        """Workers that are at work, believe to hold the shard, and are not refused."""
        epoch, holder = self.epochs[shard]
        return [each for each in self.workers if each == holder and self.workers[each].held.get(shard) == epoch]


ACTIONS = ("start", "kill", "stop", "silence", "wake", "foreign", *["obey", "hear", "tell"] * 4)
steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, SHARDS - 1)), min_size=30, max_size=80)


@settings(max_examples=200)
@given(steps)
def test_whatever_happens_all_shards_end_up_evenly_with_those_who_are_awake(given: list[tuple[str, int]]) -> None:
    world = World()
    world.start()
    for action, number in given:
        if action in ("start", "tell"):
            getattr(world, action)()
        elif action == "foreign":
            world.foreign(number)
        elif world.workers:
            getattr(world, action)(sorted(world.workers)[number % len(world.workers)])
        at_work = [shard for each in world.workers.values() if not each.stopped for shard in each.held]
        silenced = any(world.sharing.is_silent(each) for each in world.workers)
        assert silenced or len(at_work) == len(set(at_work)), "two that are awake never work on one shard"
    for worker in world.workers:
        world.silence(worker)
    world.let_all_be_heard()
    awake = {worker: each for worker, each in world.workers.items() if not each.stopped}
    if awake:
        assert world.sharing.settled
        assert sorted(shard for each in awake.values() for shard in each.held) == list(range(SHARDS))
        sizes = [len(each.held) for each in awake.values()]
        assert max(sizes) - min(sizes) <= 1
        assert all(world.sharing.holds(worker) == sorted(each.held) for worker, each in awake.items())
        assert all(len(world.may_write(shard)) == 1 for shard in range(SHARDS))


@pytest.fixture
def three() -> World:
    """Three workers that share eight shards."""
    world = World()
    for _ in range(3):
        world.start()
    world.let_all_be_heard()
    return world


def shares(world: World) -> dict[int, list[int]]:
    return {worker: sorted(each.held) for worker, each in world.workers.items()}


def test_a_dead_workers_shards_go_to_the_others_and_as_many_come_back_no_other_moves(three: World) -> None:
    before = shares(three)
    assert [len(each) for each in before.values()] == [3, 3, 2]
    three.kill(1)
    three.let_all_be_heard()
    meanwhile = shares(three)
    assert [len(each) for each in meanwhile.values()] == [4, 4]
    assert all(set(before[worker]) <= set(meanwhile[worker]) for worker in (0, 2)), "who lives keeps what it has"
    three.start()
    three.let_all_be_heard()
    after = shares(three)
    moved = {shard for worker in (0, 2) for shard in meanwhile[worker] if shard not in after[worker]}
    assert moved == set(after[3])
    assert len(moved) == 2


def test_a_worker_that_leaves_keeps_its_shards_until_it_has_said_that_it_gave_them_up(three: World) -> None:
    mine = three.sharing.holds(0)
    three.sharing.retire(0)
    three.tell()
    told = {shard for worker in (1, 2) for _, order in three.workers[worker].orders for shard in order.shards}
    assert not told & set(mine)
    three.obey(0)
    three.tell()
    assert not any(three.workers[worker].orders for worker in (1, 2))
    three.hear(0)
    three.tell()
    told = {shard for worker in (1, 2) for _, order in three.workers[worker].orders for shard in order.shards}
    assert told == set(range(SHARDS))
    three.let_all_be_heard()
    assert shares(three)[0] == []


def test_a_silent_worker_with_nobody_beside_it_keeps_what_it_has() -> None:
    world = World()
    world.start()
    world.let_all_be_heard()
    world.stop(0)
    world.silence(0)
    assert world.sharing.orders() == {}
    world.wake(0)
    assert world.sharing.orders() == {}
    assert world.sharing.settled


def test_a_silent_worker_gets_nothing_before_it_has_said_that_it_knows(three: World) -> None:
    three.stop(0)
    three.silence(0)
    three.let_all_be_heard()
    assert three.sharing.holds(0) == []
    assert sorted(three.sharing.holds(1) + three.sharing.holds(2)) == list(range(SHARDS))
    assert three.workers[0].held, "it has not heard of it"
    three.wake(0)
    assert three.sharing.orders() == {}
    assert three.sharing.is_silent(0)
    three.let_all_be_heard()
    assert [len(each) for each in shares(three).values()] in ([3, 3, 2], [2, 3, 3], [3, 2, 3])


def test_one_worker_keeps_the_clocks_and_they_move_only_when_it_is_gone(three: World) -> None:
    def keepers() -> list[int]:
        return [worker for worker in three.workers if three.sharing._members[worker].told.clocks]  # type: ignore[union-attr]

    assert keepers() == [0]
    three.sharing.retire(0)
    three.tell()
    assert keepers() == [], "never two at a time"
    three.let_all_be_heard()
    assert keepers() == [1]
    three.kill(0)
    three.let_all_be_heard()
    assert keepers() == [1]
    three.sharing.join(0, SHARDS, 0)
    three.workers[0] = Worker()
    three.let_all_be_heard()
    assert keepers() == [1]


def test_who_kept_a_shard_locked_is_remembered_until_it_has_spoken(three: World) -> None:
    mine = three.sharing.holds(0)
    three.stop(0)
    three.silence(0)
    three.tell()
    assert {three.sharing.left_by(shard) for shard in mine} == {0}
    three.wake(0)
    three.obey(0)
    three.hear(0)
    assert {three.sharing.left_by(shard) for shard in range(SHARDS)} == {None}


def test_epochs_are_above_all_that_anybody_has_found(three: World) -> None:
    three.sharing.join(7, SHARDS, newest=57)
    three.workers[7] = Worker()
    three.let_all_be_heard()
    assert min(three.workers[7].held.values()) > 57
    three.epochs[three.sharing.holds(7)[0]] = (99, -1)
    three.kill(7)
    three.let_all_be_heard()
    assert three.sharing.settled
    assert max(max(each.held.values()) for each in three.workers.values()) > 99


def test_a_shard_that_a_stranger_took_is_taken_back(three: World) -> None:
    shard = three.sharing.holds(0)[0]
    three.foreign(shard)
    assert not three.sharing.settled
    three.let_all_be_heard()
    assert len(three.may_write(shard)) == 1


def test_an_answer_from_before_a_worker_fell_silent_is_no_sign_of_life(three: World) -> None:
    three.start()
    three.tell()
    three.obey(3)
    three.stop(3)
    three.silence(3)
    three.hear(3)
    assert three.sharing.is_silent(3)
    three.let_all_be_heard()
    assert three.sharing.settled


@given(st.integers(0, 16), st.integers(1, 6), st.randoms())
def test_shares_are_even_and_nobody_loses_more_than_must_be(shards: int, workers: int, random: object) -> None:
    owners = [random.randrange(-1, workers) for _ in range(shards)]  # type: ignore[attr-defined]
    held = {worker: [shard for shard in range(shards) if owners[shard] == worker] for worker in range(workers)}
    found = split(shards, range(workers), held)
    assert sorted(shard for share in found.values() for shard in share) == list(range(shards))
    sizes = sorted(len(share) for share in found.values())
    assert sizes[-1] - sizes[0] <= 1
    kept = sum(len(set(held[worker]) & set(found[worker])) for worker in held)
    larger = -(-shards // workers)
    biggest_first = sorted((len(each) for each in held.values()), reverse=True)
    quota = [larger if place < shards % workers or shards % workers == 0 else larger - 1 for place in range(workers)]
    assert kept == sum(min(size, most) for size, most in zip(biggest_first, quota, strict=True))
