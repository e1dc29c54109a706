"""Training sets that were true at the time: features as they were at the decision, the label as it became known later."""

import hashlib
from collections.abc import Iterator, Sequence
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
from churnstream.models.joins import enriched
from churnstream.models.labels import labels
from churnstream.models.slices import groups
from churnstream.models.watermark import watermark
from churnstream.tables.base import TableReader
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

ORIGIN = ["origin_shard", "origin_offset", "origin_row"]


@dataclass(frozen=True)
class TrainingSet:
    """One row for each customer and decision, in order of anchor: ``features`` (n, features) in the case's order, ``label`` (n,).

    A label is 1 churned and 0 stayed. ``anchor`` (n,) are the instants from which their windows count, ``at`` (n,) those at which
    they were judged, ``known`` (n,) those at which the label became known; ``silence`` (n,) is the time from the newest event
    before the decision to it, in seconds. ``slices`` (n, groups) are the groups by which the model is judged apart. ``unmatured``
    rows were left out: their label was not known at ``until``, where the archive ends. ``digest`` names exactly this data.
    """

    keys: pd.Series
    features: pd.DataFrame
    label: NDArray[np.int8]
    anchor: pd.Series
    at: pd.Series
    known: pd.Series
    silence: pd.Series
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


def on_time(archive: pa.Table, lateness: timedelta) -> pa.Table:
    """The archive without the events that the stream leaves out: those that are more than ``lateness`` behind their customer."""
    events = archive.select([KEY, EVENT_TIME]).to_pandas()
    newest_before = events.groupby(KEY, sort=False)[EVENT_TIME].cummax()
    return archive.filter(pa.array((events[EVENT_TIME] >= newest_before - lateness).to_numpy()))


def build_training_set(
    archive: pa.Table, case: UseCase, lookup: TableReader | None, decisions: Sequence[timedelta] = ()
) -> TrainingSet:
    """A row for each customer at each of ``decisions`` after the anchor (the case's own by default) whose label is known by now.

    What happened from a decision on is not in its features. A label is known when its time has passed at the end of the archive,
    which is the newest instant that enough customers have reached (see ``watermark``). Late events are left out as the stream
    leaves them out. What was looked up for an event is what enrich-stream joined to it, where ``archive`` says so (see
    ``with_joins``), else what ``lookup`` says today. Raises NotEnoughData when no label is known.
    """
    archive = on_time(archive, case.features.lateness)
    events = archive.select([KEY, EVENT_TYPE, EVENT_TIME]).to_pandas()
    until = watermark(events.groupby(KEY, sort=False)[EVENT_TIME].max())
    anchors = events.loc[events[EVENT_TYPE] == case.features.anchor].groupby(KEY, sort=False)[EVENT_TIME].min()
    began = anchors.rename("anchor").reset_index()
    every = [began.assign(at=began["anchor"] + each) for each in sorted(set(decisions or (case.decision,)))]
    rows = pd.concat(every, ignore_index=True)
    rows["label"], rows["known"] = labels(archive, events, rows, case)
    table = features_at(archive, rows, case, lookup)
    defined = rows.index.isin(table.index)
    matured = defined & (rows["known"] <= until).to_numpy() & rows["label"].notna().to_numpy()
    if not matured.any():
        raise NotEnoughData(
            f"no customer's label is known by {until}: the archive ends before any label matures; collect for longer"
        )
    rows = rows[matured].sort_values(["anchor", KEY, "at"], kind="stable")
    table = table.loc[rows.index].reset_index(drop=True)
    rows = rows.reset_index(drop=True)
    return TrainingSet(
        keys=rows[KEY],
        features=table,
        label=rows["label"].to_numpy().astype(np.int8),
        anchor=rows["anchor"],
        at=rows["at"],
        known=rows["known"],
        silence=_silence(events, rows),
        slices=groups(archive, rows, table, case),
        unmatured=int((defined & ~matured).sum()),
        until=until.to_pydatetime(),
        digest=data_digest(rows, table),
    )


def _silence(events: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    seen = events[[KEY, EVENT_TIME]].sort_values(EVENT_TIME, kind="stable")
    asked = rows[[KEY, "at"]].reset_index().sort_values("at", kind="stable")
    newest = pd.merge_asof(asked, seen, left_on="at", right_on=EVENT_TIME, by=KEY, allow_exact_matches=False)
    return (newest["at"] - newest[EVENT_TIME]).dt.total_seconds().set_axis(newest["index"]).sort_index().rename("silence")


def features_at(archive: pa.Table, rows: pd.DataFrame, case: UseCase, lookup: TableReader | None) -> pd.DataFrame:
    """The features of ``rows`` (user_id, at) from the events before each instant, indexed as ``rows``, less undefined ones."""
    found: dict[int, NDArray[np.float64]] = {}
    for part in _once_each(rows):
        cut = cut_at(archive, part)
        engine = WindowEngine(case)
        for batch in enriched(cut, case, lookup):
            engine.apply(batch)
        for row, key, at in zip(part.index, part[KEY], part["at"], strict=True):
            vector = engine.vector(key, at.to_pydatetime())
            if vector is not None:
                found[row] = vector
    return pd.DataFrame.from_dict(found, orient="index", columns=list(case.features.names))


def cut_at(archive: pa.Table, rows: pd.DataFrame) -> pa.Table:
    """What had happened to the customers of ``rows``, one row each, before the instant ``at``, and nothing else."""
    events = archive.select([KEY, EVENT_TIME]).to_pandas()
    instants = events[KEY].map(rows.set_index(KEY)["at"])
    return archive.filter(pa.array((events[EVENT_TIME] < instants).to_numpy()))


def _once_each(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """``rows`` in parts that hold each customer once."""
    for _, part in rows.groupby(rows.groupby(KEY, sort=False).cumcount()):
        yield part


def data_digest(rows: pd.DataFrame, features: pd.DataFrame) -> str:
    """Sixteen hexadecimal digits that change with any customer, instant, label or number."""
    told = pd.concat([rows[[KEY, "at", "label"]], features], axis=1)
    hashed = pd.util.hash_pandas_object(told, index=False).to_numpy()
    return hashlib.sha256(hashed.tobytes()).hexdigest()[:16]
