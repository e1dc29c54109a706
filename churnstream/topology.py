"""The pipeline as data: which function reads and writes which stream.

The one map that the project set-up, the local platform, the pictures and the tests read.
"""

from dataclasses import dataclass
from typing import Literal

from churnstream.errors import UnknownFunction

SHARDS = 8  # of every stream; a customer has the same shard number in all of them

GENERATED = "generated-stream"
INCOMING = "incoming-events-stream"
ENRICHED = "enriched-events-stream"
SERVING = "serving-stream"
INFERENCE = "inference-stream"
DEAD_LETTERS = "dead-letters"  # every function that reads events writes its own

ENRICHMENT = "enrichment"
FEATURES = "features"
JOINED = "joined"  # what enrich-stream has joined to each event; no function looks it up while events flow


@dataclass(frozen=True, slots=True)
class Function:
    """One deployable function: ``functions/<name with underscores>.py``, deployed by ``notebooks/<notebook>.ipynb``.

    ``kind`` is MLRun's: a ``job`` runs to its end, ``nuclio`` and ``serving`` stay. ``http`` functions take events over HTTP as
    their main input, from whoever holds a token of their ``scope``. ``acknowledges`` functions say themselves when a record is
    durable, later than their handler returns.
    """

    name: str
    kind: str
    notebook: str
    does: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    looks_up: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    http: bool = False
    scope: Literal["ingest", "infer", "operate"] = "operate"
    acknowledges: bool = False

    @property
    def file(self) -> str:
        return f"functions/{self.name.replace('-', '_')}.py"


FUNCTIONS = (
    Function("event-generator", "job", "1-event-generator", "simulates or replays events", writes=(GENERATED,)),
    Function(
        "incoming-event-handler",
        "nuclio",
        "2-incoming-event-handler",
        "parses and validates each event once",
        reads=(GENERATED,),
        writes=(INCOMING, DEAD_LETTERS),
        http=True,
        scope="ingest",
    ),
    Function(
        "stream-to-parquet",
        "nuclio",
        "2a-stream-to-parquet",
        "keeps every event in Parquet files by day",
        reads=(INCOMING,),
        writes=(DEAD_LETTERS,),
        acknowledges=True,
    ),
    Function("enrichment-table", "job", "3a-enrichment-table", "fills the lookup table", keeps=(ENRICHMENT,)),
    Function(
        "enrich-stream",
        "nuclio",
        "3b-enrich-stream",
        "joins events with the lookup table",
        reads=(INCOMING,),
        writes=(ENRICHED, DEAD_LETTERS),
        looks_up=(ENRICHMENT,),
    ),
    Function(
        "stream-to-features",
        "serving",
        "4-stream-to-features",
        "keeps each customer's features up to date",
        reads=(ENRICHED,),
        writes=(SERVING, DEAD_LETTERS),
        keeps=(FEATURES,),
    ),
    Function("training", "job", "4b-optional-training", "trains and registers a model", looks_up=(ENRICHMENT,)),
    Function(
        "serving",
        "serving",
        "5-serving",
        "scores customers, over HTTP and from the stream",
        reads=(SERVING,),
        writes=(INFERENCE, DEAD_LETTERS),
        looks_up=(FEATURES,),
        http=True,
        scope="infer",
    ),
)


def function(name: str) -> Function:
    """The function called ``name``; raises UnknownFunction."""
    for each in FUNCTIONS:
        if each.name == name:
            return each
    raise UnknownFunction(f"there is no function {name!r}; the pipeline has {', '.join(each.name for each in FUNCTIONS)}")


def streams() -> tuple[str, ...]:
    """Every stream, in the order in which events flow; dead letters last."""
    written = dict.fromkeys(stream for each in FUNCTIONS for stream in each.writes if stream != DEAD_LETTERS)
    return (*written, DEAD_LETTERS)


def writers(stream: str) -> tuple[str, ...]:
    """The functions that write ``stream``: one for every stream but the dead letters."""
    return tuple(each.name for each in FUNCTIONS if stream in each.writes)


def keeper(table: str) -> str:
    """The function that keeps ``table``."""
    for each in FUNCTIONS:
        if table in each.keeps:
            return each.name
    raise UnknownFunction(f"no function keeps a table called {table!r}")
