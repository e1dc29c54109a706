"""A betting game's first day: who registers, buys, bets, and is gone tomorrow.

Thirteen features over the 24 hours from a customer's first purchase, in the order a model sees them. The simulated events are for
load and parity: amounts and rates are drawn from the label, so nothing about the quality of a model may rest on them.
"""

import random
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heapreplace
from math import exp
from typing import Any

from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op
from churnstream.features.windows import First
from churnstream.usecases.case import Enrichment, EventType, Field, Kind, StatedLabel, UseCase

FIRST_DAY = timedelta(hours=24)
CHURN_SHARE = 0.70
STAYERS_LEAD = 2.0

REGISTRATION, PURCHASE, BET, WIN = "new_registration", "new_purchases", "new_bet", "new_win"

DOCS = {
    "sum": "Total of the {what}",
    "mean": "Mean of the {what}",
    "count": "Number of {what}",
    "var": "Sample variance of the {what}",
}


def _moments(prefix: str, event: str, field: str, what: str) -> tuple[Feature, ...]:
    return tuple(
        Feature(
            name=f"{prefix}_{op}",
            event=event,
            field=None if op is Op.COUNT else field,
            op=op,
            window=First(FIRST_DAY),
            unit={Op.COUNT: "events", Op.VAR: "account currency squared"}.get(op, "account currency"),
            doc=f"{DOCS[op].format(what=what)} in the first 24 hours from the first purchase.",
        )
        for op in (Op.SUM, Op.MEAN, Op.COUNT, Op.VAR)
    )


FEATURES = FeatureTable(
    anchor=PURCHASE,
    requires=REGISTRATION,
    lateness=timedelta(hours=1),
    features=(
        Attribute(
            name="socioeconomic_idx",
            event=REGISTRATION,
            field="socioeconomic_idx",
            unit="index, 0 to 1",
            doc="Socioeconomic index of the customer's postcode.",
        ),
        *_moments("purchase", PURCHASE, "amount", "purchases"),
        *_moments("bet", BET, "bet_amount", "bets"),
        *_moments("win", WIN, "win_amount", "wins"),
    ),
)

# --- the simulated world -------------------------------------------------------------------------------------------------

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
REGISTRATION_DAYS = 7.0
UNKNOWN_POSTCODES = 0.01  # share of customers whose postcode no table holds
AREAS = ("LN", "BR", "MK", "TS", "GW", "PD", "OX", "RH", "SA", "YO")
PLACES = {"GB": ("Leeds", "Bath", "Derby"), "DE": ("Kassel", "Jena", "Ulm"), "ES": ("Vigo", "Jaca", "Elche")}
FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hugo", "Ida", "Jon")
LAST_NAMES = ("Archer", "Baker", "Carter", "Dyer", "Fisher", "Glover", "Mason", "Potter", "Turner", "Weaver")
CAMPAIGNS = ("spring", "referral", "search", "none")


def postcodes() -> tuple[str, ...]:
    """The thousand postcodes of the simulated world."""
    return tuple(f"{area}{district} {sector}AA" for area in AREAS for district in range(1, 11) for sector in range(10))


def lookup_rows(seed: int) -> Iterator[tuple[str, float]]:
    """Every postcode with its socioeconomic index in [0, 1]; neighbours within a district are alike."""
    rng = random.Random(f"socioeconomic {seed}")
    centre = 0.5
    for number, postcode in enumerate(postcodes()):
        if number % 10 == 0:
            centre = rng.random()
        yield postcode, round(min(1.0, max(0.0, rng.gauss(centre, 0.08))), 4)


def simulate(seed: int, customers: int, events: int) -> Iterator[Mapping[str, Any]]:
    """``customers`` registrations and exactly ``events`` purchases, bets and wins, in order of event time.

    70 % of the customers churn. Each has an attachment to the game, drawn around one of two means: who stays is mostly, not
    always, the more attached. Attachment decides how much is played, how it is spread over the day, and the mix of purchases,
    bets and wins. A customer's first purchase follows the registration within hours, a few bets precede it (they carry the
    welcome bonus), and play goes on for 30 hours, so that windows close while events still come.
    """
    rng = random.Random(f"first day {seed}")
    people = [_person(rng) for _ in range(customers)]
    shares = _shares([exp(0.35 * each.attachment) for each in people], events)
    codes = postcodes()
    calendars = [
        _calendar(rng, rng.random() * REGISTRATION_DAYS * 86_400, share, each) for share, each in zip(shares, people, strict=True)
    ]
    queue = [(calendar[0], number, 0) for number, calendar in enumerate(calendars)]
    heapify(queue)
    while queue:
        seconds, number, step = queue[0]
        user_id, at = f"s{seed}-u{number:06d}", EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
        if step == 0:
            yield _registration(rng, user_id, at, people[number], codes)
        else:
            yield _play(rng, user_id, at, people[number], step == _first_purchase(len(calendars[number])))
        if step + 1 < len(calendars[number]):
            heapreplace(queue, (calendars[number][step + 1], number, step + 1))
        else:
            heappop(queue)


@dataclass(frozen=True, slots=True)
class Person:
    """``attachment`` spreads by 1 around 0 for churners, around ``STAYERS_LEAD`` for the others; ``stake`` scales all amounts."""

    churned: bool
    attachment: float
    stake: float


def _person(rng: random.Random) -> Person:
    churned = rng.random() < CHURN_SHARE
    return Person(churned, rng.gauss(0.0 if churned else STAYERS_LEAD, 1.0), rng.lognormvariate(0.0, 0.5))


def _shares(weights: list[float], total: int) -> list[int]:
    """Whole numbers in proportion to ``weights`` that add up to ``total``."""
    shares, given, weight_so_far, weight = [], 0, 0.0, sum(weights)
    for each in weights:
        weight_so_far += each
        upto = round(total * weight_so_far / weight)
        shares.append(upto - given)
        given = upto
    return shares


def _first_purchase(length: int) -> int:
    """The step of a customer's calendar at which the first purchase stands: after the bonus bets, if there is room for any."""
    return 1 if length < 20 else 4


def _calendar(rng: random.Random, registered: float, share: int, person: Person) -> "array[float]":
    """Seconds from EPOCH: the registration, then ``share`` later instants, increasing."""
    start = registered + rng.expovariate(1 / 1_800) + 60
    fading = exp(-0.3 * (person.attachment - 1.0))  # the less attached, the more their play leans towards the start
    later = sorted(start + 30 * 3_600 * rng.random() ** fading for _ in range(share))
    return array("d", [registered, *later])


def _registration(rng: random.Random, user_id: str, at: datetime, person: Person, codes: tuple[str, ...]) -> dict[str, Any]:
    country = rng.choice(tuple(PLACES))
    unknown = rng.random() < UNKNOWN_POSTCODES
    return {
        "user_id": user_id,
        "event_type": REGISTRATION,
        "event_time": at,
        "name": f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
        "date_of_birth": f"{rng.randint(1950, 2006)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        "street_address": f"{rng.randint(1, 199)} Long Lane",
        "city": rng.choice(PLACES[country]),
        "country": country,
        "postcode": f"ZZ{rng.randint(1, 99)} 9ZZ" if unknown else rng.choice(codes),
        "affiliate_url": f"https://affiliate-{rng.randint(1, 9)}.example/join",
        "campaign": rng.choice(CAMPAIGNS),
        "label": int(person.churned),
    }


def _play(rng: random.Random, user_id: str, at: datetime, person: Person, first_purchase: bool) -> dict[str, Any]:
    draw = rng.random()
    buys = 0.08 * exp(0.15 * person.attachment)
    loses = 0.62 * exp(-0.04 * person.attachment)
    if first_purchase or draw < buys:
        kind, field, typical = PURCHASE, "amount", 14.0 * exp(0.15 * person.attachment)
    elif draw < buys + loses:
        kind, field, typical = BET, "bet_amount", 2.8 * exp(-0.08 * person.attachment)
    else:
        kind, field, typical = WIN, "win_amount", 3.6 * exp(0.08 * person.attachment)
    amount = max(0.01, round(rng.lognormvariate(0.0, 0.8) * typical * person.stake, 2))
    return {"user_id": user_id, "event_type": kind, "event_time": at, field: amount}


CASE = UseCase(
    name="first_day",
    title="A game's first day",
    events=(
        EventType(
            REGISTRATION,
            (
                Field("name", Kind.TEXT),
                Field("date_of_birth", Kind.DATE),
                Field("street_address", Kind.TEXT),
                Field("city", Kind.TEXT),
                Field("country", Kind.TEXT),
                Field("postcode", Kind.TEXT),
                Field("affiliate_url", Kind.TEXT, required=False),
                Field("campaign", Kind.TEXT, required=False),
                Field("label", Kind.WHOLE, required=False, at_least=0, at_most=1, unit="1 churned, 0 stayed"),
            ),
        ),
        EventType(PURCHASE, (Field("amount", Kind.NUMBER, at_least=0, at_most=1e9, unit="account currency"),)),
        EventType(BET, (Field("bet_amount", Kind.NUMBER, at_least=0, at_most=1e9, unit="account currency"),)),
        EventType(WIN, (Field("win_amount", Kind.NUMBER, at_least=0, at_most=1e9, unit="account currency"),)),
    ),
    enrichment=Enrichment(
        event=REGISTRATION, key="postcode", column="socioeconomic_idx", default=0.5, unit="index, 0 to 1", rows=lookup_rows
    ),
    features=FEATURES,
    label=StatedLabel(event=REGISTRATION, field="label", known_after=timedelta(hours=48)),
    serving_events=(BET, WIN),
    decision=FIRST_DAY,
    example={"user_id": "s1-u000001", "event_type": BET, "event_time": "2026-01-03T12:00:00Z", "bet_amount": 2.5},
    simulate=simulate,
    slices=("country", "campaign", "socioeconomic_idx"),
    note="The simulated amounts and rates are drawn from the label, so it leaks into every feature: figures on these events say"
    " that the parts fit together, and nothing about a real model.",
)
