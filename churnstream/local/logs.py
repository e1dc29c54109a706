"""A function's log: one line an event, in UTC, without payloads."""

import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

LONGEST = 300  # characters of one value
LARGEST = 16 * 1024 * 1024  # bytes, then the log is put aside once, under the same name with .1 behind it


class LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z info message key=value``; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        details = "".join(f" {name}={_short(value)}" for name, value in getattr(record, "with", {}).items())
        line = f"{at} {record.levelname.lower()} {record.getMessage()}{details}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _short(value: object) -> str:
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def log_to_stderr(level: str) -> None:
    """Send every logger of this process to its standard error; an unknown level counts as INFO."""
    known = logging.getLevelNamesMapping()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.setLevel(known.get(level.upper(), logging.INFO))
    logging.basicConfig(handlers=[handler], level=handler.level, force=True)


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
