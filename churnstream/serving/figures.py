"""What a served model says of itself in numbers: who scored how much, who was sent away, and how fresh look-ups are."""

from collections.abc import Iterator

from churnstream.operations.figures import Name
from churnstream.serving.arms import CHAMPION
from churnstream.serving.served import ServedModel

ROWS = "Rows scored, by who scored them"
FAILURES = "Requests that a model failed with; the champion answered them"
ROLLBACKS = "Candidates that a worker has rolled back by itself"
WITHDRAWN = "1: this candidate answers nobody, 0: it takes part"
LOOKS = "Look-ups by user_id that looked at the feature table; others were answered from memory"
STALENESS = "How old a look-up may be"
HELD = "Customers held in memory"


def figures(model: ServedModel) -> Iterator[tuple[Name, float]]:
    """Since this process began; nothing in it is counted for its sake while requests are answered."""
    whose = (("model", model.name),)
    for arm in model.rollout.arms():
        labels = (*whose, ("version", arm.version), ("role", arm.role))
        yield Name("churnstream_scored_rows", ROWS, labels), arm.rows
        yield Name("churnstream_scoring_failures", FAILURES, labels), arm.failures
        if arm.role != CHAMPION:
            yield Name("churnstream_rollbacks", ROLLBACKS, labels), arm.rollbacks
            yield Name("churnstream_candidate_withdrawn", WITHDRAWN, labels, counts=False), float(bool(arm.stopped))
    yield Name("churnstream_lookup_reads", LOOKS, whose), model.customers.looks
    staleness = model.customers.staleness.total_seconds()
    yield Name("churnstream_lookup_staleness_seconds", STALENESS, whose, counts=False), staleness
    yield Name("churnstream_lookup_customers", HELD, whose, counts=False), len(model.customers)
