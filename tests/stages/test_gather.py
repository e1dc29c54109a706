"""Requests that share a commit: nobody waits longer than the bound, and nobody's answer is another's."""

import asyncio
import itertools
import json
import random
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.codecs import decode_batch
from churnstream.errors import StorageFailed, UnreadablePayload
from churnstream.journal.memory import unpack
from churnstream.settings import Settings
from churnstream.stages.gather import HEAVY, Draft, Gathering, take_together
from churnstream.stages.intake import Intake, Receipt
from churnstream.topology import DEAD_LETTERS, INCOMING, SHARDS
from churnstream.usecases import load
from churnstream.wiring import Parts, open_parts

WAIT = timedelta(milliseconds=20)


class Travelling(asyncio.SelectorEventLoop):
    """A loop whose clock jumps over every wait: what would take a minute takes none, and always the same."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now


def travel(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=Travelling) as runner:
        return runner.run(work)


class Works:
    """Notes when it was given what; each item's result is the item and how many came with it."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, list[Any]]] = []

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append((asyncio.get_running_loop().time(), list(items)))
        return [(item, len(items)) for item in items]


def gathering(work: Any, wait: timedelta = WAIT) -> Gathering[Any, Any]:
    return Gathering(work, wait, weigh=lambda item: 1)


async def arrive(gathered: Gathering[Any, Any], instants: Sequence[float]) -> list[float]:
    """Put the instants, each at itself, whether or not others are through; returns how long each was held."""
    loop = asyncio.get_running_loop()

    async def one(at: float) -> float:
        await asyncio.sleep(at - loop.time())
        began = loop.time()
        result = await gathered.put(at)
        assert result[0] == at
        return loop.time() - began

    return list(await asyncio.gather(*(one(at) for at in instants)))


def test_what_comes_alone_is_not_held_back() -> None:
    works = Works()
    held = travel(arrive(gathering(works), [0.0, 1.0, 1.5, 1.52]))
    assert held == pytest.approx([0.0] * 4)
    assert [len(items) for _, items in works.batches] == [1] * 4


def test_what_comes_close_together_is_worked_on_together_when_the_bound_is_over() -> None:
    #    0 ms        3  4      19 | 20                      30 | 40
    works = Works()
    travel(arrive(gathering(works), [0.0, 0.003, 0.004, 0.019, 0.030]))
    assert [items for _, items in works.batches] == [[0.0], [0.003, 0.004, 0.019], [0.030]]
    assert [at for at, _ in works.batches] == pytest.approx([0.0, 0.020, 0.040])


@pytest.mark.parametrize("per_s", [20, 60, 200, 2_000])
def test_nobody_is_held_longer_than_the_bound(per_s: int) -> None:
    rng = random.Random(per_s)
    instants = list(itertools.accumulate(rng.expovariate(per_s) for _ in range(2_000)))
    works = Works()
    held = travel(arrive(gathering(works), instants))
    assert max(held) <= WAIT.total_seconds() + 1e-9
    assert sorted(item for _, items in works.batches for item in items) == instants
    if per_s >= 200:
        assert len(works.batches) <= 1.05 * instants[-1] / WAIT.total_seconds() + 2


@pytest.mark.parametrize(("takes", "between"), [(0.002, 0.020), (0.010, 0.030), (0.100, 0.100)])
def test_work_that_takes_long_is_done_more_rarely_but_not_ever_more(takes: float, between: float) -> None:
    now = itertools.count(0, takes)  # every work takes as long
    works = Works()
    travel(arrive(Gathering(works, WAIT, lambda item: 1, lambda: next(now)), [number / 1_000 for number in range(3_000)]))
    instants = [at for at, _ in works.batches][30:]
    assert [b - a for a, b in itertools.pairwise(instants)] == pytest.approx([between] * (len(instants) - 1), abs=0.0011)


def test_waiting_is_given_up_where_one_comes_only_when_the_one_before_is_done() -> None:
    async def one_by_one(gathered: Gathering[Any, Any]) -> float:
        for number in range(1_000):
            assert await gathered.put(number) == (number, 1)
        return asyncio.get_running_loop().time()

    assert travel(one_by_one(gathering(Works()))) < 20 * WAIT.total_seconds()


def test_waiting_is_taken_up_again_when_several_come_at_once() -> None:
    async def both(gathered: Gathering[Any, Any], works: Works) -> None:
        for number in range(200):
            await gathered.put(number)
        await arrive(gathered, [10 + number / 1_000 for number in range(1_000)])
        assert len(works.batches) - 200 <= 270 + 40  # at most the rest of the truce, then one in 20 ms

    works = Works()
    travel(both(gathering(works), works))


def test_without_a_wait_each_is_by_itself() -> None:
    works = Works()
    travel(arrive(gathering(works, timedelta(0)), [0.0, 0.0, 0.001]))
    assert [items for _, items in works.batches] == [[0.0], [0.0], [0.001]]


def test_a_heavy_item_goes_at_once_and_takes_along_what_waits() -> None:
    async def three(gathered: Gathering[Any, Any]) -> list[Any]:
        await gathered.put(1)
        return await asyncio.gather(gathered.put(2), gathered.put(HEAVY))

    works = Works()
    assert travel(three(Gathering(works, WAIT, weigh=lambda item: item))) == [(2, 2), (HEAVY, 2)]
    assert [at for at, _ in works.batches] == [0.0, 0.0]


def test_what_the_work_raises_all_of_them_get() -> None:
    def fail(items: Sequence[Any]) -> list[Any]:
        raise StorageFailed("the disk is full")

    async def two(gathered: Gathering[Any, Any]) -> list[Any]:
        return await asyncio.gather(gathered.put(1), gathered.put(2), return_exceptions=True)

    assert [str(each) for each in travel(two(gathering(fail)))] == ["the disk is full"] * 2


def test_an_item_gets_its_own_failure_and_the_others_their_results() -> None:
    def work(items: Sequence[int]) -> list[Any]:
        return [UnreadablePayload("odd") if item % 2 else item for item in items]

    async def three(gathered: Gathering[Any, Any]) -> list[Any]:
        return await asyncio.gather(*(gathered.put(number) for number in (2, 3, 4)), return_exceptions=True)

    two, odd, four = travel(three(gathering(work)))
    assert (two, four) == (2, 4)
    assert isinstance(odd, UnreadablePayload)


def test_one_that_is_waited_for_no_longer_does_not_disturb_the_others() -> None:
    async def two(gathered: Gathering[Any, Any]) -> Any:
        await gathered.put(0)
        leaving = asyncio.create_task(gathered.put(1))
        staying = asyncio.create_task(gathered.put(2))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert travel(two(gathering(Works()))) == (2, 2)


# -- bodies -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["first_day", "casual_game"])
def case(request: pytest.FixtureRequest) -> str:
    """One without an identity, and one with."""
    return str(request.param)


folders = itertools.count()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Any]:
    """``fresh(case)`` are the handler's parts over empty journals."""
    opened: list[Parts] = []

    def parts(case: str) -> Parts:
        folder = tmp_path / str(next(folders))
        address = f"embedded://{folder}"
        opened.append(
            open_parts(
                "incoming-event-handler", Settings("p", case, address, address, folder), lambda: datetime(2026, 1, 1, tzinfo=UTC)
            )
        )
        return opened[-1]

    yield parts
    for each in opened:
        each.close()


REQUEST = SimpleNamespace(trigger=SimpleNamespace(kind="http"))


def good(case: str, user: int, number: int) -> dict[str, Any]:
    field = "score" if case == "casual_game" else "bet_amount"
    return {
        "user_id": f"u{user}",
        "event_type": "play" if case == "casual_game" else "new_bet",
        "event_time": f"2026-01-01T00:00:{number:02d}Z",
        field: 1.0,
    }


def known(case: str, user: int, number: int, event_id: int) -> dict[str, Any]:
    return good(case, user, number) | {"event_id": f"e{event_id}"}


def bodies_of(case: str) -> st.SearchStrategy[list[Any]]:
    events = st.builds(lambda user, number: good(case, user, number), st.integers(0, 3), st.integers(0, 5))
    events |= st.builds(known, st.just(case), st.integers(0, 3), st.integers(0, 5), st.integers(0, 3))
    bad = st.sampled_from([{"event_type": "unknown"}, {"user_id": "x"}, 7])
    rows = st.lists(st.one_of(events, events, events, bad), min_size=1, max_size=6)
    lines = rows.map(lambda some: b"\n".join(json.dumps(each).encode() for each in some))
    return st.lists(
        st.one_of(
            lines,
            lines.map(lambda body: body.replace(b"\n", b"\r\n\r\n") + b"\r\n"),
            rows,
            rows.map(lambda some: json.dumps(some).encode()),
            events,
            events.map(lambda one: json.dumps(one, indent=2).encode()),
            st.sampled_from([b"", b"nonsense", b"{", b"[", [], {}, None, "text", b"{}\r{}"]),
        ),
        min_size=1,
        max_size=6,
    )


def kept(parts: Parts) -> dict[str, Any]:
    """What the journals hold, but for how it was cut into records: rows and letters by shard, identities, accounts."""
    found: dict[str, Any] = {}
    for shard in range(SHARDS):
        journal = parts.journal(shard)
        records = journal.read(INCOMING, shard, 0, 10**6, 10**9)
        letters = journal.read(DEAD_LETTERS, shard, 0, 10**6, 10**9)
        found[f"rows {shard}"] = [row for each in records for row in decode_batch(each.payload).to_pylist()]
        found[f"letters {shard}"] = [each.payload for each in letters]
        found[f"identities {shard}"] = sorted(
            key for each in journal.read("identities", shard, 0, 10**6, 10**9) for key in unpack(each)
        )
        found[f"accounts {shard}"] = journal.accounts()
        assert [each.rows for each in records] == [decode_batch(each.payload).num_rows for each in records]
    return found


def each_alone(bodies: Sequence[Any], intake: Intake, parts: Parts) -> list[Receipt | str]:
    """The slow way: a commit each."""
    found: list[Receipt | str] = []
    for body in bodies:
        unit = parts.begin(REQUEST)
        try:
            found.append(intake.take(body, unit))
        except UnreadablePayload as cause:
            found.append(str(cause))
        unit.commit()
    return found


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("case", ["first_day", "casual_game"])
def test_together_they_leave_and_answer_what_they_would_alone(case: str, data: st.DataObject, tmp_path_factory: Any) -> None:
    bodies = data.draw(bodies_of(case))
    intake = Intake(load(case))
    folder = tmp_path_factory.mktemp("gather")
    alone, together = (
        open_parts(
            "incoming-event-handler",
            Settings("p", case, f"embedded://{at}", f"embedded://{at}", at),
            lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
        for at in (folder / "alone", folder / "together")
    )
    expected = each_alone(bodies, intake, alone)
    with together.begin(REQUEST) as unit:
        answers = take_together(bodies, intake, unit)
    assert [str(each) if isinstance(each, Exception) else each for each in answers] == expected
    assert kept(together) == kept(alone)
    alone.close()
    together.close()


def test_good_lines_of_several_requests_make_one_record_a_shard(fresh: Any) -> None:
    parts = fresh("first_day")
    bodies = [json.dumps(good("first_day", user, 1)).encode() for user in range(100)]
    with parts.begin(REQUEST) as unit:
        assert take_together(bodies, Intake(parts.case), unit) == [Receipt(1, 0, 0)] * 100
    assert [parts.journal(shard).end(INCOMING) for shard in range(SHARDS)] == [1] * SHARDS


def test_a_request_that_breaks_on_the_way_leaves_nothing_and_the_others_everything(
    fresh: Any, case: str, monkeypatch: Any
) -> None:
    parts, intake = fresh(case), Intake(load(case))
    count, calls = Draft.count, itertools.count()

    def break_once(self: Draft, outcome: str, rows: int, owner: str | None = None) -> None:
        if next(calls) == 5:  # of the second body, in the middle of its first shard
            raise KeyError("a fault of ours")
        count(self, outcome, rows, owner)

    bodies = [json.dumps([good(case, user, number)]).encode() for number, user in enumerate((1, 1, 2))]
    monkeypatch.setattr(Draft, "count", break_once)
    with parts.begin(REQUEST) as unit:
        first, second, third = take_together(bodies, intake, unit)
    assert (first, third) == (Receipt(1, 0, 0), Receipt(1, 0, 0))
    assert isinstance(second, KeyError)
    assert sum(parts.journal(shard).rows(INCOMING) for shard in range(SHARDS)) == 2
    accounts = [parts.journal(shard).accounts() for shard in range(SHARDS)]
    assert (
        sum(each.get(("http", "in"), 0) for each in accounts) == sum(each.get(("http", "applied"), 0) for each in accounts) == 2
    )
