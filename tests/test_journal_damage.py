"""What is read from a journal is what was written there, or it is refused: bytes of real files are changed, one at a time."""

import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from churnstream.cli import app
from churnstream.errors import CorruptedRecord
from churnstream.journal import Changes, Journal, damages
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.wiring import open_parts, open_stream

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGE = 16_384
RECORDS = 60
SEEDS = 150
RENAMED = "UPDATE \"table table\" SET key = 'u9' || char(1) WHERE key = 'u9'"
DRAW = random.Random(5)
PAYLOADS = [DRAW.randbytes(DRAW.choice([10, 300, 5_000, 60_000])) for _ in range(RECORDS)]
ROWS = {f"u{number}": DRAW.randbytes(DRAW.choice([0, 20, 200])) for number in range(25 * RECORDS)}
READS: dict[str, tuple[Callable[[Journal], object], object]] = {
    "records": (lambda j: [(r.offset, r.payload, r.rows, r.key) for r in j.read("out", 0, 0, 1_000, 10**9)],
                [(number, payload, number, f"k{number}") for number, payload in enumerate(PAYLOADS)]),
    "end": (lambda j: j.end("out"), RECORDS),
    "rows": (lambda j: [j.rows("out", offset) for offset in range(RECORDS)], [n * (n - 1) // 2 for n in range(RECORDS)]),
    "items": (lambda j: sorted(j.items("table")), sorted(ROWS.items())),
    "get": (lambda j: {key: j.get("table", key) for key in list(ROWS)[::7]}, {key: ROWS[key] for key in list(ROWS)[::7]}),
    "position": (lambda j: j.position("in", 0), RECORDS),
    "sequence": (lambda j: j.sequence("producer"), RECORDS - 1),
    "accounts": (lambda j: j.accounts(), {("in", "applied"): 2 * RECORDS}),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with a log and a table of several pages each."""
    path = tmp_path_factory.mktemp("whole") / "00.db"
    journal, rows = Journal(path, writable=True), list(ROWS.items())
    for number, payload in enumerate(PAYLOADS):
        changes = Changes(
            appends=[("out", Record(payload, number, f"k{number}", {"a": "b"}))],
            puts={"table": dict(rows[25 * number : 25 * number + 25])},
            positions={("in", 0): number + 1},
            producers={"producer": number},
        )
        changes.count("in", "applied", 2)
        journal.write(changes, NOW)
    journal.close()
    return path


def anywhere(pages: bytes, draw: random.Random) -> int:
    """Half of them anywhere, half where SQLite keeps what it knows of a page or its rows' ends."""
    place = draw.choice([draw.randrange(PAGE), draw.randrange(PAGE), draw.randrange(60), PAGE - 1 - draw.randrange(250)])
    return draw.randrange(len(pages) // PAGE) * PAGE + place


def in_a_tree(pages: bytes, draw: random.Random) -> int:
    """Where a page of a tree says how many cells it has, or where they lie: a row may seem never to have been there."""
    trees = [at + (100 if at == 0 else 0) for at in range(0, len(pages), PAGE)]  # the first page begins with the file's head
    begin = draw.choice([at for at in trees if pages[at] in (2, 5, 10, 13)])
    cells = int.from_bytes(pages[begin + 3 : begin + 5], "big")
    return begin + draw.choice([draw.randrange(12), 8 + draw.randrange(2 * cells + 4)])


def changed(whole: Path, folder: Path, where: Callable[[bytes, random.Random], int], draw: random.Random) -> Path:
    """A copy with one bit or byte changed."""
    pages, path = bytearray(whole.read_bytes()), folder / "00.db"
    pages[where(pages, draw)] ^= draw.choice([1 << draw.randrange(8), draw.randrange(1, 256)])
    path.write_bytes(pages)
    return path


@pytest.mark.parametrize("where", [anywhere, in_a_tree])
def test_a_changed_byte_is_never_given_away_and_always_found(
    whole: Path, tmp_path: Path, where: Callable[[bytes, random.Random], int]
) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(SEEDS):
        path = changed(whole, tmp_path, where, random.Random(seed))
        hurt = False
        for name, (read, right) in READS.items():
            journal = Journal(path)
            try:
                found = read(journal)
            except CorruptedRecord:
                seen[name, "refused"] += 1
                hurt = True
            else:
                assert found == right, f"seed {seed}: {name}"
                seen[name, "right"] += 1
            journal.close()
        assert bool(list(damages(path))) >= hurt, f"seed {seed}: what was refused is not found by a check"
    assert all(seen[name, "right"] > 0 for name in READS)
    assert seen["records", "refused"] > 15
    assert seen["items", "refused"] > 5


def test_a_whole_journal_has_no_damage(whole: Path) -> None:
    assert list(damages(whole)) == []


def altered(whole: Path, folder: Path, statement: str) -> Path:
    path = folder / "03.db"
    shutil.copy(whole, path)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    return path


@pytest.mark.parametrize(
    ("statement", "read", "place"),
    [
        ('UPDATE "log out" SET payload = x\'00\' WHERE offset = 7', lambda j: j.read("out", 3, 5, 9, 10**9), "offset 7"),
        ('UPDATE "log out" SET payload = 12 WHERE offset = 7', lambda j: j.read("out", 3, 5, 9, 10**9), "offset 7"),
        ('UPDATE "log out" SET rows_before = 1 WHERE offset = 59', lambda j: j.rows("out"), "offset 59"),
        ('DELETE FROM "log out" WHERE offset = 7', lambda j: j.read("out", 3, 5, 9, 10**9), "offset 7 is missing"),
        ('DELETE FROM "log out" WHERE offset = 7', lambda j: j.rows("out", 7), "offset 7 is missing"),
        ('DELETE FROM "log out" WHERE offset > 57', lambda j: j.end("out"), "offset 59 is missing"),
        ('DELETE FROM "log out" WHERE offset > 57', lambda j: j.read("out", 3, 58, 9, 10**9), "offset 58 is missing"),
        ('DELETE FROM "log out" WHERE offset > 57', lambda j: j.rows("out"), "offset 59 is missing"),
        ('DELETE FROM "log out"', lambda j: j.end("out"), "offset 59 is missing"),
        ('DELETE FROM "log out"', lambda j: j.read("out", 3, 0, 9, 10**9), "offset 0 is missing"),
        ('DELETE FROM "log out" WHERE offset < 3', lambda j: j.begin("out"), "offset 0 is missing"),
        ('DELETE FROM "log out" WHERE offset < 3', lambda j: j.read("out", 3, 0, 9, 10**9), "offset 0 is missing"),
        ("UPDATE \"table table\" SET value = x'00' WHERE key = 'u9'", lambda j: j.get("table", "u9"), "the key 'u9'"),
        (RENAMED, lambda j: j.get("table", "u9"), r"beside the key 'u9'"),
        (RENAMED, lambda j: j.get_many("table", ["u8", "u9"]), r"beside the key 'u9'"),
        ("UPDATE position SET next_offset = 5 WHERE stream = 'in'", lambda j: j.position("in", 0), "table position"),
        ("UPDATE position SET stream = 'im' WHERE stream = 'in'", lambda j: j.position("in", 0), "table position"),
        ("UPDATE producer SET sequence = 5", lambda j: j.sequence("producer"), "table producer"),
        ("UPDATE account SET rows = 5", lambda j: j.accounts(), "table account"),
        ('DROP TABLE "log out"', lambda j: j.end("out"), "its tables are not those that were made"),
        ("PRAGMA user_version = 0", lambda j: j.end("out"), "no layout"),
    ],
)  # fmt: skip
def test_what_was_changed_is_refused_by_name(
    whole: Path, tmp_path: Path, statement: str, read: Callable[[Journal], object], place: str
) -> None:
    path = altered(whole, tmp_path, statement)
    journal = Journal(path)
    with pytest.raises(CorruptedRecord, match=place) as refused:
        read(journal)
    assert f"the journal {path} is damaged" in str(refused.value)
    assert "`churnstream check` lists every damaged place" in str(refused.value)
    journal.close()
    assert len(list(damages(path))) == 1


def test_nothing_is_appended_behind_a_damaged_record(whole: Path, tmp_path: Path) -> None:
    path = altered(whole, tmp_path, 'UPDATE "log out" SET rows = 1 WHERE offset = 59')
    journal = Journal(path, writable=True)
    with pytest.raises(CorruptedRecord, match="shard 3, the record at offset 59 does not match its checksum"):
        journal.write(Changes(appends=[("out", Record(b"x"))]), NOW)
    journal.write(Changes(appends=[("other", Record(b"x"))]), NOW)  # the connection goes on
    assert journal.end("other") == 1
    journal.close()


def test_a_file_that_is_no_journal_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "00.db"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 2_000)
    with pytest.raises(CorruptedRecord, match="file is not a database"):
        Journal(path).end("out")
    assert len(list(damages(path))) == 1


def test_check_names_each_damaged_place_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings({"CHURNSTREAM_HOME": str(tmp_path)})
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path))
    parts = open_parts("event-generator", settings)
    with parts.begin() as unit:
        for number in range(200):
            unit.append("generated-stream", Record(b"%d" % number, key=f"u{number}"))
    parts.close()
    run = lambda *words: CliRunner(env={"COLUMNS": "300"}).invoke(app, ["check", *words])  # noqa: E731
    good = run()
    assert (good.exit_code, good.output) == (0, "8 journals read; nothing is damaged.\n")
    path = tmp_path / "data" / "churnstream" / "first_day" / "event-generator" / "02.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE \"log generated-stream\" SET payload = x'00' WHERE offset IN (1, 4)")
    connection.close()
    bad = run("--json")
    assert bad.exit_code == 1
    place = f"{path}: the stream generated-stream, shard 2, offset"
    told = [f"{place} {offset}: the record does not match its checksum" for offset in (1, 4)]
    assert json.loads(bad.output) == {"journals": 8, "damages": told}
    shown = run()
    assert shown.exit_code == 1
    assert shown.output.splitlines() == [*told, "8 journals read; 2 damaged places."]
    reader = open_stream("generated-stream", settings)
    assert [record.payload for record in reader.read(2, 0, max_records=1)] != []
    assert len(reader.read(3, 0)) > 0  # other shards go on
    with pytest.raises(CorruptedRecord):
        reader.read(2, 0)
    reader.close()
