"""Follows the champion of a registry: looks at its pointer in the background, loads what is new, and puts it in place at once."""

import logging
import threading
from collections.abc import Callable

from churnstream.errors import ChurnstreamError
from churnstream.serving.scoring import Scorer

LOOK_S = 1.0
log = logging.getLogger("switching")


class Follower:
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
        self._serving, self._champion, self._load, self._take, self._every = serving, champion, load, take, every_s
        self._refused = self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer; returns when nothing is being loaded any more."""
        self._stop.set()
        self._thread.join()

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

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.look()
