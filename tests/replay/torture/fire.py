"""The killing: a deck of deeds, shuffled by a seed, each of which ends at least one process by SIGKILL."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from churnstream import failpoints
from tests.replay.torture.posting import Client
from tests.replay.torture.river import RIVER, Producer, River

FAILPOINT, WORKER, NURSERY, SUPERVISOR, GENERATOR = "at a failpoint", "a worker", "the nursery", "the supervisor", "the generator"
SHARES = {FAILPOINT: 0.45, NURSERY: 0.01, SUPERVISOR: 0.005, GENERATOR: 0.005}  # of all kills; workers are the rest
DEAR = ("deploy.before-start", "deploy.before-answer")  # which end the supervisor, and all that runs under it
DEAR_SHARE = 0.011
STARTING = 0.1  # of the workers are killed while they may not be ready yet
MOST_ARMED = 3  # failpoints at a time, while other kills go on
AGAIN_S = 30.0  # until what reaches a failpoint is done once more; a worker must have the time to come back
PATIENCE_S = 300.0  # without any kill, and the run has failed
LONGEST_PAUSE_S = 0.15
LAST_PART = 0.05  # of the events is kept for the last kills
FEATURES, RESTORE = "stream-to-features", "features.in-restore"


def deck(kills: int, rng: random.Random) -> list[str]:
    """So many deeds in a random order: each kind and each failpoint at least once, and of 1,000 each failpoint eleven times."""
    deeds = [kind for kind, share in SHARES.items() for _ in range(max(1, round(share * kills))) if kind != FAILPOINT]
    deeds += [name for name in DEAR for _ in range(max(1, round(DEAR_SHARE * kills)))]
    others = [name for name in failpoints.NAMES if name not in DEAR]
    at_others = min(max(len(others), round(SHARES[FAILPOINT] * kills)), kills - len(deeds))
    deeds += [others[place % len(others)] for place in range(at_others)]
    deeds += [WORKER] * (kills - len(deeds))
    rng.shuffle(deeds)
    return deeds


class Fire:
    """Works off a deck on a river; ``kills`` counts by kind, ``in_vain`` those that found nobody to kill."""

    def __init__(self, river: River, producer: Producer, posting: Sequence[Client], rng: random.Random):
        self._river, self._producer, self._posting, self._rng = river, producer, posting, rng
        self._deploying: dict[str, threading.Thread] = {}
        self._armed: dict[str, float] = {}  # failpoint -> when it was last seen to that somebody reaches it
        self.kills: Counter[str] = Counter()
        self.in_vain = 0

    def work_off(self, deeds: list[str], total: int, step: Callable[[int], object]) -> None:
        """Do every deed while up to ``total`` events flow; ``step(n)`` is told of n more that are done.

        Raises TimeoutError when for long nothing could be killed.
        """
        left, fed, last = list(deeds), 0.0, time.monotonic()
        while left or self._armed:
            fed += max(1.0, (total * (1 - LAST_PART) - fed) / (4 * (len(left) + len(self._armed))))
            self._producer.feed(min(int(fed), total))
            for each in self._posting:
                each.allow(fed / total)
            done = self._look_at_the_armed()
            if left:
                deed = left.pop()
                if deed in failpoints.NAMES:
                    if not self._arm(deed):
                        left.insert(self._rng.randint(0, len(left)), deed)
                elif self._kill_one(deed):
                    done += 1
                else:
                    self.in_vain += 1
                    left.insert(self._rng.randint(0, len(left)), deed)
            if done:
                step(done)
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE_S:
                raise TimeoutError(f"nobody was killed for {PATIENCE_S:g} s; armed: {', '.join(self._armed) or 'nothing'}")
            time.sleep(self._rng.uniform(0, LONGEST_PAUSE_S))
            self._producer.heal()
            self._river.heal()
        for deploying in self._deploying.values():
            deploying.join()

    def _kill_one(self, deed: str) -> bool:
        match deed:
            case "the nursery":
                pid = self._river.nursery()
            case "the supervisor":
                pid = self._river.supervisor()
            case "the generator":
                pid = self._producer.pid
            case _:
                name, ready = self._rng.choice(RIVER), self._rng.random() > STARTING
                pid = self._rng.choice(self._river.workers(name, ready) or [None])
        done = self._kill(pid)
        self.kills[deed] += done
        return done

    def _kill(self, pid: int | None) -> bool:
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _arm(self, name: str) -> bool:
        if name in self._armed or len(self._armed) >= MOST_ARMED:
            return False
        failpoints.arm(self._river.failpoints, name)
        self._provoke(name)
        return True

    def _look_at_the_armed(self) -> int:
        """How many were hit since the last look."""
        hit = [name for name in self._armed if not (self._river.failpoints / name).exists()]
        for name in hit:
            del self._armed[name]
        self.kills[FAILPOINT] += len(hit)
        for name in [each for each, since in self._armed.items() if time.monotonic() - since > AGAIN_S]:
            self._provoke(name)
            if name == RESTORE and not any(each.startswith("features.") for each in self._armed if each != RESTORE):
                for pid in self._river.workers(FEATURES):  # whom no other kill has met for long
                    self.kills[WORKER] += self._kill(pid)
        return len(hit)

    def _provoke(self, name: str) -> None:
        """Most are reached by any event; these only when something is deployed."""
        self._armed[name] = time.monotonic()
        if name.startswith("deploy.") and (name not in self._deploying or not self._deploying[name].is_alive()):
            self._deploying[name] = threading.Thread(target=self._river.redeploy, args=(self._rng.choice(RIVER),))
            self._deploying[name].start()
