"""The door is measured over events that all come in."""

import json

import pytest

from churnstream.codecs import EventDecoder, encode_json
from churnstream.usecases import first_day
from tests.bench.door import compare, simple, with_registrations


def test_everyone_is_measured_over_the_same_events(capsys: pytest.CaptureFixture[str]) -> None:
    bodies = [encode_json(simple(500, 20)), encode_json(simple(500, 20))]
    compare("a few", 1_000, bodies, runs=1)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["who"] for each in told] == ["msgspec", "the judge", "the door", "the stage"]
    assert all(each["events"] == 1_000 and each["events_per_s"] > 0 for each in told)


@pytest.mark.parametrize("world", [simple, with_registrations])
def test_nothing_that_is_measured_is_refused(world: object) -> None:
    decoded = EventDecoder(first_day.CASE).decode(encode_json(world(400, 20)))  # type: ignore[operator]
    assert (decoded.batch.num_rows, decoded.refused) == (400, ())
