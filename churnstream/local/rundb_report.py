"""Which calls of MLRun's client work on one machine: this module prints the tables of docs/rundb.md."""

import inspect
import sys
from collections.abc import Iterator

from churnstream.local.rundb import LocalRunDB
from churnstream.local.rundb_refusals import INSTEAD, calls, is_refused

SUBJECTS = {"Projects": 0, "Functions": 1, "Runs": 2, "Artifacts": 3, "ArtifactTags": 3, "Features": 4, "LocalRunDB": 5}
"""The classes that make up the run database, and their places in the table."""


def report() -> str:
    """Two Markdown tables: what works, by subject, and what is refused, with what to do instead; every call once."""
    return "\n".join([*_works(), "", *_refused(), ""])


def _works() -> Iterator[str]:
    working = [call for call in calls() if not is_refused(LocalRunDB, call)]
    yield f"## Works: {len(working)} calls"
    yield ""
    yield "| call | here |"
    yield "|---|---|"
    homes = {call: next(each.__name__ for each in LocalRunDB.__mro__ if call in vars(each)) for call in working}
    for call in sorted(working, key=lambda each: (SUBJECTS[homes[each]], each)):
        yield f"| `{call}` | {_cell((inspect.getdoc(getattr(LocalRunDB, call)) or '').split(chr(10) * 2)[0])} |"


def _refused() -> Iterator[str]:
    refused = [call for call in calls() if is_refused(LocalRunDB, call)]
    yield f"## Refuses with a sentence: {len(refused)} calls"
    yield ""
    yield "| call | instead |"
    yield "|---|---|"
    order = list(INSTEAD)
    for call in sorted(refused, key=lambda each: order.index(each) if each in INSTEAD else len(order)):
        yield f"| `{call}` | {_cell(INSTEAD.get(call, 'a cluster'))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(report())
