"""`churnstream models withdraw` and `readmit`: whether a canary or a variant may answer customers, in every worker."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from churnstream.cli.common import Case, case_settings, console, sentences
from churnstream.local import Home

if TYPE_CHECKING:
    from churnstream.models.registry import Registry
    from churnstream.models.withdrawals import Withdrawals

Version = Annotated[str, typer.Argument(help="its version, or how it begins, as `churnstream models list` shows it")]
WHOLE = re.compile(r"[0-9a-f]{12,64}")  # a version in full: that of a candidate that never was in the registry


def withdraw(
    version: Version,
    reason: Annotated[str, typer.Option(help="why, for the history")],
    case: Case = None,
) -> None:
    """Let a canary or a variant answer nobody any more, as if it had been rolled back; the champion answers its customers.

    Every worker follows within a second or two, and so does every later deployment of the same model. Shadows listen on.
    """
    with sentences():
        from churnstream.wiring import open_registry, open_withdrawals

        settings = case_settings(Home.find(), case)
        chosen = _chosen(open_registry(settings), version)
        if open_withdrawals(settings).withdraw(chosen, "", reason, datetime.now(UTC)):
            _say(f"{chosen} answers nobody as a candidate until it is readmitted.")
        else:
            _say(f"{chosen} is withdrawn already: {open_withdrawals(settings).all()[chosen].reason}.")


def readmit(
    version: Version,
    case: Case = None,
    reason: Annotated[str, typer.Option(help="why, for the history")] = "asked for",
) -> None:
    """Let a candidate that was withdrawn, or rolled back, answer its customers again; what was held against it is forgotten."""
    with sentences():
        from churnstream.wiring import open_withdrawals

        withdrawals = open_withdrawals(case_settings(Home.find(), case))
        told = withdrawals.readmit(withdrawals.resolve(version), reason, datetime.now(UTC))
        _say(f"{told.version} may answer customers again. It had been withdrawn: {told.reason}.")


def deeds(registry: "Registry", withdrawals: "Withdrawals") -> list[str]:
    """A line for each promotion, rollback, withdrawal and return, the oldest first."""
    told = [(each.at, each.version, each.deed, ", by force" * each.forced, each.reason) for each in registry.history()]
    gone = withdrawals.history()
    told += [(each.at, each.version, each.deed, f" as a {each.role}" * bool(each.role), each.reason) for each in gone]
    return [f"{at:%Y-%m-%d %H:%M:%S} {version} {deed}{how}: {reason}" for at, version, deed, how, reason in sorted(told)]


def _chosen(registry: "Registry", version: str) -> str:
    known = any(each.version.startswith(version) for each in registry.versions())
    return registry.resolve(version) if known or not WHOLE.fullmatch(version) else version


def _say(sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
