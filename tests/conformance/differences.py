"""Where our worker and Nuclio differ and stay so. Each difference has a name, and a line with its reason in docs/nuclio.md."""

from typing import Literal, get_args

Driver = Literal["worker", "wrapper", "processor"]
DRIVERS: tuple[Driver, ...] = get_args(Driver)
OURS, WRAPPER, PROCESSOR = DRIVERS

Difference = Literal[
    "traceback",
    "generator",
    "empty list",
    "header of a number",
    "one at a time",
    "drain before the end",
    "a record's headers, path and trigger",
    "timestamp",
    "tick",
    "body above the limit",
]
DIFFERENCES: tuple[Difference, ...] = get_args(Difference)
