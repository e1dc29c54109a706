"""Makes a rollback hold in every worker, and after a restart: writes down whom this one sends away, and follows the others."""

import logging
from collections.abc import Callable
from datetime import datetime

from churnstream.errors import ChurnstreamError
from churnstream.models.withdrawals import Withdrawals
from churnstream.serving.arms import SHADOW, Arm
from churnstream.serving.looking import LOOK_S, Looking
from churnstream.serving.rollout import Rollout

log = logging.getLogger("rollout")


class Withdrawing(Looking):
    """Keeps the candidates of ``rollout()`` as ``withdrawals`` has them. Shadows answer nobody, and listen on.

    ``wake`` it when a candidate was rolled back here, and the others know within a second. Where nothing can be written, it is
    rolled back here all the same, and tried again; that is said once.
    """

    def __init__(
        self,
        rollout: Callable[[], Rollout],
        withdrawals: Withdrawals,
        clock: Callable[[], datetime],
        every_s: float = LOOK_S,
    ):
        super().__init__("withdrawals", every_s)
        self._rollout, self._withdrawals, self._clock = rollout, withdrawals, clock
        self._said = ""

    def look(self) -> bool:
        """Look once; True when a candidate was withdrawn or readmitted here, or one of here for everybody."""
        try:
            changed = self._look()
        except Exception as cause:  # whatever it is, customers are answered, and looking goes on
            if str(cause) != self._said:
                unexpected = None if isinstance(cause, ChurnstreamError) else cause
                log.error("rollbacks are known to this worker only: %s", cause, exc_info=unexpected)
            self._said = str(cause)
            return False
        self._said = ""
        return changed

    def stop(self) -> None:
        """Look no longer; what was found out at the very end is written down all the same."""
        super().stop()
        self.look()

    def _look(self) -> bool:
        rollout = self._rollout()
        candidates = [each for each in rollout.candidates if each.role != SHADOW]
        found = [self._write_down(each) for each in candidates if each.stopped and each.of_its_own]
        withdrawn = self._withdrawals.all()
        for arm in candidates:
            told = withdrawn.get(arm.version)
            if told is not None and not arm.stopped:
                log.warning("the %s %s is withdrawn: %s", arm.role, arm.version, told.reason)
                rollout.withdraw(arm, told.reason)
            elif told is None and arm.stopped and not arm.of_its_own:
                log.warning("the %s %s answers its customers again", arm.role, arm.version)
                rollout.readmit(arm)
            else:
                continue
            found.append(True)
        rollout.review()  # which another thread may have put in place meanwhile
        return any(found)

    def _write_down(self, arm: Arm) -> bool:
        first = self._withdrawals.withdraw(arm.version, arm.role, arm.stopped, self._clock())
        arm.of_its_own = False  # it is everybody's
        return first
