"""How far an archive reaches: the instant up to which silence is a fact and not merely the end of what was recorded."""

from math import ceil

import pandas as pd

WITNESSES = 3
WITNESS_SHARE = 0.001


def watermark(newest: pd.Series) -> pd.Timestamp:
    """The newest instant that enough customers have reached; ``newest`` (customers,) holds each one's newest instant.

    Enough are three, or one in a thousand where that is more; all of them where there are fewer. The newest event alone would not
    do: one clock that runs a year ahead would make every label look known, and everybody silent. A few such clocks move this by
    nothing, and right clocks cost it no more than the last moments of the archive.

    >>> day = pd.Series(pd.to_datetime(["2026-03-01", "2026-03-02", "2026-03-03", "2031-01-01"], utc=True))
    >>> str(watermark(day).date())
    '2026-03-02'
    """
    enough = min(len(newest), max(WITNESSES, ceil(len(newest) * WITNESS_SHARE)))
    return newest.sort_values(ascending=False, kind="stable").iloc[enough - 1]
