"""River: its rolling statistics, one set a customer and amount. They keep every point, and move only when they are given one."""

from datetime import datetime, timedelta
from itertools import islice
from math import nan
from pathlib import Path
from typing import Any

from msgspec.json import decode
from river import stats, utils

from tests.bench.common import Meter
from tests.bench.features_expected import Sample
from tests.bench.peers.windows import AMOUNTS

WINDOWS = (timedelta(hours=1), timedelta(hours=24))


def newcomer() -> list[list[Any]]:
    """For each amount: sum, mean and variance over the short and the long window."""
    return [[utils.TimeRolling(of(), window) for window in WINDOWS for of in (stats.Sum, stats.Mean, stats.Var)] for _ in AMOUNTS]


def features(customer: list[list[Any]]) -> list[float]:
    row: list[float] = []
    for each in customer:
        for total, mean, variance in (each[:3], each[3:]):
            count = mean.obj.n  # what it divides by
            row += (total.get(), mean.get() if count else nan, count, variance.get() if count > 1 else nan)
    return row


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    customers: dict[str, list[list[Any]]] = {}
    with ndjson.open("rb") as lines, meter:
        for number, line in enumerate(islice(lines, events)):
            event = decode(line)
            customer = customers.get(event["user_id"])
            if customer is None:
                customer = customers[event["user_id"]] = newcomer()
            amount, name = AMOUNTS[event["event_type"]]
            at, value = datetime.fromisoformat(event["event_time"]).replace(tzinfo=None), event[name]
            for each in customer[amount]:
                each.update(value, t=at)
            row = features(customer)
            if number in sample.wanted:
                sample.taken[number] = row
