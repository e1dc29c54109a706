"""Nothing is lost, proven under fire: ``python -m tests.replay.torture``, or ``make torture KILLS=1000``.

The whole river runs twice over the same seeded events, once undisturbed, once while processes of it end by SIGKILL: workers, the
nursery, the supervisor and the generator at random moments, and whoever comes to a failpoint (``churnstream/failpoints.py``).
Meanwhile clients post to the door, and send again what was not answered. What is ended is started again; when all is spent,
everything drains, and what came out is compared row by row: features, archive, predictions, dead letters and accounts. The last
line is JSON; the exit code is 1 when anything differs.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from churnstream import failpoints
from tests.replay.torture.events import size
from tests.replay.torture.fire import Fire, deck
from tests.replay.torture.outcome import Outcome, beyond, outcome
from tests.replay.torture.posting import Client, clients
from tests.replay.torture.river import Producer, River

FLUSH_S = 1.0  # so that files are written all the time
MOST_PIECES = 5  # that are fed for each kill


@dataclass(frozen=True)
class Battle:
    """What came out, who was killed how often, and how often each failpoint was hit.

    ``in_vain`` are kills that found nobody, ``revived`` functions that the platform had given up and that were deployed again;
    ``posted`` requests of clients were sent ``again`` so often, ``unanswered`` times because there was no answer.
    """

    outcome: Outcome
    kills: Counter[str]
    hits: Counter[str]
    in_vain: int
    revived: int
    posted: int
    again: int
    unanswered: int


def deploy(folder: Path, workers: int) -> None:
    """A home in which everything is deployed, and nothing runs."""
    river = River(folder)
    try:
        river.deploy(workers, FLUSH_S)
    finally:
        river.down()


def calm(folder: Path, given: argparse.Namespace) -> Outcome:
    """What comes out when nothing happens."""
    river, total = River(folder), size(given.customers, given.events)
    producer = Producer(river, given.seed, given.customers, given.events, piece=total)
    posting: list[Client] = []
    try:
        producer.finish(total)
        river.start()
        posting = clients(river, given.seed, given.events, patient=True)
        for each in posting:
            each.finish()
        river.finish()
    finally:
        for each in posting:
            each.close()
        producer.close()
        river.down()
    return outcome(river.settings)


def under_fire(folder: Path, given: argparse.Namespace) -> Battle:
    """What comes out when everything happens."""
    river, total = River(folder), size(given.customers, given.events)
    rng = random.Random(f"torture {given.seed}")
    producer = Producer(river, given.seed, given.customers, given.events, max(50, total // given.kills // MOST_PIECES))
    posting = clients(river, given.seed, given.events, patient=False)
    fire = Fire(river, producer, posting, rng)
    try:
        river.start()
        with tqdm(total=given.kills, unit=" kills", disable=given.quiet) as bar:
            fire.work_off(deck(given.kills, rng), total, bar.update)
        producer.finish(total)
        for each in posting:
            each.finish()
        river.finish()
    finally:
        for each in posting:
            each.close()
        producer.close()
        river.down()
    posted, again, unanswered = (sum(getattr(each, name) for each in posting) for name in ("posted", "again", "unanswered"))
    hits = Counter(hit.name for hit in failpoints.hits(river.failpoints))
    return Battle(outcome(river.settings), fire.kills, hits, fire.in_vain, river.revived, posted, again, unanswered)


def report(calm: Outcome, battle: Battle, seconds: Mapping[str, float], console: Console) -> None:
    """Tables for people."""
    kills = Table("killed", "times", title="Kills")
    for kind, times in battle.kills.most_common():
        kills.add_row(kind, str(times))
    places = Table("failpoint", "hits", title="Failpoints")
    for name in failpoints.NAMES:
        places.add_row(name, str(battle.hits[name]))
    fired = battle.outcome
    lost, double = beyond(calm, fired), beyond(fired, calm)
    results = Table("what", "rows undisturbed", "lost", "double or wrong", "digests", title="What came out")
    digests = calm.digests
    for name, digest in fired.digests.items():
        rows = str(len(calm.rows[name])) if name in calm.rows else str(len(calm.accounts))
        same = "equal" if digest == digests[name] else "DIFFERENT"
        results.add_row(name, rows, str(lost.get(name, "")), str(double.get(name, "")), same)
    for table in (kills, places, results):
        console.print(table)
    console.print(" ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    for theirs, ours in zip(calm.accounts, fired.accounts, strict=False):
        if theirs != ours:
            console.print(f"undisturbed: {theirs}\nunder fire:  {ours}", soft_wrap=True)


def figures(calm: Outcome, battle: Battle, given: argparse.Namespace) -> dict[str, Any]:
    """The last line, but for how long it took."""
    fired = battle.outcome
    lost, double = sum(beyond(calm, fired).values()), sum(beyond(fired, calm).values())
    return {
        "torture": "passed" if fired.digests == calm.digests and not (fired.unaccounted or fired.unfinished) else "failed",
        "events": size(given.customers, given.events),
        "kills": battle.kills.total(),
        "kills_by_kind": dict(battle.kills),
        "failpoints": {name: battle.hits[name] for name in failpoints.NAMES},
        "in_vain": battle.in_vain,
        "deployed_again": battle.revived,
        "requests": battle.posted,
        "requests_sent_again": battle.again,
        "requests_unanswered": battle.unanswered,
        "lost": lost,
        "double": double,
        "unaccounted": fired.unaccounted,
        "unfinished_files": fired.unfinished,
        "digests": fired.digests,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Kill everything, again and again, and see whether anything is lost.")
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=2_000_000, help="beside one registration a customer")
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="of each function")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args(arguments)
    if given.kills <= len(failpoints.NAMES) + 4:
        parser.error(f"--kills must be more than {len(failpoints.NAMES) + 4}, so that every failpoint and kind has its turn")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # or a platform would be left running
    console, clock = Console(stderr=True), time.perf_counter
    with tempfile.TemporaryDirectory(prefix="churnstream-torture-") as name:
        began = clock()
        deploy(Path(name) / "calm", given.workers)
        shutil.copytree(Path(name) / "calm", Path(name) / "fire")
        deployed = clock()
        undisturbed = calm(Path(name) / "calm", given)
        between = clock()
        battle = under_fire(Path(name) / "fire", given)
        ended = clock()
    seconds = {"deploying": deployed - began, "undisturbed": between - deployed, "under fire": ended - between}
    report(undisturbed, battle, seconds, console)
    told = figures(undisturbed, battle, given) | {"seconds": round(ended - began, 1)}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if told["torture"] == "passed" else 1


if __name__ == "__main__":
    sys.exit(main())
