"""Load from wrk, and what it says of a round."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence

from tests.bench.common import Figures, RunFailed, tell

# the end of a script of wrk's own; a token comes by the environment, which other users cannot read as they can a command line
DONE = """
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('\\n{"requests": %d, "us": %d, "failed": %d, "p50_us": %d, "p99_us": %d}\\n',
    summary.requests, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
"""


def is_there() -> bool:
    """Whether wrk is installed; says how to get it when it is not."""
    if shutil.which("wrk") is None:
        tell("wrk is missing, which makes the load: `apt-get install wrk`, `brew install wrk`, or https://github.com/wg/wrk")
        return False
    return True


def load(
    words: Sequence[str], seconds: float, environment: Mapping[str, str], first: Callable[[], None] | None = None
) -> Figures:
    """One round with a script that ends in DONE; ``first`` is called in wrk's process. Raises RunFailed."""
    command = ["wrk", "--threads", "1", "--duration", f"{max(1, round(seconds))}s", *words]
    told = {**os.environ, **environment}
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=seconds + 60, check=False, preexec_fn=first)
    if done.returncode:
        raise RunFailed(f"wrk failed: {(done.stderr or done.stdout).strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "requests_per_s": round(found["requests"] / found["us"] * 1e6),
        "p50_ms": round(found["p50_us"] / 1000, 3),
        "p99_ms": round(found["p99_us"] / 1000, 3),
        "requests": found["requests"],
        "failed": found["failed"],
    }
