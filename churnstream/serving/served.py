"""A model as it is served: a question about customers goes in, an answer of the Open Inference Protocol comes out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from churnstream.errors import BadRequest, UnknownModel
from churnstream.features.definitions import FeatureTable
from churnstream.serving.arms import Arm, Scored
from churnstream.serving.explaining import Explanation, explain
from churnstream.serving.lookup import Customers
from churnstream.serving.requests import USER, Asked, Known, read_request
from churnstream.serving.rollout import Rollout
from churnstream.serving.tensors import DOUBLE, TEXT
from churnstream.serving.wishes import (
    AGE,
    AS_OF,
    CHURNS,
    CONTRIBUTIONS,
    MARGIN,
    PLAIN,
    PROBABILITY,
    REASONS,
    TYPES,
    VERSION,
    Wishes,
)

TOLD_REASONS = 3

Recorder = Callable[[Asked, Scored], None]


@dataclass
class ServedModel:
    """One model of a router, by ``name``. ``rollout`` is put in its place as a whole, so that no request sees half of a switch.

    ``record`` is told what shadows said.
    """

    name: str
    features: FeatureTable
    rollout: Rollout
    customers: Customers
    record: Recorder | None = None
    names: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = self.features.names

    def versions(self) -> list[str]:
        """Every version that can be asked, the champion first."""
        return list(dict.fromkeys(each.version for each in self.rollout.arms()))

    def arm(self, version: str) -> Arm:
        """Who serves ``version``; raises UnknownModel."""
        for each in self.rollout.arms():
            if each.version == version:
                return each
        raise UnknownModel(f"{self.name} has no version {version!r} here; it has {', '.join(self.versions())}")

    def infer(self, body: Any, version: str = "", explain: bool = False) -> dict[str, Any]:
        """Answer one request; raises BadRequest, UnknownCustomer or UnknownModel.

        Rows are answered with a list of probabilities, tensors, and whoever names outputs, with tensors.
        """
        if not isinstance(body, dict):
            return self._answer(read_request(body, self.names, self.customers), PLAIN, version, None)
        wishes = Wishes.read(body, explain)
        told = body.get("id")
        if told is not None and not isinstance(told, str):
            raise BadRequest("the id of a request is a text")
        as_of = wishes.as_of
        lookup = self.customers if as_of is None else lambda user: self.customers.at(user, as_of)
        return self._answer(read_request(body, self.names, lookup), wishes, version, told)

    def score(self, asked: Asked, version: str = "") -> Scored:
        """Probabilities; ``version`` names who gives them, otherwise the customer decides."""
        if version:
            arm = self.arm(version)
            return Scored(arm.scorer.score(asked.rows), arm)
        scored = self.rollout.score(asked.rows, asked.users)
        if scored.shadowed and self.record is not None:
            self.record(asked, scored)
        return scored

    def _answer(self, asked: Asked, wishes: Wishes, version: str, told: str | None) -> dict[str, Any]:
        scored = self.score(asked, version)
        answer: dict[str, Any] = {} if told is None else {"id": told}
        answer["model_name"] = self.name
        if scored.arms is None:
            answer["model_version"] = scored.champion.version
        else:
            versions = [each.version for each in scored.arms]
            answer["model_version"] = versions[0]
            if len(set(versions)) > 1:
                answer["parameters"] = {"model_versions": ",".join(versions)}
        if asked.tensors or wishes.outputs:
            answer["outputs"] = self._tensors(asked, scored, wishes)
            return answer
        answer["outputs"] = scored.probabilities
        answer["churns"] = self._churns(scored)
        if asked.looked_up:
            answer[AS_OF] = [each and each.as_of for each in asked.found]
            answer[AGE] = [each and _age(each) for each in asked.found]
        if wishes.explain:
            answer["explanations"] = [self._told(each) for each in self._explained(asked, scored)]
        return answer

    def _churns(self, scored: Scored) -> list[bool]:
        if scored.arms is None:
            threshold = scored.champion.scorer.manifest.threshold
            return [each >= threshold for each in scored.probabilities]
        return [arm.decides(each) for arm, each in zip(scored.arms, scored.probabilities, strict=True)]

    def _explained(self, asked: Asked, scored: Scored) -> list[Explanation]:
        if scored.arms is None:
            return explain(scored.champion.scorer, self.features, asked.rows)
        return [explain(arm.scorer, self.features, [row])[0] for arm, row in zip(scored.arms, asked.rows, strict=True)]

    def _told(self, each: Explanation) -> dict[str, Any]:
        contributions = dict(zip(self.names, each.contributions, strict=True))
        return {"margin": each.margin, "base": each.base, "contributions": contributions, "reasons": each.reasons}

    def _tensors(self, asked: Asked, scored: Scored, wishes: Wishes) -> list[dict[str, Any]]:
        names = wishes.outputs or (
            PROBABILITY,
            CHURNS,
            *((AGE, AS_OF) if asked.looked_up else ()),
            *((MARGIN, CONTRIBUTIONS, REASONS) if wishes.explain else ()),
        )
        explained = self._explained(asked, scored) if wishes.explain else []
        rows = len(asked.rows)
        tensors = []
        for name in names:
            data = self._column(name, asked, scored, explained)
            wide = len(data) // rows
            shape = [rows] if wide == 1 else [rows, wide]
            tensors.append({"name": name, "datatype": TYPES[name], "shape": shape, "data": data})
        return tensors

    def _column(self, name: str, asked: Asked, scored: Scored, explained: Sequence[Explanation]) -> list[Any]:
        """One value a row, or several, row after row."""
        if name == PROBABILITY:
            return scored.probabilities
        if name == CHURNS:
            return self._churns(scored)
        if name == VERSION:
            return [scored.arm(place).version for place in range(len(asked.rows))]
        if name in (AGE, AS_OF):
            if not all(asked.found):
                raise BadRequest(f"{name} was asked for, and not every row was looked up; ask by user_id")
            return [_age(each) if name == AGE else each.as_of.isoformat() for each in asked.found if each]
        if name == MARGIN:
            return [each.margin for each in explained]
        if name == CONTRIBUTIONS:
            return [value for each in explained for value in (*each.contributions, each.base)]
        return [text for each in explained for text in (*each.reasons, *[""] * (TOLD_REASONS - len(each.reasons)))]

    def metadata(self) -> dict[str, Any]:
        """The protocol's description of the model."""
        manifest = self.rollout.champion.scorer.manifest
        wide = len(self.names)
        inputs = [
            {"name": "features", "datatype": DOUBLE, "shape": [-1, wide]},
            {"name": USER, "datatype": TEXT, "shape": [-1]},
            *({"name": name, "datatype": DOUBLE, "shape": [-1]} for name in self.names),
        ]
        shapes = {CONTRIBUTIONS: [-1, wide + 1], REASONS: [-1, TOLD_REASONS]}
        return {
            "name": self.name,
            "versions": self.versions(),
            "platform": "lightgbm",
            "inputs": inputs,
            "outputs": [{"name": name, "datatype": kind, "shape": shapes.get(name, [-1])} for name, kind in TYPES.items()],
            "parameters": {
                "features": list(self.names),
                "units": {each.name: each.unit for each in self.features.features},
                "fingerprint": manifest.fingerprint,
                "threshold": manifest.threshold,
                "label": manifest.label,
                "staleness_s": self.customers.staleness.total_seconds(),
                "cached_customers": self.customers.most,
            },
        }

    def report(self) -> dict[str, Any]:
        """What the champion and its candidates did so far, in this process."""
        return {"model": self.name, "arms": [each.report() for each in self.rollout.arms()]}


def _age(found: Known) -> float:
    return found.age.total_seconds()


def shadow_rows(asked: Asked, scored: Scored, now: datetime) -> list[dict[str, Any]]:
    """What shadows said, a row each: user_id (empty where none was named), event_time, probability, churns, model.

    ``event_time`` is the instant of the features, ``now`` where they came with the request.
    """
    return [
        {
            USER: asked.users[each.place] or "",
            "event_time": known.as_of if (known := asked.found[each.place]) else now,
            PROBABILITY: each.probability,
            CHURNS: each.arm.decides(each.probability),
            "model": each.arm.version,
        }
        for each in scored.shadowed
    ]
