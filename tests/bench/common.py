"""What every benchmark needs: one core, a meter, fresh processes, medians, and one JSON line a result.

The standard library only: peers run in environments of their own, and import this.
"""

import gc
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"  # what benchmarks make once and use again; git ignores it
MEBI = 2**20

Figures = dict[str, Any]


class RunFailed(Exception):
    """A process that should have printed figures did not; the sentence says why."""


def say(**figures: Any) -> None:
    """Print one result as a line of JSON."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def tell(sentence: str) -> None:
    """Say how far things are, beside the figures."""
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def pin() -> None:
    """Keep this process, and the threads and children that it starts from now on, to one core: the last that it may use.

    Where the system cannot do that, the cores that a result says were busy tell.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


class Meter:
    """Measures a ``with`` block: ``seconds`` by the clock, and ``cpu_s`` of the processor, children that have ended included.

    Whoever is measured starts as a worker does that is forked from one where everything has been loaded: what was imported is
    not looked through for garbage again (100 ms a time beside MLRun), unless ``as_it_is``.
    """

    def __init__(self, as_it_is: bool = False):
        self._as_it_is = as_it_is

    def __enter__(self) -> "Meter":
        if not self._as_it_is:
            gc.collect()
            gc.freeze()
        self._cpu, self._clock = _cpu_s(), time.perf_counter()
        return self

    def __exit__(self, *failure: object) -> None:
        self.seconds, self.cpu_s = time.perf_counter() - self._clock, _cpu_s() - self._cpu

    def figures(self, events: int) -> Figures:
        """The rate of ``events`` in the block, how many cores were busy, and the most memory the process ever held."""
        return {
            "events": events,
            "events_per_s": round(events / self.seconds),
            "cores": round(self.cpu_s / self.seconds, 2),
            "peak_rss_mb": round(peak_rss() / MEBI),
        }


def _cpu_s() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in uses)


def peak_rss() -> int:
    """The most memory that this process ever held, in bytes; not that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def fresh(
    module: str,
    *words: object,
    python: str | Path = sys.executable,
    environment: Mapping[str, str] | None = None,
    limit_s: float = 600,
) -> Figures:
    """Run ``python -m module words`` in a process of its own; the last line that it prints holds the figures.

    Raises RunFailed for one that fails, prints none, or takes longer than ``limit_s``.
    """
    command = [str(python), "-m", module, *map(str, words)]
    # the clock of the machine, so that a run can tell how long its own start took
    told = {**os.environ, **(environment or {}), "BENCH_STARTED": repr(time.monotonic())}
    try:
        done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"it took longer than {limit_s:g} s") from None
    except OSError as cause:
        raise RunFailed(f"it does not start: {cause}") from cause
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunFailed(complaint[-1])
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError) as cause:
        raise RunFailed(f"it printed no figures: {done.stdout[-200:]!r}") from cause


def since_start_s() -> float:
    """Seconds since ``fresh`` started this process."""
    return time.monotonic() - float(os.environ["BENCH_STARTED"])


def median(results: Sequence[Figures], by: str = "events_per_s") -> Figures:
    """The result in the middle, with the least and the most of ``by`` beside it; of an even number, the lower of the two."""
    ordered = sorted(results, key=lambda each: each[by])
    middle = ordered[(len(ordered) - 1) // 2]
    return {**middle, "runs": len(ordered), "range": [ordered[0][by], ordered[-1][by]]}


def once(path: Path, write: Callable[[Path], None]) -> Path:
    """``path``, written by ``write`` unless it is there already; half a file never gets the name.

    It is read through, so that what is measured finds it in the system's memory, and does not wait for a disk.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"{path.name}.{os.getpid()}")
        write(half)
        half.replace(path)
    with path.open("rb") as file:
        while file.read(MEBI):
            pass
    return path


def machine() -> Figures:
    """What a figure was measured on."""
    names: list[str] = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
