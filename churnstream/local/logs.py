"""A log: one event a line, in UTC, without payloads; for people as text, for programs as JSON (CHURNSTREAM_LOG_FORMAT=json)."""

import json
import logging
import os
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

LONGEST = 300  # characters of one value
LARGEST = 16 * 1024 * 1024  # bytes, then the log is put aside once, under the same name with .1 behind it
FORMAT = "CHURNSTREAM_LOG_FORMAT"
_HEAD = re.compile(rb"\d{4}-\d\d-\d\dT\S+Z \w+(?: \[worker (\d+)\])? ")
_place: ContextVar[tuple[str, int, int] | None] = ContextVar("place", default=None)


def stand_at(stream: str, shard: int, offset: int) -> None:
    """What this task logs from now on is about this record of a stream."""
    _place.set((stream, shard, offset))


class LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z info message key=value``; a traceback follows on lines of its own.

    Workers beyond the first say which they are: they share their function's log.
    """

    def __init__(self, worker: int = 0):
        super().__init__()
        self._who = f" [worker {worker}]" if worker else ""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        details = "".join(f" {name}={_short(value)}" for name, value in _details(record).items())
        line = f"{_instant(record)} {record.levelname.lower()}{self._who} {record.getMessage()}{details}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object: ``time``, ``level``, ``logger``, ``message``; in a worker ``function`` and ``worker``; of a record that is
    being handled ``stream``, ``shard`` and ``offset``; ``with``, what the author gave along; ``traceback``."""

    def __init__(self, function: str = "", worker: int = 0):
        super().__init__()
        self._who: dict[str, object] = {"function": function, "worker": worker} if function else {}

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told: dict[str, object] = {"time": _instant(record), "level": record.levelname.lower(), **self._who}
        place = _place.get()
        if place is not None:
            told |= dict(zip(("stream", "shard", "offset"), place, strict=True))
        told |= {"logger": record.name, "message": record.getMessage()}
        details = _details(record)
        if details:
            told["with"] = {str(name): _short(value) for name, value in details.items()}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _details(record: logging.LogRecord) -> dict[str, object]:
    given = getattr(record, "with", None)
    return given if isinstance(given, dict) else {}


def _short(value: object) -> str:
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def log_to_stderr(level: str, function: str = "", worker: int = 0) -> None:
    """Send every logger of this process to its standard error; an unknown level counts as INFO, an unknown format as text."""
    known = logging.getLevelNamesMapping()
    handler = logging.StreamHandler(sys.stderr)
    as_json = os.environ.get(FORMAT, "").lower() == "json"
    handler.setFormatter(JsonFormatter(function, worker) if as_json else LineFormatter(worker))
    handler.setLevel(known.get(level.upper(), logging.INFO))
    logging.basicConfig(handlers=[handler], level=handler.level, force=True)


def gather_loggers() -> None:
    """Where a log is JSON, make libraries that write lines of their own (MLRun does) write through it."""
    root = logging.getLogger()
    if not any(isinstance(each.formatter, JsonFormatter) for each in root.handlers):
        return
    for name in list(root.manager.loggerDict):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.StreamHandler):
                logger.removeHandler(handler)
                logger.propagate = True


class OnlyWorker:
    """Of a function's log, in pieces, the lines of one of its workers."""

    def __init__(self, worker: int):
        self._worker = worker
        self._rest = b""
        self._mine = False

    def of(self, piece: bytes) -> bytes:
        """Those among the lines that are whole by now; a traceback belongs to the line before it."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return b"".join(line + b"\n" for line in lines if self._is_mine(line))

    def _is_mine(self, line: bytes) -> bool:
        if line.startswith(b"{"):
            try:
                self._mine = json.loads(line).get("worker") == self._worker
            except ValueError:
                return self._mine
        elif head := _HEAD.match(line):
            self._mine = int(head[1] or 0) == self._worker
        return self._mine


def authors_traceback(cause: BaseException) -> str:
    """The traceback of ``cause`` from the first frame on that is not the platform's."""
    frames = cause.__traceback__
    while frames and frames.tb_next and Path(frames.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(cause), cause, frames)).strip()


def redirect_output(path: Path) -> None:
    """Append this process's standard output and error to ``path``, as owner-only text."""
    handle = open_log(path)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def open_log(path: Path) -> int:
    """A descriptor that appends to ``path``; a large log is put aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LARGEST:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
