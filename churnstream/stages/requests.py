"""Requests that a client sends again under the same Idempotency-Key, because it does not know what became of them.

What a request leaves in a shard is written together with a note under its key, so that after a crash the part that was written is
known from the part that was not. Sent again, it is answered as if it had come once. The header is that of the IETF's draft
"The Idempotency-Key HTTP Header Field": a string in quotes; one without them is taken as well, as many clients send it so.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from churnstream.errors import BadRequest, KeyReused
from churnstream.streams.base import Unit

REQUESTS = "requests"
HEADER = "idempotency-key"
LONGEST = 255  # characters of a key
SIZE = 16  # bytes of a digest
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
BARE = re.compile(r"[!#-+\--~]+")  # no space, quote or comma
NOTE = struct.Struct(f"<{SIZE}sII")
Part = tuple[int, int]  # events accepted, and duplicates


def idempotency_key(headers: Mapping[str, Any] | None) -> str:
    """The key that a request came with, "" for none; raises BadRequest with a sentence.

    >>> idempotency_key({"Idempotency-Key": '"7f0-3"'}), idempotency_key({"idempotency-key": "7f0-3"}), idempotency_key({})
    ('7f0-3', '7f0-3', '')
    """
    given = next((value for name, value in (headers or {}).items() if name.lower() == HEADER), None)
    if given is None:
        return ""
    text = (given.decode("latin-1") if isinstance(given, bytes) else str(given)).strip(" ")
    quoted = QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text if BARE.fullmatch(text) else ""
    if not 0 < len(key) <= LONGEST:
        raise BadRequest(f"the Idempotency-Key is no string of 1 to {LONGEST} printable ASCII characters in quotes: send a UUID")
    return key


@dataclass(slots=True)
class Attempt:
    """One sending of a request. ``before`` are the parts that an earlier one has written, by shard; ``now`` those of this one."""

    key: str
    body: bytes
    horizon: timedelta
    before: Mapping[int, Part]
    now: dict[int, tuple[str, Part]] = field(default_factory=dict)

    def note(self, shard: int, owner: str, accepted: int = 0, duplicates: int = 0) -> None:
        """What this attempt has of ``shard``, which is that of ``owner``."""
        _, (more_accepted, more_duplicates) = self.now.get(shard, (owner, (0, 0)))
        self.now[shard] = owner, (accepted + more_accepted, duplicates + more_duplicates)

    def remember(self, unit: Unit) -> None:
        """Have what was noted written with ``unit``."""
        if not self.key:
            return
        for owner, (accepted, duplicates) in self.now.values():
            note = NOTE.pack(self.body, accepted, duplicates)
            unit.remember(REQUESTS, {_digest(self.key.encode()): note}, owner, self.horizon)


def attempt(key: str, body: Any, unit: Unit, horizon: timedelta) -> Attempt:
    """What is known of the request with this key, nothing when it has none.

    Raises KeyReused when it came with another body less than ``horizon`` before.
    """
    if not key:
        return Attempt("", b"", horizon, {})
    found = unit.recall_in_every_shard(REQUESTS, _digest(key.encode()), horizon)
    notes = {shard: NOTE.unpack(note) for shard, note in found.items()}
    digest = _digest(_bytes(body))
    if any(theirs != digest for theirs, _, _ in notes.values()):
        raise KeyReused(f"the Idempotency-Key {key!r} came before with another body; send what is new under a key of its own")
    return Attempt(key, digest, horizon, {shard: (accepted, duplicates) for shard, (_, accepted, duplicates) in notes.items()})


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=SIZE, person=b"request").digest()


def _bytes(body: Any) -> bytes:
    """The body, or if the platform has parsed it what tells it from any other."""
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError, RecursionError):
        return str(type(body)).encode()  # no JSON, or nested more deeply than anyone reads
