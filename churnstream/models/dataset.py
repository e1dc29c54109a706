"""Training sets that were true at the time: features as they were at the decision, the label as it became known later."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from churnstream.codecs import schema
from churnstream.errors import NotEnoughData
from churnstream.graph.engine import WindowEngine
from churnstream.stages.enrich import enrich
from churnstream.tables.base import TableReader
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, SilenceLabel, UseCase

BATCH_ROWS = 65_536
ORIGIN = ["origin_shard", "origin_offset", "origin_row"]


@dataclass(frozen=True)
class TrainingSet:
    """One row a customer: ``features`` (n, features) in the case's order, ``label`` (n,) 1 churned and 0 stayed.

    ``anchor`` (n,) are the instants from which their windows count. ``slices`` are the registration fields by which the model is
    judged apart. ``unmatured`` customers were left out, because their label was not known at ``until``, the newest instant of the
    archive. ``digest`` names exactly this data.
    """

    keys: pd.Series
    features: pd.DataFrame
    label: NDArray[np.int8]
    anchor: pd.Series
    slices: pd.DataFrame
    unmatured: int
    until: datetime
    digest: str

    def __len__(self) -> int:
        return len(self.label)


def read_archive(folder: Path, case: UseCase) -> pa.Table:
    """Every archived event, each shard in the order in which it arrived."""
    if not any(folder.glob("event_date=*/*.parquet")):
        raise NotEnoughData(f"there are no Parquet files in {folder}; deploy stream-to-parquet and let events flow first")
    archive = ds.dataset(folder, format="parquet", partitioning="hive", exclude_invalid_files=False)
    names = [*schema(case).names, "origin_offset", "origin_row", "__filename"]
    table = archive.to_table(columns=names)
    shards = [
        int(Path(name).name.split("-")[-3])
        for name in table.column("__filename").combine_chunks().dictionary_encode().dictionary.to_pylist()
    ]
    codes = table.column("__filename").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    table = table.drop_columns(["__filename"]).append_column("origin_shard", pa.array(np.array(shards, np.int32)[codes]))
    return table.sort_by([(name, "ascending") for name in ORIGIN])


def build_training_set(archive: pa.Table, case: UseCase, lookup: TableReader | None) -> TrainingSet:
    """One row for each customer who has been judged and whose label has become known by the end of ``archive``.

    A customer is judged at ``anchor + case.decision``: what happened from that instant on is not in the features. Late events are
    left out as the stream leaves them out.
    """
    events = archive.select([KEY, EVENT_TYPE, EVENT_TIME]).to_pandas()
    events = events[~_is_late(events, case.features.lateness)]
    until = events[EVENT_TIME].max()
    anchors = events.loc[events[EVENT_TYPE] == case.features.anchor].groupby(KEY, sort=False)[EVENT_TIME].min()
    decisions = events[KEY].map(anchors) + case.decision
    before = events.index[(events[EVENT_TIME] < decisions).to_numpy()]
    engine = _replay(archive.take(pa.array(before.to_numpy())), case, lookup)
    customers = engine.keys()
    judged_at = (anchors + case.decision).to_dict()
    vectors = {key: engine.vector(key, judged_at[key].to_pydatetime()) for key in customers}
    table = pd.DataFrame.from_dict(
        {key: vector for key, vector in vectors.items() if vector is not None}, orient="index", columns=list(case.features.names)
    )
    judged = pd.DataFrame({"anchor": anchors}).loc[table.index]
    judged["label"], judged["known"] = _labels(archive, events, judged["anchor"], case)
    matured = ((judged["known"] <= until) & judged["label"].notna()).to_numpy()
    if not matured.any():
        raise NotEnoughData(
            f"no customer's label is known by {until}: the archive ends before any label matures; collect for longer"
        )
    judged, table = judged[matured], table[matured]
    order = judged.sort_values("anchor", kind="stable").index
    table, judged = table.loc[order], judged.loc[order]
    return TrainingSet(
        keys=pd.Series(order, name=KEY),
        features=table.reset_index(drop=True),
        label=judged["label"].to_numpy().astype(np.int8),
        anchor=judged["anchor"].reset_index(drop=True),
        slices=_slices(archive, order, case),
        unmatured=int((~matured).sum()),
        until=until.to_pydatetime(),
        digest=_digest(table, judged),
    )


def _is_late(events: pd.DataFrame, lateness: timedelta) -> NDArray[np.bool_]:
    """Which rows, in order of arrival, are more than ``lateness`` behind the newest earlier row of the same customer."""
    newest_before = events.groupby(KEY, sort=False)[EVENT_TIME].cummax()
    return (events[EVENT_TIME] < newest_before - lateness).to_numpy()


def _replay(table: pa.Table, case: UseCase, lookup: TableReader | None) -> WindowEngine:
    engine = WindowEngine(case)
    columns = schema(case)
    for batch in table.select(columns.names).cast(columns).combine_chunks().to_batches(BATCH_ROWS):
        engine.apply(enrich(batch, case, lookup)[0])
    return engine


def _labels(archive: pa.Table, events: pd.DataFrame, anchors: pd.Series, case: UseCase) -> tuple[pd.Series, pd.Series]:
    """The label of each customer (NaN when none was stated) and the instant at which it became known."""
    label = case.label
    if isinstance(label, SilenceLabel):
        starts = anchors + case.decision
        seen = events.loc[events[EVENT_TYPE] == label.event]
        begin = seen[KEY].map(starts)
        back = seen.loc[(seen[EVENT_TIME] >= begin) & (seen[EVENT_TIME] < begin + label.span), KEY].unique()
        return pd.Series(1.0, anchors.index).where(~anchors.index.isin(back), 0.0), starts + label.span
    stated = archive.select([KEY, EVENT_TYPE, label.field]).to_pandas()
    stated = stated[(stated[EVENT_TYPE] == label.event) & stated[label.field].notna()]
    return stated.groupby(KEY, sort=False)[label.field].last().reindex(anchors.index), anchors + label.known_after


def _slices(archive: pa.Table, keys: pd.Index, case: UseCase) -> pd.DataFrame:
    if not case.slices:
        return pd.DataFrame(index=range(len(keys)))
    facts = archive.select([KEY, *case.slices]).to_pandas().groupby(KEY, sort=False).first()
    return facts.reindex(keys).reset_index(drop=True)


def _digest(table: pd.DataFrame, judged: pd.DataFrame) -> str:
    hashed = pd.util.hash_pandas_object(pd.concat([table, judged["label"]], axis=1).sort_index()).to_numpy()
    return hashlib.sha256(hashed.tobytes()).hexdigest()[:16]
