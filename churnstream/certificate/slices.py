"""One slice of the certificate: a replay of its own, down a river of its own."""

import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from churnstream.certificate.replay import Replay, mixed_up
from churnstream.certificate.river import River
from churnstream.certificate.tally import Tally
from churnstream.certificate.walk import Walk
from churnstream.operations.ledger import Line
from churnstream.usecases import load

EVENTS_A_POINT = 0.6
EVENTS_A_CUSTOMER = 20
CLOCK = datetime(2026, 2, 1, tzinfo=UTC)  # what every clock in a replay shows; no feature depends on it


@dataclass(frozen=True, slots=True)
class Slice:
    """``points`` of the case that ``usecases.load`` knows as ``case``, from the replay that ``seed`` makes."""

    case: str
    seed: int
    points: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a slice: the judgements, the counts of what was sent and what became of it, and the stages' own accounts.

    ``digest`` is that of the bytes that were sent.
    """

    slice: Slice
    tally: Tally
    counts: Counter[str]
    furthest: int
    lines: tuple[Line, ...]
    digest: str


def run(each: Slice) -> Outcome:
    """Replay a slice and compare at its points; the same outcome for the same slice. Takes 0.1 to 0.5 ms a point."""
    case, rng = load(each.case), random.Random(f"points {each.case} {each.seed}")
    join = case.enrichment
    lookup = dict(join.rows(each.seed)) if join is not None and join.rows is not None else {}
    customers = max(1, round(each.points * EVENTS_A_POINT / EVENTS_A_CUSTOMER))
    events = max(customers, round(each.points * EVENTS_A_POINT)) - customers
    replay = mixed_up(case, each.seed, customers, events, lookup)
    with tempfile.TemporaryDirectory(prefix="churnstream-certificate-") as folder:
        river = River(Path(folder), each.case, random.Random(f"river {each.case} {each.seed}"), CLOCK)
        try:
            if lookup:
                river.fill_lookup(lookup.items())
            river.send(replay.sent)
            river.take_in()
            river.enrich()
            walk = Walk(river, replay, rng)
            walk.all(each.points)
            lines = tuple(river.lines())
        finally:
            river.close()
    return Outcome(each, walk.judge.tally, _counts(replay, river, walk), replay.furthest, lines, replay.digest)


def _counts(replay: Replay, river: River, walk: Walk) -> Counter[str]:
    made = sum(len(story.arrivals) for story in replay.stories.values())
    late = sum(sum(story.late) for story in replay.stories.values())
    return Counter(
        customers=len(replay.stories),
        made=made,
        sent_twice=replay.twice,
        delayed=replay.delayed,
        overtaken=replay.overtaken,
        applied=made - late,
        late=late,
        never_came=made - walk.came,
        unread=walk.unread,
        units=river.counts.units,
        restarts=river.counts.restarts,
        lost=river.counts.lost,
        **{f"again {function}": rows for function, rows in river.counts.again.items()},
    )
