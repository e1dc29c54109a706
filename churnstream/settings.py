"""Settings: a frozen value made once from an environment, past which nobody asks the environment again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from churnstream.errors import InvalidSetting, MissingSetting

DEFAULT_PROJECT = "churnstream"
DEFAULT_CASE = "first_day"
MOST = 1_000_000_000  # rows or seconds: beyond it stands a slip of the pen


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function is told from outside.

    ``streams`` and ``tables`` are addresses: ``embedded://<folder>``; the archive of Parquet files lies in ``archive``, the
    registry of models in ``models``, and the keys that sign them in ``home``; these two are None where there is no home. Under
    light load a request waits ``batch_wait`` at most, so that those that come meanwhile share its commit; zero: none waits. A
    record that fails ``tries`` times is looked into, and goes on without the rows that make it fail. Nothing is written to a
    stream of which a reader has more than ``backlog_rows`` left to read. What serving looks up is ``staleness`` old at most, out
    of the memory of ``cached_customers``; what shadows say waits ``shadow_age`` at most, so that more share a commit. What every
    function has read is removed from a stream's shard beyond ``retention_age``, and beyond its newest ``retention_bytes``. None,
    the default, removes nothing: nobody loses what they did not ask to have removed, and a stream can be read again from its
    start.
    """

    project: str
    case: str
    streams: str
    tables: str
    archive: Path
    flush_rows: int = 250_000
    flush_age: timedelta = timedelta(seconds=10)
    batch_wait: timedelta = timedelta(milliseconds=20)
    tries: int = 5
    backlog_rows: int = 50_000_000
    staleness: timedelta = timedelta(seconds=1)
    cached_customers: int = 200_000
    shadow_age: timedelta = timedelta(seconds=1)
    retention_age: timedelta | None = None
    retention_bytes: int | None = None
    models: Path | None = None
    home: Path | None = None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from ``environment`` (CHURNSTREAM_*); raises MissingSetting or InvalidSetting.

    On a laptop CHURNSTREAM_HOME is enough: streams, tables and the archive then lie in ``<home>/data/<project>/<case>``.
    """
    project = environment.get("CHURNSTREAM_PROJECT") or DEFAULT_PROJECT
    case = environment.get("CHURNSTREAM_CASE") or DEFAULT_CASE
    home = environment.get("CHURNSTREAM_HOME")
    folder = Path(home) / "data" / project / case if home else None

    def address(name: str) -> str:
        given = environment.get(name) or (f"embedded://{folder}" if folder else "")
        if not given:
            raise MissingSetting(name, needed_by=f"the project {project}")
        return given

    return Settings(
        project=project,
        case=case,
        streams=address("CHURNSTREAM_STREAMS"),
        tables=address("CHURNSTREAM_TABLES"),
        archive=_archive(environment.get("CHURNSTREAM_ARCHIVE"), folder),
        flush_rows=int(_number(environment, "CHURNSTREAM_FLUSH_ROWS", 250_000, least=1)),
        flush_age=timedelta(seconds=_number(environment, "CHURNSTREAM_FLUSH_SECONDS", 10, least=0.001)),
        batch_wait=timedelta(milliseconds=_number(environment, "CHURNSTREAM_BATCH_WAIT_MS", 20, least=0)),
        tries=int(_number(environment, "CHURNSTREAM_TRIES", 5, least=1)),
        backlog_rows=int(_number(environment, "CHURNSTREAM_BACKLOG_ROWS", 50_000_000, least=1)),
        staleness=timedelta(seconds=_number(environment, "CHURNSTREAM_STALENESS_SECONDS", 1, least=0)),
        cached_customers=int(_number(environment, "CHURNSTREAM_CACHED_CUSTOMERS", 200_000, least=2)),
        shadow_age=timedelta(seconds=_number(environment, "CHURNSTREAM_SHADOW_SECONDS", 1, least=0)),
        retention_age=timedelta(hours=hours)
        if (hours := _number(environment, "CHURNSTREAM_RETENTION_HOURS", 0, least=0))
        else None,
        retention_bytes=int(1e6 * size) if (size := _number(environment, "CHURNSTREAM_RETENTION_MB", 0, least=0)) else None,
        models=_models(environment.get("CHURNSTREAM_MODELS"), home, project, case),
        home=Path(home) if home else None,
    )


def _archive(given: str | None, folder: Path | None) -> Path:
    if given:
        return Path(given)
    if folder is None:
        raise MissingSetting("CHURNSTREAM_ARCHIVE", needed_by="the Parquet archive")
    return folder / "parquet"


def _models(given: str | None, home: str | None, project: str, case: str) -> Path | None:
    if given:
        return Path(given)
    return Path(home) / "registry" / project / case if home else None


def _number(environment: Mapping[str, str], name: str, default: float, least: float) -> float:
    given = environment.get(name)
    if not given:
        return default
    try:
        value = float(given)
    except ValueError as cause:
        raise InvalidSetting(f"{name} is {given!r}, which is no number") from cause
    if not least <= value <= MOST:
        raise InvalidSetting(f"{name} is {given}; it must lie between {least} and {MOST:,}")
    return value
