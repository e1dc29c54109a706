"""Dead letters as they are written down: one JSON object each, with all that is needed to hand the event back."""

import base64
import json
from datetime import datetime

from churnstream.records import Record

DEAD_LETTERS = "dead-letters"
LETTER = "letter"  # the header of a record that was redriven: the name of the letter it came from
KEPT_BYTES = 1_000_000  # of what was refused; more of it is cut, and cannot be redriven


def write_letter(
    reason: str,
    source: str,
    place: tuple[int | None, int | None, int | None],
    refused_at: datetime,
    payload: bytes,
    original: Record | None = None,
    redrives: str = "",
) -> Record:
    """A letter about ``payload``, which stood at ``place``: shard, offset and row of ``source``.

    ``payload`` is shown as text; ``original`` is what to hand back where that is something else. ``redrives`` names the letter
    that was handed back and is refused again. Over KEPT_BYTES both are cut, and the letter says so.
    """
    shard, offset, row = place
    text = payload[:KEPT_BYTES].decode("utf-8", "backslashreplace")
    letter: dict[str, object] = {
        "reason": reason,
        "source": source,
        "shard": shard,
        "offset": offset,
        "row": row,
        "refused_at": refused_at.isoformat(),
        "payload": text,
    }
    sent = original or Record(payload)
    content_type = sent.headers.get("content-type", "")
    if len(sent.payload) > KEPT_BYTES:
        letter["cut"] = True
    elif sent.payload != text.encode() or content_type not in ("", "application/json"):
        encoded = base64.b64encode(sent.payload).decode()
        letter["original"] = {"payload": encoded, "content_type": content_type, "rows": sent.rows}
    if redrives:
        letter["redrives"] = redrives
    return Record(json.dumps(letter).encode(), headers={"content-type": "application/json"})
