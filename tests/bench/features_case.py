"""The case that is measured: amounts of purchases, bets and wins, over windows that slide in steps of ten minutes."""

from collections.abc import Sequence
from datetime import timedelta

from churnstream.features.definitions import Feature, FeatureTable, Op
from churnstream.features.windows import Sliding
from churnstream.usecases import first_day
from churnstream.usecases.case import SilenceLabel, UseCase, spell

PERIOD = timedelta(minutes=10)
SPANS = (timedelta(hours=1), timedelta(hours=24))
OPS = (Op.SUM, Op.MEAN, Op.COUNT, Op.VAR)
AMOUNTS = {first_day.PURCHASE: "amount", first_day.BET: "bet_amount", first_day.WIN: "win_amount"}  # event -> its number


def sliding_case(spans: Sequence[timedelta] = SPANS, period: timedelta | None = PERIOD) -> UseCase:
    """Sum, mean, count and var of every amount over every span; every event yields a row. Without a period, spans are exact.

    The order of the features is that of ``AMOUNTS``, then ``spans``, then ``OPS``.
    """
    features = tuple(
        Feature(
            name=f"{field}_{op}_{span // timedelta(minutes=1)}m",
            event=event,
            field=None if op is Op.COUNT else field,
            op=op,
            window=Sliding(span, period),
            unit="",
            doc=f"The {op} of {field} in the last {spell(span)}.",
        )
        for event, field in AMOUNTS.items()
        for span in spans
        for op in OPS
    )
    return UseCase(
        name="sliding",
        title="Sliding windows",
        events=tuple(each for each in first_day.CASE.events if each.name in AMOUNTS),
        features=FeatureTable(features),
        label=SilenceLabel(first_day.BET, timedelta(days=7)),
        serving_events=tuple(AMOUNTS),
        decision=timedelta(hours=24),
        example={"user_id": "u1", "event_type": first_day.BET, "event_time": "2026-01-03T12:00:00Z", "bet_amount": 2.5},
    )


CASE = sliding_case()
