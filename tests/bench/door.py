"""How fast JSON comes in at the door: `taskset -c 0 python -m tests.bench.door`, on one core, the median of `--runs`.

The same bodies, in turns in one process, to everyone: `msgspec` reads them into structs and stops there, which is what the JSON
alone costs; `the judge` and `the door` hand over the checked Arrow batch, the judge event by event, the door lines of one look
together; `the stage` goes on to batches by shard, encoded, and leaves out the disk. One JSON line a result.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any

from churnstream.codecs import EventDecoder, encode_json
from churnstream.codecs.judge import Judge
from churnstream.records import Record
from churnstream.stages.intake import Intake
from churnstream.usecases import first_day
from tests.bench.common import Meter, machine, median, pin, say

SIMPLE = (("new_purchases", "amount", 50, 0.10), ("new_bet", "bet_amount", 10, 0.95), ("new_win", "win_amount", 200, 1.0))


def simple(events: int, customers: int) -> Iterator[dict[str, Any]]:
    """10 % purchases, 85 % bets and 5 % wins, about half a second apart; amounts in cents, instants to the microsecond."""
    rng, at = Random(7), first_day.EPOCH
    for _ in range(events):
        at += timedelta(microseconds=rng.randrange(250_000, 750_000))
        draw = rng.random()
        kind, field, most = next((kind, field, most) for kind, field, most, upto in SIMPLE if draw < upto)
        user_id, amount = f"u{rng.randrange(customers)}", round(rng.random() * most, 2)
        yield {"user_id": user_id, "event_type": kind, "event_time": at.isoformat(timespec="microseconds"), field: amount}


def with_registrations(events: int, customers: int) -> Iterator[Mapping[str, Any]]:
    """The simulated world of the case: a registration of twelve fields for each customer, the rest as above."""
    return first_day.simulate(7, customers, events - customers)


class Nowhere:
    """A unit of work that keeps nothing."""

    replayed = False

    def append(self, stream: str, record: Record) -> None: ...

    def count(self, outcome: str, rows: int, owner: str | None = None) -> None: ...


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=160_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args(words)
    pin()
    say(**machine())
    worlds = {"simple": simple(chosen.events, 2_000), "1 in 20 registers": with_registrations(chosen.events, chosen.events // 20)}
    for what, events in worlds.items():
        given = list(events)
        for rows in (4_096, 16_384):
            bodies = [encode_json(given[first : first + rows]) for first in range(0, len(given), rows)]
            compare(f"{what}, {rows:,} lines a body", len(given), bodies, chosen.runs)


def compare(what: str, events: int, bodies: Sequence[bytes], runs: int) -> None:
    """Everyone over the same bodies, in turns, and each one's rate as a multiple of the first one's."""
    case, nowhere = first_day.CASE, Nowhere()
    structs, one_by_one, door, stage = Judge(case), EventDecoder(case, alike_from=float("inf")), EventDecoder(case), Intake(case)
    everyone: dict[str, Callable[[bytes], Any]] = {
        "msgspec": structs.read,
        "the judge": one_by_one.decode,
        "the door": door.decode,
        "the stage": lambda body: stage.take(body, nowhere),  # type: ignore[arg-type]
    }
    results: dict[str, list[dict[str, Any]]] = {who: [] for who in everyone}
    for run in range(runs + 1):
        for who, read in everyone.items():
            with Meter() as meter:
                for body in bodies:
                    read(body)
            if run:  # the first one is for warming up
                results[who].append(meter.figures(events))
    for who, each in results.items():
        figures = median(each)
        first = median(results["msgspec"])["events_per_s"]
        say(who=who, what=what, **figures, times_msgspec=round(figures["events_per_s"] / first, 2))


if __name__ == "__main__":
    main()
