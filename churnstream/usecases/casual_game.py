"""A casual game's first day: a player, an instant and a score are all there is.

Features over the 24 hours from the first play; churned means no play in the seven days after them. Recorded plays are replayed
from a file with the columns player_id, event_ts (UTC) and score.

No country, device or campaign is in such a file, so a model is judged apart by what the plays themselves say at the decision: how
many there were, and on which day of the week they began.
"""

from datetime import timedelta

from churnstream.features.definitions import Feature, FeatureTable, Op
from churnstream.features.windows import First
from churnstream.usecases.case import ANCHOR_WEEKDAY, EventType, Field, Kind, SilenceLabel, Source, UseCase

PLAY = "play"
FIRST_DAY = timedelta(hours=24)

UNITS = {Op.COUNT: "plays", Op.VAR: "points squared", Op.LAST_AT: "seconds since the first play"}
WORDS = {
    Op.COUNT: "Number of plays",
    Op.SUM: "Total score",
    Op.MEAN: "Mean score",
    Op.VAR: "Sample variance of the score",
    Op.MIN: "Lowest score",
    Op.MAX: "Highest score",
    Op.LAST_AT: "Time of the last play",
}


def _over(span: timedelta, suffix: str, *ops: Op) -> tuple[Feature, ...]:
    return tuple(
        Feature(
            name=f"score_{op}_{suffix}" if op in (Op.SUM, Op.MEAN, Op.VAR, Op.MIN, Op.MAX) else f"play_{op}_{suffix}",
            event=PLAY,
            field=None if op in (Op.COUNT, Op.LAST_AT) else "score",
            op=op,
            window=First(span),
            unit=UNITS.get(op, "points"),
            doc=f"{WORDS[op]} in the first {suffix} from the first play.",
        )
        for op in ops
    )


CASE = UseCase(
    name="casual_game",
    title="A casual game's first day",
    events=(EventType(PLAY, (Field("score", Kind.NUMBER, at_least=0, at_most=1e9, unit="points"),)),),
    features=FeatureTable(
        anchor=PLAY,
        lateness=timedelta(hours=1),
        features=(
            *_over(FIRST_DAY, "24h", Op.COUNT, Op.SUM, Op.MEAN, Op.VAR, Op.MIN, Op.MAX, Op.LAST_AT),
            *_over(timedelta(hours=6), "6h", Op.COUNT, Op.LAST_AT),
            *_over(timedelta(hours=1), "1h", Op.COUNT, Op.MEAN, Op.MAX, Op.LAST_AT),
            *_over(timedelta(minutes=10), "10min", Op.COUNT, Op.LAST_AT),
        ),
    ),
    label=SilenceLabel(event=PLAY, span=timedelta(days=7)),
    serving_events=(PLAY,),
    decision=FIRST_DAY,
    example={"user_id": "1", "event_type": PLAY, "event_time": "2015-01-13T15:40:00Z", "score": 120},
    identity=("user_id", "event_time", "score"),
    slices=("play_count_24h", ANCHOR_WEEKDAY),
    source=Source(event=PLAY, key="player_id", time="event_ts", columns={"score": "score"}),
)
