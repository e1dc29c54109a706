"""What a served model says of itself is what happened, and what the page about Prometheus lists."""

import re
from pathlib import Path

from churnstream.certificate.every_window import CASE
from churnstream.operations.figures import Name
from churnstream.serving.arms import CANARY
from churnstream.serving.figures import figures
from churnstream.serving.lookup import Customers
from churnstream.serving.rollout import Rollout
from churnstream.serving.served import ServedModel
from tests.serving.small_models import TABLE, scorer, vectors
from tests.serving.test_lookup import NOW, SECOND, Clock, Table, states
from tests.serving.test_rollout import USERS, Odd, arm, broken

PAGE = Path(__file__).parents[2] / "docs" / "prometheus.md"
ROWS = vectors(200, seed=4).tolist()


def served() -> ServedModel:
    customers = Customers(CASE, Table(states()), Clock(NOW), 5 * SECOND)
    return ServedModel("churn", TABLE, Rollout(scorer(1), [arm(Odd(broken), share=0.5)]), customers)


def said(model: ServedModel) -> dict[tuple[str, str], float]:
    """(name, role) -> value."""
    return {(name.name, dict(name.labels).get("role", "")): value for name, value in figures(model)}


def test_rows_failures_rollbacks_and_look_ups_are_counted() -> None:
    model = served()
    for row, user in zip(ROWS, USERS, strict=False):
        model.rollout.score([row], [user])
    found, canary = said(model), model.rollout.candidates[0]
    assert canary.stopped
    assert found["churnstream_scored_rows", CANARY] == canary.failures == found["churnstream_scoring_failures", CANARY] > 0
    assert found["churnstream_scored_rows", "champion"] == len(ROWS) + canary.failures  # it is asked once more to compare
    assert found["churnstream_rollbacks", CANARY] == found["churnstream_candidate_withdrawn", CANARY] == 1
    model.rollout.readmit(canary)
    assert (said(model)["churnstream_rollbacks", CANARY], said(model)["churnstream_candidate_withdrawn", CANARY]) == (1, 0)
    known = list(states())[:3]
    for user in (*known, *known):
        model.customers(user)
    found = said(model)
    assert (found["churnstream_lookup_reads", ""], found["churnstream_lookup_customers", ""]) == (3, 3)
    assert found["churnstream_lookup_staleness_seconds", ""] == 5


def test_the_page_lists_them_all_and_no_other() -> None:
    told = re.findall(r"^\| `(churnstream_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    names: set[Name] = {name for name, _ in figures(served())}
    assert set(told) == {(f"{each.name}_total", "counter") if each.counts else (each.name, "gauge") for each in names}
