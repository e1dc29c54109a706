"""Follows the champion of a registry: looks at its pointer in the background, loads what is new, and puts it in place at once."""

import logging
from collections.abc import Callable

from churnstream.errors import ChurnstreamError
from churnstream.serving.looking import LOOK_S, Looking
from churnstream.serving.scoring import Scorer

log = logging.getLogger("switching")


class Follower(Looking):
    """A thread that keeps what is served equal to what ``champion()`` names.

    ``load(version)`` makes a model ready, away from whoever is answering requests; ``take(scorer)`` puts it in its place. What
    cannot be loaded is said once, and the model that is there goes on. ``versions`` are compared as text.
    """

    def __init__(
        self,
        serving: str,
        champion: Callable[[], str | None],
        load: Callable[[str], Scorer],
        take: Callable[[Scorer], None],
        every_s: float = LOOK_S,
    ):
        super().__init__("champion", every_s)
        self._serving, self._champion, self._load, self._take = serving, champion, load, take
        self._refused = self._said = ""

    def look(self) -> bool:
        """Look once; True when another model was put in place."""
        version = ""
        try:
            version = self._champion() or ""
            if not version or version in (self._serving, self._refused):
                return False
            scorer = self._load(version)
            scorer.score([[0.0] * len(scorer.manifest.features)])  # the first prediction is the slowest
            self._take(scorer)
        except Exception as cause:  # whatever it is, the model that is there goes on, and so does looking
            said = f"{version}: {cause}"
            if said != self._said:
                unexpected = None if isinstance(cause, ChurnstreamError) else cause
                log.error("the champion %s is not served, %s goes on: %s", version, self._serving, cause, exc_info=unexpected)
            self._said, self._refused = said, version
            return False
        log.info("the champion %s is served; it was %s", version, self._serving)
        self._serving, self._refused = version, ""
        return True
