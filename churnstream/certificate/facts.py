"""What the outcomes of all slices come to, as JSON takes it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from math import isfinite
from typing import Any

from churnstream.certificate.judging import LEAST_SHARE, TOLERANCE
from churnstream.certificate.kinds import kind_of
from churnstream.certificate.river import ENGINE, ENRICHER, HANDLER
from churnstream.certificate.slices import Outcome
from churnstream.certificate.tally import LISTED, Column, Difference, Tally
from churnstream.operations.ledger import OUTCOMES, total
from churnstream.usecases import load

CASES = ("first_day", "churnstream.certificate.every_window")
TITLE = "The same numbers three ways"
WAYS = {
    "batch": "Recomputed in plain Python from all that the customer has done up to the instant, as it was made and not as the"
    " pipeline tells it. The code shares nothing with the stream's.",
    "stream": "What the stream's engine says: the vector that it emits after an event, and its state asked at the instant.",
    "serving": "What serving reads: the row of the serving stream, and the look-up of the customer's stored bytes.",
}
RULES = (
    "Counts, sums, distinct values, minima, maxima, firsts, lasts, attributes and times are equal to the last bit.",
    f"Means, variances, standard deviations, trends and ratios differ by at most {TOLERANCE:g} of their size.",
    (
        f"A variance, or the square of a standard deviation, counts as no smaller than {LEAST_SHARE:g} of the largest squared"
        " value in its window, a trend as no smaller than the numbers that it subtracts."
    ),
    "Unknown is equal to unknown only, and no vector to no vector.",
)
Facts = dict[str, Any]


def facts(points: int, seed: int, outcomes: Sequence[Outcome]) -> Facts:
    """All that the certificate says but when and where it was made, as JSON takes it."""
    tables = [_table(case, [each for each in outcomes if each.slice.case == case]) for case in CASES]
    listed = [each for table in tables for each in table.pop("listed")]
    differences = sum(table["differences"] for table in tables)
    unaccounted = sum(table["unaccounted"] for table in tables)
    compared = {
        name: sum(table["compared"][name] for table in tables) for name in ("points", "numbers", "equal", "filled", "rounding")
    }
    worst = max((table["compared"]["worst"] for table in tables), key=lambda each: _size(each["error"]))
    return {
        "certificate": TITLE,
        "holds": differences == 0 and unaccounted == 0 and compared["points"] >= points,
        "differences": differences,
        "unaccounted": unaccounted,
        "seed": seed,
        "command": f"make certificate POINTS={points} SEED={seed}",
        "compared": compared | {"worst": worst},
        "ways": WAYS,
        "rules": RULES,
        "tables": tables,
        "listed": listed[:LISTED],
        "digests": {
            "input": _digest(table["sent"]["digest"] for table in tables),
            "definitions": _digest(table["fingerprint"] for table in tables),
        },
    }


def _table(name: str, outcomes: Sequence[Outcome]) -> Facts:
    case = load(name)
    first, *more = outcomes
    tally = Tally([Column() for _ in case.features.features])
    for each in (first, *more):
        tally.add(each.tally)
    counts = reduce(lambda one, other: one + other, (each.counts for each in outcomes))
    lines = {line.function: line for line in total(line for each in outcomes for line in each.lines)}
    door, join, engine = (lines[function] for function in (HANDLER, ENRICHER, ENGINE))
    sent = counts["made"] + counts["sent_twice"]
    gaps = [
        door.given - sent,
        door.duplicate - counts["sent_twice"],
        join.given - door.applied,
        engine.given - join.applied,
        engine.applied - counts["applied"],
        engine.late - counts["late"],
        counts["never_came"],
        *(line.unaccounted for line in lines.values()),
        *(line.waiting for line in lines.values()),
    ]
    kinds = _kinds(case.features.features, tally.columns)
    worst = max(zip(tally.columns, case.features.names, strict=True), key=lambda each: each[0].worst)
    return {
        "case": case.name,
        "title": case.title,
        "features": len(case.features.names),
        "fingerprint": case.features.fingerprint,
        "replays": len(outcomes),
        "differences": tally.differences,
        "unaccounted": sum(map(abs, gaps)),
        "compared": {
            "points": sum(tally.points.values()),
            "moments": {str(moment): points for moment, points in tally.points.items()},
            "without_a_vector": tally.without,
            "stream_vectors": tally.streamed,
            "serving_vectors": tally.served,
            "numbers": sum(each.numbers for each in tally.columns),
            "equal": sum(each.equal for each in tally.columns),
            "filled": sum(each.filled for each in tally.columns),
            "rounding": sum(each.rounding for each in tally.columns),
            "worst": _worst(*worst),
        },
        "kinds": kinds,
        "sent": {
            "customers": counts["customers"],
            "events": counts["made"],
            "sent_twice": counts["sent_twice"],
            "held_up": counts["delayed"],
            "overtaken": counts["overtaken"],
            "furthest_places": max(each.furthest for each in outcomes),
            "digest": _digest(each.digest for each in outcomes),
        },
        "account": [
            {"function": line.function, "source": line.source, "in": line.given}
            | {outcome: getattr(line, outcome) for outcome in (*OUTCOMES, "unaccounted")}
            | {"again": counts[f"again {line.function}"]}
            for line in (door, join, engine)
        ],
        "engine": {
            "units": counts["units"],
            "restarts": counts["restarts"],
            "before_durable": counts["lost"],
            "read_by_nobody": counts["unread"],
        },
        "listed": [_listed(each) for each in tally.listed],
    }


def _kinds(features: Sequence[Any], columns: Sequence[Column]) -> list[Facts]:
    """The judgements by window and op, in the order in which the table first has each."""
    grouped: dict[tuple[str, str], list[tuple[Column, str]]] = {}
    for feature, column in zip(features, columns, strict=True):
        grouped.setdefault(kind_of(feature), []).append((column, feature.name))
    return [
        {"window": window, "op": op, "features": len(group)}
        | {name: sum(getattr(column, name) for column, _ in group) for name in ("numbers", "equal", "filled", "rounding")}
        | {"worst": _worst(*max(group, key=lambda each: each[0].worst))}
        for (window, op), group in grouped.items()
    ]


def _worst(column: Column, feature: str) -> Facts:
    if not column.worst or column.worst_at is None:
        return {"error": 0.0}
    error = column.worst if isfinite(column.worst) else None
    return {"error": error, "feature": feature, "customer": column.worst_of, "at": column.worst_at.isoformat()}


def _size(error: float | None) -> float:
    return float("inf") if error is None else error


def _listed(each: Difference) -> Facts:
    values = {name: getattr(each, name) for name in ("batch", "stream", "serving")}
    shown = {name: value if isinstance(value, str) or isfinite(value) else "unknown" for name, value in values.items()}
    return {"case": each.table, "customer": each.customer, "at": each.at.isoformat(), "feature": each.feature} | shown


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What a certificate comes to, for a terminal."""
    compared = found["compared"]
    error = compared["worst"]["error"]
    lines = [
        (
            f"{compared['points']:,} points, {compared['numbers']:,} numbers of the stream and of serving against recomputed"
            f" ones: {found['differences']:,} differences."
        ),
        f"{compared['equal']:,} are equal to the last bit"
        + ("." if not error else f"; the worst of the rest is off by {error:.1e} of its size."),
    ]
    for each in found["listed"]:
        values = ", ".join(f"{name} {each[name]}" for name in ("batch", "stream", "serving") if each[name] != "")
        lines.append(f"{each['case']}: {each['feature']} of {each['customer']} at {each['at']}: {values}")
    if found["unaccounted"]:
        lines.append(f"{found['unaccounted']:,} events are unaccounted for.")
    return lines
