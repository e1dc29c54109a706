"""The deployed functions of a home: deployed, resumed, scaled, deleted, looked at and stopped, each by itself."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from churnstream import topology
from churnstream.errors import ChurnstreamError, UnknownFunction
from churnstream.local.births import Births
from churnstream.local.deployment import Deployment
from churnstream.local.home import Home
from churnstream.local.metrics import counted, metrics_folder, page
from churnstream.local.replica import STOPPED
from churnstream.local.specification import Specification
from churnstream.local.standings import Standings, states

ORDER = {function.name: place for place, function in enumerate(topology.FUNCTIONS)}
STOP_S = 15.0  # for one function to finish what it has in hand
log = logging.getLogger("supervisor")


class Deployments:
    """What the supervisor of a home keeps alive."""

    def __init__(self, home: Home, births: Births):
        self._home = home
        self._births = births
        self._deployments: dict[tuple[str, str], Deployment] = {}
        self._changing: dict[tuple[str, str], asyncio.Lock] = {}
        self._standings = Standings(home)

    async def resume(self) -> None:
        """Start what the home holds."""
        await asyncio.gather(*(self._resume(project, name) for project, name in self._home.specs()))

    async def deploy(self, specification: Specification) -> dict[str, Any]:
        """Start a function, or replace it; returns its state when it is ready or in error."""
        async with self._alone(specification.project, specification.name) as key:
            before, listener = self._deployments.get(key), None
            if before is not None and before.state != STOPPED:
                forced, listener = await before.hand_over(timedelta(seconds=STOP_S))
                _warn(forced)
            port = before.specification.port if before is not None else self._last_port(*key)
            deployment = Deployment(specification.at(port).stamped(), self._home, self._births, listener)
            self._deployments[key] = deployment
            await deployment.start()
            log.info("%s/%s was deployed and is %s", *key, deployment.state)
            return deployment.status()

    def state(self, project: str, name: str) -> dict[str, Any]:
        """The function's state; raises UnknownFunction."""
        found = self._deployments.get((project, name))
        if found is None:
            raise UnknownFunction(f"no function {name!r} of the project {project!r} is deployed here")
        return found.status()

    async def scale(self, project: str, name: str, workers: int) -> dict[str, Any]:
        """Serve a function with so many workers from now on; returns its state when they share its shards.

        Raises UnknownFunction, InvalidFunction for a number that makes no sense, and PlatformFailed when it is not running.
        """
        async with self._alone(project, name) as key:
            self.state(project, name)
            await self._deployments[key].scale(workers)
            log.info("%s/%s has %d workers now", *key, workers)
            return self._deployments[key].status()

    async def delete(self, project: str, name: str) -> None:
        """Stop a function and forget it; its streams stay. Raises UnknownFunction."""
        async with self._alone(project, name) as key:
            self.state(project, name)
            if self._deployments[key].state != STOPPED:
                _warn(await self._deployments[key].stop(timedelta(seconds=STOP_S)))
            del self._deployments[key]
            self._home.spec(project, name).unlink(missing_ok=True)
            log.info("%s/%s was deleted", *key)

    async def status(self) -> dict[str, Any]:
        """Every function's state and what its streams hold for it."""
        deployments = sorted(self._deployments.values(), key=_upstream_first)
        reports = await asyncio.gather(*(each.report() for each in deployments))
        return {
            "running": True,
            "pid": os.getpid(),
            "home": str(self._home.root),
            "functions": [{**each.status(), **report} for each, report in zip(deployments, reports, strict=True)],
        }

    async def metrics(self) -> bytes:
        """Everything that there is to know, of all functions and of this platform, as Prometheus reads it."""
        deployments = list(self._deployments.values())
        told = states([each.status() for each in deployments], self._home)
        return await asyncio.to_thread(self._page, [each.specification for each in deployments], told)

    def _page(self, specifications: list[Specification], told: list[Any]) -> bytes:
        folders = [metrics_folder(self._home, each.project, each.name) for each in specifications]
        return page([*told, *counted(folders), *self._standings.of(specifications)])

    async def stop(self, drain: timedelta) -> list[str]:
        """Stop everything, upstream first; returns a sentence for each thing that was left unfinished."""
        deployments = sorted(self._deployments.values(), key=_upstream_first)
        clock = asyncio.get_running_loop().time
        end = clock() + drain.total_seconds()
        unfinished: list[str | None] = []
        for each in deployments:  # each can be through only after those that it reads from
            seconds = max(0.0, end - clock())
            sentence = await each.drain(timedelta(seconds=seconds)) if seconds and each.pid is not None else None
            unread = [_unread(each.specification.name, stream) for stream in (await each.report())["streams"] if stream["lag"]]
            unfinished += unread or [sentence]
        unfinished += await asyncio.gather(*(each.stop(timedelta(seconds=STOP_S)) for each in deployments))
        await self._births.close()
        return [sentence for sentence in unfinished if sentence]

    async def _resume(self, project: str, name: str) -> None:
        try:
            specification = Specification.load(self._home.spec(project, name))
            async with self._alone(project, name) as key:
                deployment = self._deployments[key] = Deployment(specification, self._home, self._births)
                await deployment.start(forgiving=True)
        except ChurnstreamError as cause:
            log.error("%s/%s does not come back: %s", project, name, cause)

    def _last_port(self, project: str, name: str) -> int:
        path = self._home.spec(project, name)
        with contextlib.suppress(ChurnstreamError):
            return Specification.load(path).port if path.exists() else 0
        return 0

    @contextlib.asynccontextmanager
    async def _alone(self, project: str, name: str) -> AsyncIterator[tuple[str, str]]:
        key = (project, name)
        async with self._changing.setdefault(key, asyncio.Lock()):
            yield key


def _warn(sentence: str | None) -> None:
    if sentence:
        log.warning("%s", sentence)


def _upstream_first(deployment: Deployment) -> tuple[int, str]:
    name = deployment.specification.name
    return ORDER.get(name, len(ORDER)), deployment.specification.deployed_at


def _unread(name: str, stream: dict[str, Any]) -> str:
    return f"{name} has not read all of {stream['stream']} (records left: {stream['lag']}); they stay there"
