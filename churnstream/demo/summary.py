"""What came of a run, in figures: read from the streams' own logs and from the accounts that the functions keep."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from churnstream import topology
from churnstream.errors import UnknownFunction
from churnstream.local.client import SupervisorClient
from churnstream.operations.ledger import Line
from churnstream.reading import HTTP, count, peek, totals
from churnstream.settings import Settings
from churnstream.wiring import open_table

DRAIN = timedelta(seconds=60)
MODEL = "churn"


@dataclass(frozen=True, slots=True)
class Stage:
    """A function's work: rows it was given, and the time in which it was busy with them."""

    function: str
    rows: int
    busy: timedelta

    @property
    def rows_per_s(self) -> float:
        """0 before any work."""
        return self.rows / (self.busy / timedelta(seconds=1)) if self.busy else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts are rows. ``lines`` is the ledger over all shards; ``metrics`` belong to the newest model, None without one."""

    counts: Mapping[str, int]
    lines: tuple[Line, ...]
    stages: tuple[Stage, ...]
    metrics: Mapping[str, float] | None
    note: str

    @property
    def exact(self) -> bool:
        """True when every function has accounted for all that it was given, and nothing waits."""
        return all(line.unaccounted == 0 and line.waiting == 0 for line in self.lines)

    def auc(self) -> str:
        """How well the newest model tells who leaves."""
        if not self.metrics or "auc" not in self.metrics:
            return "no model of this case was trained here"
        low, high, customers = (self.metrics.get(name, float("nan")) for name in ("auc_low", "auc_high", "holdout_customers"))
        return f"{self.metrics['auc']:.4f} ({low:.4f} to {high:.4f}), judged on the newest {customers:,.0f} customers"


def settle(client: SupervisorClient, project: str) -> None:
    """Wait until every deployed function has read all that is there, upstream first; raises NotDrained."""
    deployed = {each["name"] for each in client.status()["functions"] if each["project"] == project}
    for function in topology.FUNCTIONS:
        if function.name in deployed:
            client.drain(function.name, DRAIN, project)


def summarise(
    settings: Settings, generated: Mapping[str, float] | None, metrics: Mapping[str, float] | None, note: str
) -> Summary:
    """The figures of everything that has flowed under ``settings``; ``generated`` are the generator's own results."""
    lines = [line for line in totals(settings) if line.given or line.source != HTTP]
    door = [line for line in lines if line.function == topology.writers(topology.INCOMING)[0]]
    table = open_table(topology.FEATURES, settings)
    counts = {
        "produced": count(topology.GENERATED, settings),
        "accepted": sum(line.applied for line in door),
        "refused": sum(line.invalid for line in door),
        "enriched": count(topology.ENRICHED, settings),
        "feature rows": count(topology.SERVING, settings),
        "customers": len(table),
        "predictions": count(topology.INFERENCE, settings),
    }
    table.close()
    stages = [Stage(line.function, line.given, line.busy) for line in lines if line.source != HTTP]
    if generated and generated.get("produced"):
        took = timedelta(seconds=generated["seconds"])
        stages.insert(0, Stage(topology.writers(topology.GENERATED)[0], int(generated["produced"]), took))
    return Summary(counts, tuple(lines), tuple(stages), metrics, note)


def infer_command(client: SupervisorClient, settings: Settings, churnstream: str) -> str:
    """A curl command that asks the deployed model about a customer who is there; ``churnstream`` is how a shell finds our own.

    The token stays out of it: the shell asks for it. Raises UnknownFunction when nothing serves, or nobody can be asked about.
    """
    address = client.find("serving", settings.project)["address"]
    newest = peek(topology.INFERENCE, 1, settings)
    if newest.empty:
        raise UnknownFunction("serving has scored nobody yet, so there is no customer to ask it about")
    body = shlex.quote(json.dumps({"inputs": [{"user_id": str(newest["user_id"].iloc[-1])}]}))
    return " \\\n".join(
        (
            f'curl -H "Authorization: Bearer $({churnstream} token)"',
            '     -H "Content-Type: application/json"',
            f"     -d {body}",
            f"     http://{address}/v2/models/{quote(MODEL)}/infer",
        )
    )
