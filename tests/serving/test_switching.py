"""Following a champion: whoever asks meanwhile is answered by the one or by the other, and by nobody else."""

import threading

import pytest

from churnstream.certificate.every_window import CASE
from churnstream.errors import InvalidModel
from churnstream.serving.arms import CANARY, Arm
from churnstream.serving.lookup import Customers
from churnstream.serving.rollout import Rollout
from churnstream.serving.scoring import Scorer
from churnstream.serving.served import ServedModel
from churnstream.serving.switching import Follower
from tests.serving.small_models import TABLE, scorer, vectors
from tests.serving.test_lookup import NOW, Clock, Table
from tests.waiting import wait_until

VERSIONS = {scorer(seed).manifest.version: seed for seed in (1, 2, 3)}
ROW = vectors(1).tolist()
GIVEN = [None if value != value else value for value in ROW[0]]
NAMED = dict(zip(TABLE.names, GIVEN, strict=True))


class Pointer:
    """Names the champion."""

    def __init__(self, seed: int):
        self.version: str | None = scorer(seed).manifest.version

    def __call__(self) -> str | None:
        return self.version


def load(version: str) -> Scorer:
    if version not in VERSIONS:
        raise InvalidModel(f"there is no {version}")
    found = scorer(VERSIONS[version])
    return Scorer(found.booster, found.manifest)  # with buffers of its own, as if read from a disk


def served() -> ServedModel:
    rollout = Rollout(load(scorer(1).manifest.version), [Arm(scorer(3), CANARY, 0.3)])
    return ServedModel("churn", TABLE, rollout, Customers(CASE, Table({}), Clock(NOW)))


def test_requests_under_way_are_all_answered_while_the_champion_changes() -> None:
    model, pointer, threads = served(), Pointer(1), threading.active_count()
    expected = {version: scorer(seed).score(ROW) for version, seed in VERSIONS.items()}

    def take(found: Scorer) -> None:
        model.rollout = model.rollout.with_champion(found)

    follower = Follower(scorer(1).manifest.version, pointer, load, take, every_s=0.0005)
    follower.start()
    answers: dict[str, int] = {}
    try:
        for _ in range(10):
            for seed in (2, 1):
                pointer.version = scorer(seed).manifest.version
                for place in range(150):
                    answer = model.infer({"inputs": [GIVEN if place % 2 else {"user_id": f"x{place}", **NAMED}]})
                    assert answer["outputs"] == expected[answer["model_version"]]
                    answers[answer["model_version"]] = answers.get(answer["model_version"], 0) + 1
                wait_until(lambda want=pointer.version: model.rollout.champion.version == want, "the switch")
    finally:
        follower.stop()
    assert sum(answers.values()) == 3_000
    assert {scorer(1).manifest.version, scorer(2).manifest.version} <= set(answers)
    assert threading.active_count() <= threads


def test_a_champion_that_cannot_be_loaded_is_said_once_and_the_other_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[Scorer] = []
    pointer = Pointer(1)
    follower = Follower(scorer(1).manifest.version, pointer, load, taken.append)
    assert not follower.look()
    pointer.version = "0123456789ab"
    assert not follower.look()
    assert not follower.look()
    assert [each.message for each in caplog.records] == [
        f"the champion 0123456789ab is not served, {scorer(1).manifest.version} goes on: there is no 0123456789ab"
    ]
    pointer.version = scorer(2).manifest.version
    assert follower.look()
    assert [each.manifest.version for each in taken] == [pointer.version]


def test_a_registry_without_a_champion_changes_nothing() -> None:
    taken: list[Scorer] = []
    pointer = Pointer(1)
    pointer.version = None
    assert not Follower("anything", pointer, load, taken.append).look()
    assert not taken
