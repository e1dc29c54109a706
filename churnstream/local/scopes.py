"""What a token opens: a home has one token a scope, each in a file of its own that only its owner can read."""

from collections.abc import Mapping
from typing import Literal

from churnstream import topology

Scope = Literal["ingest", "infer", "operate"]

SCOPES: tuple[Scope, ...] = ("ingest", "infer", "operate")
OPENS: Mapping[Scope, str] = {
    "ingest": "the door through which events come in",
    "infer": "the door at which predictions are asked for",
    "operate": "every door",
}


def scope_of(function: str) -> Scope:
    """What the HTTP door of a deployed function asks for; ``operate`` for one that the topology does not know."""
    known = {each.name: each.scope for each in topology.FUNCTIONS}
    return known.get(function, "operate")


def opens(held: Scope, asked: Scope) -> bool:
    """Whether a token of the scope ``held`` opens a door that asks for ``asked``; the operator's opens all."""
    return held in (asked, "operate")
