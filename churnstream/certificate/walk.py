"""A walk down the river beside the stories of its customers, with stops at points.

At every event whose vector can be read by anyone, and at instants between events, at the edges of windows and in silence, three
vectors are laid beside one another: the reference over the customer's own story up to there; what the stream's engine says; and
what serving reads, which is the serving stream's row and the look-up in the feature table.
"""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from churnstream.certificate.judging import Judge
from churnstream.certificate.replay import Replay, Story
from churnstream.certificate.river import Durable, River
from churnstream.certificate.tally import Moment, Point, Real
from churnstream.features.definitions import Feature, FeatureTable, Trend
from churnstream.features.reference import EPOCH, Observed, feature_vector
from churnstream.features.windows import MICROSECOND, First, Session, Sliding, Tumbling, Window
from churnstream.graph.engine import StateReader
from churnstream.records import shard_of
from churnstream.topology import SHARDS
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY

INSTANTS_AN_EVENT = 0.58  # drawn while events flow; what is missing then is drawn when all of a shard's events have come
AMONG_THE_BUSY = 0.6  # of those instants, those of a customer who has just done something
WEIGHTS = {Moment.BETWEEN: 40, Moment.EDGE: 35, Moment.SILENCE: 25}
MINUTE = timedelta(minutes=1)
SILENCE_S = 2 * 86_400.0  # the mean


@dataclass(slots=True)
class Life:
    """One customer as far as their events have come: ``seen`` of the story, of which ``history`` was not late."""

    story: Story
    seen: int = 0
    history: list[Observed] = field(default_factory=list)
    newest: datetime = EPOCH

    def next_newest(self) -> datetime | None:
        """The instant to which the next event that is younger than all so far moves the customer."""
        coming = zip(self.story.arrivals[self.seen :], self.story.late[self.seen :], strict=True)
        return next((each.at for each, late in coming if not late and each.at > self.newest), None)


class Walk:
    """Goes down a river beside the stories of its customers, and stops at points."""

    def __init__(self, river: River, replay: Replay, rng: random.Random):
        self.judge = Judge(river.case.name, river.case.features)
        self.came = self.unread = 0
        self._river, self._rng = river, rng
        self._table: FeatureTable = river.case.features
        self._serving = frozenset(river.case.serving_events)
        self._reader = StateReader(river.case)
        self._lives = {who: Life(story) for who, story in replay.stories.items()}
        self._lengths, self._steps = edges(self._table)
        self._points = 0
        self._owed = 0.0

    def all(self, points: int) -> None:
        """Every shard to its end, with ``points`` points in all."""
        arrivals = [0] * SHARDS
        for who, life in self._lives.items():
            arrivals[shard_of(who, SHARDS)] += len(life.story.arrivals)
        for shard in range(SHARDS):
            self._shard(shard, points * sum(arrivals[: shard + 1]) // sum(arrivals))
        self.judge.flush()

    def _shard(self, shard: int, upto: int) -> None:
        here: list[str] = []
        for done in self._river.features(shard):
            here += self._at_events(shard, done)
            busy = [who for who in _column(done, KEY) if who in self._lives and self._lives[who].history]
            self._owed += INSTANTS_AN_EVENT * len(busy)
            while self._owed >= 1:
                self._owed -= 1
                self._at_an_instant(shard, self._rng.choice(busy if self._rng.random() < AMONG_THE_BUSY else here))
        while here and self._points < upto:
            self._at_an_instant(shard, self._rng.choice(here))

    def _at_events(self, shard: int, done: Durable) -> list[str]:
        """Points at the events of one record; returns the customers who are new."""
        rows = list(zip(*(_column(done, name) for name in (KEY, EVENT_TYPE, EVENT_TIME)), strict=True))
        last = {who: row for row, (who, _, _) in enumerate(rows)}
        emitted = dict(zip(done.applied.emitted.tolist(), done.applied.vectors, strict=True))
        late = set(done.applied.late.tolist())
        new = []
        for row, (who, event, at) in enumerate(rows):
            life = self._lives.get(who)
            if life is None or life.seen == len(life.story.arrivals) or _other(life, event, at):
                self.judge.differ(who, at, "(events)", "another event was due, or none", f"{event} came")
                continue
            due_late = life.story.late[life.seen]
            if due_late != (row in late):
                self.judge.differ(who, at, "(late)", *("late" if each else "applied" for each in (due_late, row in late)))
            if life.seen == 0:
                new.append(who)
            if not due_late:
                life.history.append(life.story.arrivals[life.seen])
                life.newest = max(life.newest, at)
            life.seen += 1
            self.came += 1
            streamed: list[Real | None] = []
            served: list[Real | None] = []
            if event in self._serving and not due_late:
                user, vector = done.read.get(row, (who, None))
                streamed.append(emitted.get(row))
                served.append(vector if user == who else None)
            elif row in emitted:
                self.judge.differ(who, at, "(the vector)", "no vector", "a vector")
            if last[who] == row:
                streamed.append(self._river.engine(shard).vector(who))
                served.append(self._look_up(who, life))
            if streamed:
                self._point(who, life, life.newest, Moment.EVENT, streamed, served)
            else:
                self.unread += 1
        return new

    def _at_an_instant(self, shard: int, who: str) -> None:
        life = self._lives[who]
        (moment,) = self._rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))
        until = life.next_newest()
        if moment is Moment.BETWEEN and until is not None:
            at = life.newest + self._rng.randrange((until - life.newest) // MICROSECOND) * MICROSECOND
        elif moment is Moment.EDGE:
            at = self._edge(life)
        else:
            moment = Moment.SILENCE
            at = life.newest + timedelta(seconds=self._rng.expovariate(1 / SILENCE_S))
        try:
            streamed = self._river.engine(shard).vector(who, at)
            packed = self._river.table.get(who)
            served = None if packed is None else self._reader.vector(packed, at)
        except ValueError as cause:
            self._points += 1
            self.judge.differ(who, at, "(refused)", "a vector", str(cause))
            return
        self._point(who, life, at, moment, [streamed], [served])

    def _edge(self, life: Life) -> datetime:
        """An instant at which an event enters or leaves a window or a pane begins, or a microsecond beside it."""
        beside = self._rng.choice((-1, 0, 1)) * MICROSECOND
        for begin in (self._rng.choice(life.history).at, life.newest):
            at = begin + self._rng.choice(self._lengths)
            if self._steps and self._rng.random() < 0.5:
                step = self._rng.choice(self._steps)
                at = EPOCH + (at - EPOCH) // step * step
            if at + beside >= life.newest:
                return at + beside
        return life.newest + self._rng.choice(self._lengths) + beside

    def _look_up(self, who: str, life: Life) -> Real | None:
        """What serving answers when it is asked about a customer, at the instant that it says."""
        packed = self._river.table.get(who)
        if packed is None:
            return None
        if self._reader.newest(packed) != life.newest:
            instants = (f"{each:%Y-%m-%d %H:%M:%S.%f}" for each in (life.newest, self._reader.newest(packed)))
            self.judge.differ(who, life.newest, "(newest instant)", *instants)
        return self._reader.vector(packed)

    def _point(
        self, who: str, life: Life, at: datetime, moment: Moment, streamed: list[Real | None], served: list[Real | None]
    ) -> None:
        wanted = feature_vector(self._table, life.history, at)
        self._points += 1
        self.judge.add(Point(who, at, moment, wanted, tuple(streamed), tuple(served), life.history, len(life.history)))


def edges(table: FeatureTable) -> tuple[tuple[timedelta, ...], tuple[timedelta, ...]]:
    """How far behind an event its windows have edges, and the steps in which windows move, both without those that are short."""
    windows: list[Window] = []
    for each in table.features:
        if isinstance(each, Trend):
            windows += [each.of.window, each.earlier.window]
        elif isinstance(each, Feature):
            windows.append(each.window)
    lengths, steps = {MINUTE}, set()
    for window in windows:
        if isinstance(window, First | Sliding | Tumbling):
            lengths.add(window.span)
        if isinstance(window, Session):
            lengths.add(window.gap)
        if isinstance(window, Sliding):
            lengths |= {window.span + window.ago} | ({window.ago} if window.ago else set())
        if isinstance(window, Tumbling):
            steps.add(window.span)
        if isinstance(window, Sliding) and window.period is not None:
            steps.add(window.period)
    return tuple(sorted(lengths)), tuple(sorted(steps))


def _column(done: Durable, name: str) -> list[Any]:
    return done.batch.column(done.batch.schema.get_field_index(name)).to_pylist()


def _other(life: Life, event: str, at: datetime) -> bool:
    due = life.story.arrivals[life.seen]
    return (due.event, due.at) != (event, at)
