"""The certificate itself: slices run side by side, their outcomes added up, and written as JSON and as a page."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from platform import machine, python_version, system
from typing import Any

from churnstream import __version__
from churnstream.certificate.facts import CASES, Facts, facts
from churnstream.certificate.page import page
from churnstream.certificate.slices import Outcome, Slice, run
from churnstream.errors import InvalidSetting, PlatformFailed

SLICE_POINTS = 25_000
EVERY_WINDOW_SHARE = 1 / 3  # of the points: each has six times as many numbers as one of the first day
FEWEST = 200
LIBRARIES = ("numpy", "pyarrow", "numba", "msgspec", "storey", "mlrun")


def slices(points: int, seed: int) -> list[Slice]:
    """The work of a certificate, what takes longest first. Raises InvalidSetting for too few points."""
    if points < FEWEST:
        raise InvalidSetting(f"{points} points are too few to prove anything; ask for {FEWEST} or more")
    fewer = round(points * EVERY_WINDOW_SHARE)
    return [*_slices(CASES[1], fewer, seed), *_slices(CASES[0], points - fewer, seed)]


def _slices(case: str, points: int, seed: int) -> list[Slice]:
    count = max(1, round(points / SLICE_POINTS))
    bounds = [points * place // count for place in range(count + 1)]
    return [Slice(case, seed * 10_000 + place, end - start) for place, (start, end) in enumerate(pairwise(bounds))]


def certify(points: int, seed: int, processes: int, progress: Callable[[int], Any] = lambda points: None) -> Facts:
    """What a replay of ``points`` points says, the same for the same points and seed.

    ``progress`` hears how many more points are done. With one process, the work is done in this one. Raises InvalidSetting,
    PlatformFailed, and whatever stops a slice.
    """
    work = slices(points, seed)
    if processes == 1:
        outcomes = [_told(run(each), progress) for each in work]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            waiting = [pool.submit(run, each) for each in work]
            try:
                for done in as_completed(waiting):
                    _told(done.result(), progress)
            except BrokenProcessPool as cause:
                raise PlatformFailed(
                    "a process that was comparing has died; try again with fewer, as in --processes 1"
                ) from cause
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        outcomes = [each.result() for each in waiting]
    return facts(points, seed, outcomes)


def _told(outcome: Outcome, progress: Callable[[int], Any]) -> Outcome:
    progress(outcome.slice.points)
    return outcome


def write(folder: Path, found: Facts, at: datetime, took: timedelta, processes: int) -> tuple[Path, Path]:
    """Write certificate.json and certificate.html; returns where they are.

    All that differs between two runs of one replay stands under "made".
    """
    found = found | {
        "made": {
            "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "seconds": round(took.total_seconds(), 1),
            "processes": processes,
            "machine": f"{system()} {machine()}",
            "versions": {"churnstream": __version__, "python": python_version()} | {name: version(name) for name in LIBRARIES},
        }
    }
    folder.mkdir(parents=True, exist_ok=True)
    data, shown = folder / "certificate.json", folder / "certificate.html"
    data.write_text(json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    shown.write_text(page(found))
    return data, shown
