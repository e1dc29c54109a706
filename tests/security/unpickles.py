"""Runs the river from the door to a prediction, and says in a JSON line who unpickled what on the way.

`python -m tests.security.unpickles FOLDER` runs it in FOLDER; with a second word it unpickles something itself.
The interpreter tells every look-up of a class by a pickle, and every read of marshalled code that is not an import's.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

EVENTS = ("pickle.find_class", "marshal.load", "marshal.loads")
READERS = ("pickle.py", "shelve.py", "<frozen importlib", "cloudpickle", "joblib")
seen: Counter[str] = Counter()
phase = "import"


def note(event: str, given: tuple[Any, ...]) -> None:
    """The audit hook."""
    if event not in EVENTS:
        return
    frame: FrameType | None = sys._getframe(1)
    files: list[str] = []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    if event != "pickle.find_class" and any("importlib" in each for each in files[:2]):
        return  # how Python reads a .pyc
    who = next((each for each in files if not any(reader in each for reader in READERS)), "?")
    seen[f"{phase}: {event}: {_package(who)}"] += 1


def _package(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[parts.index("site-packages") + 1 :][:3]) if "site-packages" in parts else "/".join(parts[-2:])


def main() -> None:
    """The command line."""
    global phase
    sys.addaudithook(note)
    from churnstream.topology import INFERENCE
    from tests.functions.river import River

    phase = "run"
    river = River(Path(sys.argv[1]), "first_day")
    river.job("enrichment-table", "build")
    river.generate(customers=10, events=300)
    river.flow("incoming-event-handler", "enrich-stream", "stream-to-features", "stream-to-parquet")
    with river.door("serving") as door:  # which loads the model
        door.pump()
        answered = door.post(
            {"inputs": [{"user_id": row["user_id"]} for row in river.rows(INFERENCE)[:3]]}, "/v2/models/churn/infer"
        )
        door.drain()
    if len(sys.argv) > 2:
        sys.audit("pickle.find_class", "tests", "planted")  # what the interpreter says when something is unpickled
    told = {"predictions": len(river.rows(INFERENCE)), "answered": answered.status_code, "seen": dict(seen)}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
