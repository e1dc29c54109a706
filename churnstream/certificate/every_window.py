"""A small case of the certificate's own: a shop in which every op is asked for in every kind of window.

Its customers come in bursts. Much of what they do falls on whole minutes, on one instant, or exactly as far apart as a window is
long, and many amounts are equal: where windows begin and end, and where rounding shows.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from churnstream.features.definitions import Attribute, Definition, Feature, FeatureTable, Op, Ratio, Trend, lag
from churnstream.features.windows import First, Lifetime, Session, Sliding, Tumbling, Window
from churnstream.usecases.case import EventType, Field, Kind, SilenceLabel, UseCase

SIGNUP, VISIT, ORDER = "signup", "visit", "order"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

WINDOWS: Mapping[str, Window] = {
    "first6h": First(6 * HOUR),
    "panes3h": Sliding(3 * HOUR, 10 * MINUTE),
    "last1h": Sliding(HOUR),
    "hour": Tumbling(HOUR),
    "session": Session(20 * MINUTE),
    "life": Lifetime(),
}
EVERYWHERE = (
    Op.COUNT, Op.SUM, Op.MEAN, Op.VAR, Op.STD, Op.MIN, Op.MAX, Op.FIRST, Op.LAST, Op.SINCE_LAST,
)  # fmt: skip
FIELDLESS = {Op.COUNT, Op.SINCE_LAST, Op.LAST_AT}
UNITS = {Op.COUNT: "orders", Op.DISTINCT: "amounts", Op.SINCE_LAST: "seconds", Op.LAST_AT: "seconds", Op.VAR: "euro squared"}


def _order(op: Op, window: str) -> Feature:
    field = None if op in FIELDLESS else "amount"
    doc = f"{op} of the orders' amounts, {window}"
    return Feature(f"order_{op}_{window}", ORDER, field, op, WINDOWS[window], UNITS.get(op, "euro"), doc)


def _features() -> Iterator[Definition]:
    yield Attribute("tier", SIGNUP, "tier", "tier", "The tier of the newest signup.", default=-1.0)
    for window, each in WINDOWS.items():
        ops = [*EVERYWHERE]
        ops += [Op.LAST_AT] if isinstance(each, First) else []
        ops += [Op.DISTINCT] if not isinstance(each, Session) else []
        yield from (_order(op, window) for op in ops)
    for op in (Op.COUNT, Op.SUM, Op.VAR, Op.LAST, Op.SINCE_LAST):
        yield lag(_order(op, "panes3h"), 40 * MINUTE, f"order_{op}_panes3h_40min_ago")
        yield lag(_order(op, "last1h"), 7 * MINUTE, f"order_{op}_last1h_7min_ago")
    yield Feature("items_sum_life", ORDER, "items", Op.SUM, Lifetime(), "items", "Items ever ordered.")
    yield Feature("items_sum_last1h", ORDER, "items", Op.SUM, Sliding(HOUR), "items", "Items ordered in the last hour.")
    yield Feature("visit_count_panes3h", VISIT, None, Op.COUNT, WINDOWS["panes3h"], "visits", "Visits, by panes.")
    yield Feature("visit_mean_session", VISIT, "minutes", Op.MEAN, WINDOWS["session"], "minutes", "Mean length of a visit.")
    yield Feature("visit_since_last", VISIT, None, Op.SINCE_LAST, Lifetime(), "seconds", "Time since the last visit.")
    yield Trend("sum_trend", _order(Op.SUM, "panes3h"), HOUR, "euro", "The sum less that of an hour ago.")
    yield Trend("mean_trend", _order(Op.MEAN, "last1h"), 30 * MINUTE, "euro", "The mean less that of half an hour ago.")
    yield Ratio("orders_a_visit", "order_count_panes3h", "visit_count_panes3h", "orders a visit", "Orders over visits.")


EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def simulate(seed: int, customers: int, events: int) -> Iterator[Mapping[str, Any]]:
    """``customers`` signups and exactly ``events`` visits and orders, in order of event time; the same for the same arguments."""
    rng = random.Random(f"every window {seed}")
    made: list[dict[str, Any]] = []
    shares = [events * (number + 1) // customers - events * number // customers for number in range(customers)]
    for number, share in enumerate(shares):
        made += _life(rng, f"s{seed}-c{number:06d}", share)
    yield from sorted(made, key=lambda each: each["event_time"])


def _life(rng: random.Random, who: str, events: int) -> Iterator[dict[str, Any]]:
    at = EPOCH + rng.randint(0, 2 * 1_440) * MINUTE
    signup = min(rng.choice([0, 0, 1, 3, 8]), events)
    for number in range(events + 1):
        told: dict[str, Any] = {"user_id": who, "event_time": at, "event_id": f"{who}-{number}"}
        if number == signup:
            yield told | {"event_type": SIGNUP, "tier": float(rng.randint(1, 5))}
        elif rng.random() < 0.4:
            yield told | {"event_type": VISIT, "minutes": round(rng.uniform(0, 90), 1)}
        else:
            yield told | {"event_type": ORDER, "amount": _amount(rng), "items": rng.randint(1, 9)}
        at += _gap(rng)


def _gap(rng: random.Random) -> timedelta:
    """How long until a customer's next event: nothing, whole minutes, just as long as a window, or some time of day."""
    draw = rng.random()
    if draw < 0.1:
        return timedelta(0)
    if draw < 0.4:
        return rng.randint(1, 9) * MINUTE
    if draw < 0.55:
        return rng.choice((10 * MINUTE, 20 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR))
    return timedelta(seconds=rng.uniform(1, 1_200) if draw < 0.8 else rng.expovariate(1 / 14_400))


def _amount(rng: random.Random) -> float:
    if rng.random() < 0.35:
        return 100.10
    return max(0.01, round(rng.lognormvariate(3.0, 1.5), 2))


IDENTIFIER = Field("event_id", Kind.TEXT)

CASE = UseCase(
    name="every_window",
    title="Every kind of window",
    events=(
        EventType(SIGNUP, (IDENTIFIER, Field("tier", Kind.NUMBER))),
        EventType(VISIT, (IDENTIFIER, Field("minutes", Kind.NUMBER, at_least=0, unit="minutes"))),
        EventType(
            ORDER, (IDENTIFIER, Field("amount", Kind.NUMBER, at_least=0, unit="euro"), Field("items", Kind.WHOLE, at_least=1))
        ),
    ),
    features=FeatureTable(anchor=ORDER, lateness=HOUR, features=tuple(_features())),
    label=SilenceLabel(ORDER, 7 * DAY),
    serving_events=(VISIT, ORDER),
    decision=DAY,
    example={"user_id": "c1", "event_type": VISIT, "event_time": "2026-01-02T12:00:00Z", "event_id": "c1-1", "minutes": 2.5},
    identity=("user_id", "event_id"),
    simulate=simulate,
)
