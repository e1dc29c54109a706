"""The supervisor's HTTP side; every route but ``/-/live`` asks for the home's token."""

import asyncio
import json
from datetime import timedelta
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churnstream.errors import ChurnstreamError, UnknownFunction
from churnstream.local.guard import Guard, Receive, Send, refuse
from churnstream.local.specification import Specification

LIVE = "/-/live"


class Supervises(Protocol):
    """What the control side needs of a supervisor."""

    async def deploy(self, specification: Specification) -> dict[str, Any]: ...
    def state(self, project: str, name: str) -> dict[str, Any]: ...
    async def scale(self, project: str, name: str, workers: int) -> dict[str, Any]: ...
    async def delete(self, project: str, name: str) -> None: ...
    async def status(self) -> dict[str, Any]: ...
    async def stop(self, drain: timedelta) -> list[str]: ...


class Control:
    """Routes requests to the supervisor; ``stop`` is set after the answer to ``/down``."""

    def __init__(self, supervisor: Supervises, token: str, stop: asyncio.Event):
        self._supervisor = supervisor
        self._guard = Guard(token)
        self._stop = stop
        self.stopped = False
        path = "/functions/{project}/{name}"
        self._routes = Starlette(
            routes=[
                Route(LIVE, lambda request: Response()),
                Route("/status", self._status),
                Route("/down", self._down, methods=["POST"]),
                Route(path, self._deploy, methods=["PUT"]),
                Route(path, self._state, methods=["GET"]),
                Route(path, self._delete, methods=["DELETE"]),
                Route(f"{path}/workers", self._scale, methods=["PUT"]),
            ],
            exception_handlers={
                UnknownFunction: _sentence(404),
                ChurnstreamError: _sentence(400),
                HTTPException: _sentence(None),
                Exception: _sentence(500),
            },
        )

    async def application(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "http" and scope["path"] != LIVE and not self._guard.admits(scope["headers"]):
            await refuse(send)
        else:
            await self._routes(scope, receive, send)

    async def _status(self, request: Request) -> Response:
        return JSONResponse(await self._supervisor.status())

    async def _deploy(self, request: Request) -> Response:
        if self.stopped:
            return JSONResponse({"message": "the supervisor is stopping; deploy once more"}, 503)
        project, name = _named(request)
        given = json.loads(await request.body())
        specification = Specification(project, name, given["function"], given.get("folder", ""))
        return JSONResponse(await self._supervisor.deploy(specification))

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self._supervisor.state(*_named(request)))

    async def _scale(self, request: Request) -> Response:
        try:
            workers = int(json.loads(await request.body())["workers"])
        except (ValueError, TypeError, KeyError):
            return JSONResponse({"message": 'say how many workers there should be: {"workers": 2}'}, 400)
        return JSONResponse(await self._supervisor.scale(*_named(request), workers))

    async def _delete(self, request: Request) -> Response:
        await self._supervisor.delete(*_named(request))
        return JSONResponse({})

    async def _down(self, request: Request) -> Response:
        self.stopped = True
        seconds = float(request.query_params.get("deadline", "10"))
        unfinished = await self._supervisor.stop(timedelta(seconds=seconds))
        asyncio.get_running_loop().call_soon(self._stop.set)
        return JSONResponse({"unfinished": unfinished})


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["project"], request.path_params["name"]


def _sentence(status: int | None) -> Any:
    async def answer(request: Request, cause: Exception) -> Response:
        if isinstance(cause, HTTPException):
            return JSONResponse({"message": cause.detail}, cause.status_code)
        known = isinstance(cause, ChurnstreamError)
        message = str(cause) if known else f"the supervisor failed with {type(cause).__name__}; its log holds the traceback"
        return JSONResponse({"message": message}, status or 500)

    return answer
