"""Another business is one new module: here a library's readers, which nothing in the package has ever heard of."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from churnstream.errors import InvalidDefinition, UnknownCase
from churnstream.features.reference import feature_vector
from churnstream.graph.engine import StateReader
from churnstream.topology import DEAD_LETTERS, ENRICHED, FEATURES, INFERENCE
from churnstream.usecases import load, names
from churnstream.wiring import open_table
from tests.functions.river import STEPS, River, assert_conserved

Module = Callable[[str, str], str]

LIBRARY = """
from datetime import timedelta

from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op
from churnstream.features.windows import First, Lifetime
from churnstream.usecases.case import Enrichment, EventType, Field, Kind, SilenceLabel, UseCase

WEEK = timedelta(days=7)


def branches(seed):
    yield "north", 1.5
    yield "south", 2.5


CASE = UseCase(
    name="library",
    title="A library",
    events=(
        EventType("joined", (Field("branch", Kind.TEXT), Field("age", Kind.WHOLE, at_least=0))),
        EventType("borrowed", (Field("pages", Kind.NUMBER, at_least=0),)),
        EventType("returned", (Field("days", Kind.NUMBER, at_least=0),)),
    ),
    enrichment=Enrichment("joined", "branch", "distance", default=9.0, unit="km", rows=branches),
    features=FeatureTable(
        anchor="joined",
        lateness=timedelta(hours=2),
        features=(
            Attribute("age", "joined", "age", "years", "Age."),
            Attribute("distance", "joined", "distance", "km", "Way to the branch."),
            Feature("books", "borrowed", None, Op.COUNT, First(WEEK), "books", "Books borrowed."),
            Feature("pages", "borrowed", "pages", Op.SUM, First(WEEK), "pages", "Pages borrowed."),
            Feature("longest", "returned", "days", Op.MAX, First(WEEK), "days", "Longest loan."),
        ),
    ),
    label=SilenceLabel("borrowed", timedelta(days=7)),
    serving_events=("borrowed",),
    decision=WEEK,
    identity=("user_id", "event_type", "event_time"),
    example={"user_id": "r1", "event_type": "borrowed", "event_time": "2026-05-01T10:00:00Z", "pages": 120},
)
"""
START = datetime(2026, 5, 1, 10, tzinfo=UTC)


def a_month_at_the_library() -> list[dict[str, Any]]:
    """300 readers who join over two weeks; who reads much in the first week comes again."""
    rng = random.Random(9)
    events: list[dict[str, Any]] = []
    for reader in range(300):
        user, at = f"r{reader}", START + timedelta(hours=rng.uniform(0, 14 * 24))
        keen = rng.random() < 0.5
        branch = rng.choice(["north", "south", "on the moon"])
        events.append({"user_id": user, "event_type": "joined", "event_time": at, "branch": branch, "age": rng.randint(8, 80)})
        for day in range(28 if keen else 7):
            if rng.random() < (0.8 if keen else 0.4):
                then = at + timedelta(days=day, hours=rng.uniform(0.1, 20))
                events.append({"user_id": user, "event_type": "borrowed", "event_time": then, "pages": rng.randint(50, 900)})
                then += timedelta(hours=rng.uniform(1, 3))
                events.append(
                    {"user_id": user, "event_type": "returned", "event_time": then, "days": round(rng.uniform(0, 9), 1)}
                )
    return sorted(events, key=lambda event: event["event_time"])


def test_a_case_of_ones_own_runs_through_the_whole_river(module: Module, tmp_path: Path) -> None:
    river = River(tmp_path / "home", module("library", LIBRARY))
    events = a_month_at_the_library()
    wrong = [{"user_id": "r1", "event_type": "borrowed", "event_time": START, "pages": -1}, {"event_type": "burned"}]
    assert river.job("enrichment-table", "build").outputs == {"rows": 2, "distinct": 2}
    river.send([*events, events[5], events[7]], rows=1_000)
    with river.door("incoming-event-handler") as door:
        assert json.loads(door.post([*wrong, river.case.example]).body)["refused"] == 2
        door.pump()
    river.flow("stream-to-parquet", "enrich-stream", "stream-to-features")
    assert river.lines()["incoming-event-handler", "generated-stream"].duplicate == 2
    assert len(river.rows(DEAD_LETTERS, "incoming-event-handler")) == 2

    trained = river.job("training", "fit")
    assert trained.outputs["auc"] > 0.9
    folder = river.home / "models" / f"churn-{river.case.name}"
    with river.door("serving", folder) as door:
        door.pump()
        answer = json.loads(door.post({"inputs": [{"user_id": "r1"}]}, "/v2/models/churn/infer").body)
    assert len(river.rows(INFERENCE)) == sum(event["event_type"] == "borrowed" for event in events)
    assert 0 < answer["outputs"][0] < 1
    assert_conserved(river, *STEPS)

    reader, table = StateReader(river.case), open_table(FEATURES, river.settings)
    observed = river.observed(ENRICHED)
    assert len(observed) == 300
    for user, history in observed.items():
        wanted = feature_vector(river.case.features, history, max(each.at for each in history))
        state = table.get(user)
        assert state is not None
        got = reader.vector(state)
        assert got is not None
        np.testing.assert_allclose(got, np.array(wanted), rtol=1e-9, equal_nan=True)
    table.close()


# -- what cannot be a case ------------------------------------------------------------------------------------------------


def test_the_cases_that_come_with_the_package_are_found() -> None:
    assert {"casual_game", "first_day"} <= set(names())
    assert "case" not in names()
    for name in names():
        assert load(name).name == name


def test_a_name_that_no_case_has_is_a_sentence() -> None:
    for name in ("retial", "acme_cases.nowhere", "nowhere.at.all"):
        with pytest.raises(UnknownCase, match=f"there is no use case '{name}'; choose one of casual_game, first_day"):
            load(name)


def test_a_module_without_a_case_is_a_sentence(module: Module) -> None:
    with pytest.raises(InvalidDefinition, match=r"the use case module acme_cases\.empty has no CASE = UseCase\(\.\.\.\)"):
        load(module("empty", "CASE = 5\n"))


def test_a_module_that_misses_a_library_says_which(module: Module) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load(module("needy", "import no_such_library\n"))


BAD = [
    ('EventType("returned"', 'EventType("borrowed"', "it needs events, each with its own name"),
    (
        'Field("days"',
        'Field("event_time"',
        "returned.event_time is a name that every event or batch uses already; rename the field",
    ),
    ('Field("days", Kind.NUMBER', 'Field("pages", Kind.WHOLE', "the field pages is whole in returned and number elsewhere"),
    ('"branch", "distance"', '"branch", "age"', "the enrichment writes age, which an event has already"),
    ('Enrichment("joined", "branch"', 'Enrichment("joined", "age"', "the enrichment joins on joined.age, which is no text field"),
    ('Enrichment("joined"', 'Enrichment("left"', "the enrichment joins on left.branch, which is no text field of an event"),
    (
        'Feature("pages"',
        'Feature("event_time"',
        "the feature event_time has a name that every event or batch uses already; rename",
    ),
    ('anchor="joined"', 'anchor="left"', "the anchor is 'left', which is no event of the case: joined, borrowed, returned"),
    ('anchor="joined"', 'anchor="joined", requires="left"', "the required event is 'left', which is no event of the case"),
    ("timedelta(hours=2)", "timedelta(hours=-2)", "the allowed lateness is -1 day, 22:00:00; it cannot be negative"),
    ('Feature("pages"', 'Feature("books"', "feature books is defined twice; give each its own name"),
    ('"borrowed", None, Op.COUNT', '"stolen", None, Op.COUNT', "feature books reads 'stolen', which is no event of the case"),
    (
        '"borrowed", None, Op.COUNT',
        '"borrowed", "pages", Op.COUNT',
        "feature books is a count, which reads no field; leave 'pages' out",
    ),
    (
        '"borrowed", "pages", Op.SUM',
        '"borrowed", None, Op.SUM',
        "feature pages takes the sum of no field; name the field it reads",
    ),
    (
        '"borrowed", "pages", Op.SUM',
        '"borrowed", "days", Op.SUM',
        "feature pages reads borrowed.days, which is no number field of that event",
    ),
    (
        '"joined", "age", "years"',
        '"joined", "branch", "years"',
        "feature age reads joined.branch, which is no number field of that event",
    ),
    (
        'anchor="joined",\n',
        "",
        "feature books counts from an anchor, and the table names none",
    ),
    (
        "Op.SUM, First(WEEK)",
        "Op.LAST_AT, Lifetime()",
        "feature pages is a last_at, which needs a window from the anchor",
    ),
    (
        'Field("pages", Kind.NUMBER',
        'Field("pages", Kind.NUMBER, required=False',
        "feature pages reads borrowed.pages, which is no number field",
    ),
    ('SilenceLabel("borrowed"', 'SilenceLabel("stolen"', "'stolen' is no event of the case: joined, borrowed, returned"),
    ('serving_events=("borrowed",)', 'serving_events=("stolen",)', "'stolen' is no event of the case"),
    ('identity=("user_id"', 'identity=("shelf"', "its identity names 'shelf', which no event has"),
    ('identity=("user_id"', 'slices=("shelf",), identity=("user_id"', "its slices name 'shelf'; a slice is a field of an event"),
    ('SilenceLabel("borrowed", timedelta(days=7))', 'StatedLabel("stolen", "age", WEEK)', "no event of the case"),
    (
        'SilenceLabel("borrowed", timedelta(days=7))',
        'StatedLabel("joined", "age", WEEK)',
        "feature age reads joined.age, which is no number",
    ),
    (
        'SilenceLabel("borrowed", timedelta(days=7))',
        'StatedLabel("borrowed", "late", WEEK)',
        "the label field late must be a whole number",
    ),
    (
        'SilenceLabel("borrowed", timedelta(days=7))',
        'StatedLabel("returned", "branch", WEEK)',
        "the label field branch must be a whole number",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "sentence"), BAD)
def test_a_wrong_definition_fails_while_it_loads(module: Module, right: str, wrong: str, sentence: str) -> None:
    assert right in LIBRARY
    text = LIBRARY.replace(right, wrong).replace("SilenceLabel, UseCase", "SilenceLabel, StatedLabel, UseCase")
    name = module("wrong", text)
    with pytest.raises(InvalidDefinition) as caught:
        load(name)
    assert str(caught.value).startswith("use case library: ")
    assert sentence in str(caught.value)


def test_no_features_at_all_are_a_sentence(module: Module) -> None:
    start, end = LIBRARY.index("        features=(\n"), LIBRARY.index("    label=")
    text = LIBRARY[:start] + "        features=(),\n    ),\n" + LIBRARY[end:]
    with pytest.raises(InvalidDefinition, match="use case library: a case needs at least one feature"):
        load(module("bare", text))
