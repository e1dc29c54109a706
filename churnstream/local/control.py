"""The supervisor's HTTP side; every route but ``/-/live`` asks for the home's token."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churnstream.errors import BadRequest, ChurnstreamError, UnknownFunction
from churnstream.local.answers import Receive, Send
from churnstream.local.guard import Guard, turned_away
from churnstream.local.routes import LIVE, LONGEST_DRAIN_S, METRICS, PAGE
from churnstream.local.specification import Specification

MOST_BYTES = 64 * 1024 * 1024  # of a request's body: a function with its code
FUNCTION = "/functions/{project}/{name}"


class Supervises(Protocol):
    """What the control side needs of a supervisor."""

    async def deploy(self, specification: Specification) -> dict[str, Any]: ...
    def state(self, project: str, name: str) -> dict[str, Any]: ...
    async def scale(self, project: str, name: str, workers: int) -> dict[str, Any]: ...
    async def delete(self, project: str, name: str) -> None: ...
    async def status(self) -> dict[str, Any]: ...
    async def metrics(self) -> bytes: ...
    async def stop(self, drain: timedelta) -> list[str]: ...


class Control:
    """Routes requests to the supervisor; ``stop`` is set after the answer to ``/down``. Only the operator's token opens it."""

    def __init__(self, supervisor: Supervises, guard: Guard, stop: asyncio.Event):
        self._supervisor, self._guard, self._stop = supervisor, guard, stop
        self.stopped = False
        self.routes = (
            Route(LIVE, lambda request: Response()),
            Route(METRICS, self._metrics),
            Route("/status", self._status),
            Route("/down", self._down, methods=["POST"]),
            Route(FUNCTION, self._deploy, methods=["PUT"]),
            Route(FUNCTION, self._state, methods=["GET"]),
            Route(FUNCTION, self._delete, methods=["DELETE"]),
            Route(f"{FUNCTION}/workers", self._scale, methods=["PUT"]),
        )
        self._routes = Starlette(
            routes=self.routes,
            exception_handlers={
                UnknownFunction: _sentence(404),
                ChurnstreamError: _sentence(400),
                HTTPException: _sentence(None),
                Exception: _sentence(500),
            },
        )

    async def application(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        if scope["path"] == LIVE or not await turned_away(self._guard, "operate", scope["headers"], send):
            await self._routes(scope, receive, send)

    async def _status(self, request: Request) -> Response:
        return JSONResponse(await self._supervisor.status())

    async def _metrics(self, request: Request) -> Response:
        return Response(await self._supervisor.metrics(), media_type=PAGE)

    async def _deploy(self, request: Request) -> Response:
        if self.stopped:
            return JSONResponse({"message": "the supervisor is stopping; deploy once more"}, 503)
        project, name = _named(request)
        given = await _told(request, "a function as MLRun describes it", "function")
        specification = Specification(project, name, given["function"], str(given.get("folder", "")))
        return JSONResponse(await self._supervisor.deploy(specification))

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self._supervisor.state(*_named(request)))

    async def _scale(self, request: Request) -> Response:
        example = 'say how many workers there should be: {"workers": 2}'
        try:
            workers = int((await _told(request, example, "workers"))["workers"])
        except (ValueError, TypeError, OverflowError):
            return JSONResponse({"message": example}, 400)
        return JSONResponse(await self._supervisor.scale(*_named(request), workers))

    async def _delete(self, request: Request) -> Response:
        await self._supervisor.delete(*_named(request))
        return JSONResponse({})

    async def _down(self, request: Request) -> Response:
        try:
            seconds = float(request.query_params.get("deadline", "10"))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= LONGEST_DRAIN_S:
            return JSONResponse({"message": f"deadline is a number of seconds, from 0 to {LONGEST_DRAIN_S:.0f}"}, 400)
        self.stopped = True
        unfinished = await self._supervisor.stop(timedelta(seconds=seconds))
        asyncio.get_running_loop().call_soon(self._stop.set)
        return JSONResponse({"unfinished": unfinished})


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["project"], request.path_params["name"]


async def _told(request: Request, example: str, needed: str) -> Mapping[str, Any]:
    """The JSON object in the request's body; raises BadRequest, and HTTPException for one that is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"the body exceeds the {MOST_BYTES} bytes that the supervisor takes")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as cause:
        raise BadRequest(example) from cause
    if not isinstance(given, Mapping) or needed not in given:
        raise BadRequest(example)
    return given


def _sentence(status: int | None) -> Any:
    async def answer(request: Request, cause: Exception) -> Response:
        if isinstance(cause, HTTPException):
            return JSONResponse({"message": cause.detail}, cause.status_code)
        known = isinstance(cause, ChurnstreamError)
        message = str(cause) if known else f"the supervisor failed with {type(cause).__name__}; its log holds the traceback"
        return JSONResponse({"message": message}, status or 500)

    return answer
