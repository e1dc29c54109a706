"""Which events came before: the door knows an event again by its producer's id, or by the fields that its case names."""

from hashlib import blake2b

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.streams.base import Unit
from churnstream.usecases.case import UseCase

IDENTITIES = "identities"
SIZE = 16  # bytes of a digest


def of_id(customer: str, event_id: str) -> bytes:
    """What an event is known by that its producer gave an id; another customer's is another event."""
    return blake2b(f"{len(customer)} {customer}{event_id}".encode(), digest_size=SIZE, person=b"event_id").digest()


class Identities:
    """Tells what is new from what came less than the case's horizon before, in the same shard."""

    def __init__(self, case: UseCase):
        self._case = case

    def fresh(self, batch: pa.RecordBatch, ids: pa.StringArray | None, unit: Unit, owner: str) -> NDArray[np.int64] | None:
        """The places of the events that are new, (n,), in order; None when all are. ``unit`` is to remember them."""
        digests = self._digests(batch, ids)
        if digests is None:
            return None
        known = unit.recall(IDENTITIES, {each for each in digests if each}, owner, self._case.horizon).keys()
        met: dict[bytes, bytes] = {}
        fresh: list[int] = []
        for place, digest in enumerate(digests):
            if digest:
                if digest in known or digest in met:
                    continue
                met[digest] = b""
            fresh.append(place)
        if met:
            unit.remember(IDENTITIES, met, owner, self._case.horizon)
        return None if len(fresh) == len(digests) else np.array(fresh, np.int64)

    def _digests(self, batch: pa.RecordBatch, ids: pa.StringArray | None) -> list[bytes] | None:
        """For each event what it is known by, empty for one that is known by nothing; None when none is."""
        if ids is None or ids.null_count == len(ids):
            return self._by_fields(batch)
        by_fields = self._by_fields(batch) if ids.null_count else None
        others = by_fields or [b""] * len(ids)
        told = zip(batch.column(0).to_pylist(), ids.to_pylist(), others, strict=True)
        return [other if event_id is None else of_id(customer, event_id) for customer, event_id, other in told]

    def _by_fields(self, batch: pa.RecordBatch) -> list[bytes] | None:
        if self._case.identity is None:
            return None
        columns = [batch.column(batch.schema.get_field_index(name)).cast(pa.string()).to_pylist() for name in self._case.identity]
        encode = msgspec.msgpack.encode
        return [blake2b(encode(values), digest_size=SIZE).digest() for values in zip(*columns, strict=True)]
