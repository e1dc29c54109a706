"""The files that are measured: made once from a seed, into build/bench, as NDJSON, as Arrow batches, and what must come out."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from churnstream.codecs import EventDecoder, encode_json
from churnstream.features.reference import EPOCH, Observed, feature_vector
from churnstream.stages.enrich import encode_number, enrich
from churnstream.usecases import first_day
from churnstream.usecases.case import UseCase
from tests.bench.common import FOLDER, once
from tests.bench.features_case import AMOUNTS, CASE, PERIOD, SPANS, sliding_case
from tests.bench.features_expected import Expected, save

SEED = 7
ROWS = 16_384  # rows of a batch
START = np.datetime64("2026-01-01T00:00:00", "us")
MOST = np.array([50, 10, 200])  # the largest purchase, bet and win
SHARES = np.array([0.10, 0.95])  # 10 % purchases, 85 % bets, 5 % wins
DENSE = 20_000  # of so many events, every row of the sampled customers is compared; later, some
COMPARED = 1_500

Place = tuple[str, int]  # a customer, and which of their events


@dataclass(frozen=True, slots=True)
class Files:
    """One stream of ``events`` events of ``customers`` customers, three times."""

    events: int
    customers: int
    ndjson: Path
    arrow: Path
    expected: Path


def sliding_files(events: int, customers: int, ndjson: bool = True, folder: Path = FOLDER) -> Files:
    """A stream with an event about every half second, in order; anybody's turn is as likely as anybody else's."""
    files = _files(folder, "sliding", events, customers)
    if ndjson:
        once(files.ndjson, lambda path: _write_lines(path, sliding_blocks(events, customers)))
    once(files.arrow, lambda path: write_batches(path, decoded(CASE, sliding_blocks(events, customers))))
    once(files.expected, lambda path: save(path, sliding_expected(sliding_blocks(events, customers), events, customers)))
    return files


def first_day_files(events: int, customers: int, folder: Path = FOLDER) -> Files:
    """The first day's simulated events as they reach the features, enriched; beside ``events`` one registration a customer."""
    files = _files(folder, "first-day", events, customers)
    files = Files(events + customers, customers, files.ndjson, files.arrow, files.expected)
    once(files.arrow, lambda path: write_batches(path, enriched(first_day_blocks(events, customers))))
    once(files.expected, lambda path: save(path, first_day_expected(events, customers)))
    return files


def _files(folder: Path, name: str, events: int, customers: int) -> Files:
    path = folder / f"{name}-{events}-{customers}"
    return Files(events, customers, path.with_suffix(".ndjson"), path.with_suffix(".arrow"), path.with_suffix(".expected.json"))


# -- the events -----------------------------------------------------------------------------------------------------------------


def sliding_blocks(events: int, customers: int) -> Iterator[bytes]:
    """NDJSON, ``ROWS`` events at a time; amounts are whole cents."""
    rng, names, fields, now = np.random.default_rng(SEED), list(AMOUNTS), list(AMOUNTS.values()), 0
    for first in range(0, events, ROWS):
        size = min(ROWS, events - first)
        passed = now + np.cumsum(rng.integers(250_000, 750_000, size))
        now = int(passed[-1])
        who = rng.integers(0, customers, size).tolist()
        kinds = np.searchsorted(SHARES, rng.random(size), side="right")
        cents = rng.integers(1, 100 * MOST[kinds], endpoint=True).tolist()
        times = np.datetime_as_string(START + passed.astype("m8[us]")).tolist()
        yield "".join(
            f'{{"user_id":"u{user}","event_type":"{names[kind]}","event_time":"{time}+00:00","{fields[kind]}":{cent / 100}}}\n'
            for user, kind, time, cent in zip(who, kinds.tolist(), times, cents, strict=True)
        ).encode()


def first_day_blocks(events: int, customers: int) -> Iterator[bytes]:
    """NDJSON, ``ROWS`` events at a time, registrations among them."""
    simulated = first_day.simulate(SEED, customers, events)
    while block := list(islice(simulated, ROWS)):
        yield encode_json(block)


def decoded(case: UseCase, blocks: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
    """The events as batches; raises ValueError for one that is refused, for there is none to refuse."""
    decoder = EventDecoder(case)
    for block in blocks:
        found = decoder.decode(block)
        if found.refused:
            raise ValueError(found.refused[0].reason)
        yield found.batch


def enriched(blocks: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
    """First-day events as batches with what the enrichment adds, and without what it takes away."""
    lookup = _Postcodes()
    for batch in decoded(first_day.CASE, blocks):
        yield enrich(batch, first_day.CASE, lookup)[0]


class _Postcodes:
    """The first day's lookup table."""

    def __init__(self) -> None:
        self.index = dict(first_day.lookup_rows(SEED))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: encode_number(self.index[key]) for key in keys if key in self.index}


# -- files ----------------------------------------------------------------------------------------------------------------------


def _write_lines(path: Path, blocks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(blocks)


def write_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """An Arrow stream of ``batches``, as they are."""
    batches = iter(batches)
    first = next(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a file, one at a time and none of them kept, so that the input is no part of what a process holds.

    A memory map would be: its pages count as the process's own once they have been looked at.
    """
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def read_blocks(path: Path, events: int) -> Iterator[bytes]:
    """NDJSON of a file that holds ``events`` events, about ``ROWS`` whole lines at a time."""
    size = max(1, path.stat().st_size * ROWS // events)
    with path.open("rb") as file:
        while block := file.read(size):
            yield block + file.readline()


# -- what must come out ---------------------------------------------------------------------------------------------------------


def sliding_expected(blocks: Iterable[bytes], events: int, customers: int) -> list[Expected]:
    """The rows of some customers, all along the file."""
    chosen = {f"u{number}".encode() for number in range(max(20, customers // 100))}
    histories: dict[str, list[tuple[int, Observed]]] = {}
    event = 0
    for block in blocks:
        for line in block.splitlines():
            if line[12 : line.index(b'"', 12)] in chosen:
                fields = json.loads(line)
                histories.setdefault(fields["user_id"], []).append((event, _observed(fields)))
            event += 1
    assert event == events
    places = [(who, place) for who, history in histories.items() for place in range(len(history))]
    exact = sliding_case(period=None).features
    rows: list[Expected] = []
    for who, place in _spread(places, lambda each: histories[each[0]][each[1]][0]):
        history = histories[who]
        number, present = history[place]
        known = [each for _, each in history[: place + 1] if each.at > present.at - SPANS[-1] - PERIOD]
        following = history[place + 1] if place + 1 < len(history) else None
        vector = feature_vector(CASE.features, known, present.at)
        exactly = feature_vector(exact, known, present.at)
        assert vector is not None
        assert exactly is not None
        rows.append(
            Expected(
                event=number,
                customer=who,
                pane=_pane(present),
                until=following[0] if following is not None and _pane(following[1]) == _pane(present) else None,
                amount=list(AMOUNTS).index(present.event),
                features=vector,
                exact=exactly,
            )
        )
    return rows


def expected_of(line: bytes) -> Expected:
    """The row of the first event of a stream."""
    fields = json.loads(line)
    event = _observed(fields)
    vector = feature_vector(CASE.features, [event], event.at)
    assert vector is not None
    return Expected(0, fields["user_id"], _pane(event), None, list(AMOUNTS).index(event.event), vector)


def _spread(places: list[Place], number: Callable[[Place], int]) -> list[Place]:
    """The places before ``DENSE``, and of the others as many as make up ``COMPARED``, evenly."""
    places = sorted(places, key=number)
    dense = [each for each in places if number(each) < DENSE][:COMPARED]
    later = places[len(dense) :]
    step = max(1, len(later) // max(1, COMPARED - len(dense)))
    return dense + later[step - 1 :: step]


def _observed(fields: Mapping[str, Any]) -> Observed:
    field = AMOUNTS[fields["event_type"]]
    return Observed(fields["event_type"], datetime.fromisoformat(fields["event_time"]), {field: fields[field]})


def _pane(event: Observed) -> int:
    return (event.at - EPOCH) // PERIOD


def first_day_expected(events: int, customers: int) -> list[Expected]:
    """Rows after bets and wins of some customers, from the first to the last hour of the file."""
    chosen = {f"s{SEED}-u{number:06d}" for number in range(max(5, customers // 400))}
    index = dict(first_day.lookup_rows(SEED))
    histories: dict[str, list[Observed]] = {}
    served: list[tuple[int, str, int]] = []
    for number, event in enumerate(first_day.simulate(SEED, customers, events)):
        who, kind = event["user_id"], event["event_type"]
        if who not in chosen:
            continue
        if kind == first_day.REGISTRATION:
            values = {"socioeconomic_idx": index.get(event["postcode"], 0.5)}
        else:
            values = {AMOUNTS[kind]: event[AMOUNTS[kind]]}
        histories.setdefault(who, []).append(Observed(kind, event["event_time"].astimezone(UTC), values))
        if kind in first_day.CASE.serving_events:
            served.append((number, who, len(histories[who])))
    step = max(1, len(served) // 400)
    rows: list[Expected] = []
    for number, who, length in served[::step]:
        known = histories[who][:length]
        vector = feature_vector(first_day.FEATURES, known, known[-1].at)
        if vector is not None:
            rows.append(Expected(number, who, _pane(known[-1]), None, 0, vector))
    return rows
