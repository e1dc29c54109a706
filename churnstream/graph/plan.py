"""A feature table compiled for the engine: names become column numbers, spans become microseconds."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op
from churnstream.usecases.case import UseCase

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

MICROSECOND = timedelta(microseconds=1)
OPS = tuple(Op)
ATTRIBUTE = len(OPS)  # beside the ops, in ``Plan.op``
NONE = -1


@dataclass(frozen=True)
class Plan:
    """What the kernel needs to know.

    An *accumulator* sums up one field of one event type over one span; features that differ only in their op share one.
    ``columns`` are the number columns of a batch that accumulators and attributes read.
    """

    names: tuple[str, ...]
    fingerprint: bytes
    columns: tuple[str, ...]
    anchor: int
    requires: int
    lateness: int
    acc_event: Whole
    acc_column: Whole
    acc_span: Whole
    att_event: Whole
    att_column: Whole
    att_default: Real
    op: Whole
    source: Whole
    serves: NDArray[np.bool_]

    @property
    def accumulators(self) -> int:
        return len(self.acc_event)

    @property
    def attributes(self) -> int:
        return len(self.att_event)


def compile_plan(case: UseCase) -> Plan:
    """The plan of a case's feature table; the case has been checked when it was made."""
    table: FeatureTable = case.features
    codes = {name: code for code, name in enumerate(case.event_names)}
    columns = list(dict.fromkeys(each.field for each in table.features if each.field is not None))
    windows: list[tuple[int, int, int]] = []
    attributes = [each for each in table.features if isinstance(each, Attribute)]
    ops, sources = [], []
    # Features with a field come first, so that counts find an accumulator of their event and span to share.
    windowed = (each for each in table.features if isinstance(each, Feature))
    for feature in sorted(windowed, key=lambda feature: feature.field is None):
        _place(windows, _window(feature, codes, columns))
    for each in table.features:
        if isinstance(each, Attribute):
            ops.append(ATTRIBUTE)
            sources.append(attributes.index(each))
        else:
            ops.append(OPS.index(each.op))
            sources.append(_place(windows, _window(each, codes, columns)))
    events, fields, spans = (
        (np.array(part, np.int64) for part in zip(*windows, strict=True)) if windows else (np.zeros(0, np.int64),) * 3
    )
    return Plan(
        names=table.names,
        fingerprint=bytes.fromhex(table.fingerprint),
        columns=tuple(columns),
        anchor=codes[table.anchor],
        requires=NONE if table.requires is None else codes[table.requires],
        lateness=table.lateness // MICROSECOND,
        acc_event=events,
        acc_column=fields,
        acc_span=spans,
        att_event=np.array([codes[each.event] for each in attributes], np.int64),
        att_column=np.array([columns.index(each.field) for each in attributes], np.int64),
        att_default=np.array([each.default for each in attributes], np.float64),
        op=np.array(ops, np.int64),
        source=np.array(sources, np.int64),
        serves=np.array([name in case.serving_events for name in case.event_names], np.bool_),
    )


def _window(each: Feature, codes: dict[str, int], columns: list[str]) -> tuple[int, int, int]:
    return codes[each.event], NONE if each.field is None else columns.index(each.field), each.span // MICROSECOND


def _place(windows: list[tuple[int, int, int]], wanted: tuple[int, int, int]) -> int:
    """The accumulator for ``wanted``, made if none will do; one that reads a field also counts."""
    for place, each in enumerate(windows):
        if each == wanted or (wanted[1] == NONE and each[0] == wanted[0] and each[2] == wanted[2]):
            return place
    windows.append(wanted)
    return len(windows) - 1
