"""Labels: what became of a customer after the decision, and the instant at which that was known."""

import pandas as pd
import pyarrow as pa

from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, SilenceLabel, StatedLabel, UseCase


def labels(archive: pa.Table, events: pd.DataFrame, rows: pd.DataFrame, case: UseCase) -> tuple[pd.Series, pd.Series]:
    """For each of ``rows`` (user_id, anchor, at) the label, 1 churned, 0 stayed, NaN never stated, and when it became known.

    ``events`` are those of the archive that were not late, with user_id, event_type and event_time.
    """
    if isinstance(case.label, SilenceLabel):
        return _silence(case.label, events, rows)
    return _stated(case.label, archive, rows)


def _silence(label: SilenceLabel, events: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    seen = events.loc[events[EVENT_TYPE] == label.event, [KEY, EVENT_TIME]]
    each = rows[[KEY, "at"]].reset_index(names="row").merge(seen, on=KEY)
    inside = (each[EVENT_TIME] >= each["at"]) & (each[EVENT_TIME] < each["at"] + label.span)
    back = rows.index.isin(each.loc[inside, "row"].unique())
    return pd.Series(1.0, rows.index).where(~back, 0.0), rows["at"] + label.span


def _stated(label: StatedLabel, archive: pa.Table, rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    table = archive.select([KEY, EVENT_TYPE, label.field]).to_pandas()
    table = table[(table[EVENT_TYPE] == label.event) & table[label.field].notna()]
    stated = table.groupby(KEY, sort=False)[label.field].last()
    return rows[KEY].map(stated).astype(float), rows["anchor"] + label.known_after
