"""The benchmark of the features, small: that it runs, that a wrong answer has no figures, and that it prints what it promises."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import common, features, features_cost
from tests.bench.common import RunFailed, fresh, median
from tests.bench.features_churnstream import WHATS
from tests.bench.features_data import sliding_blocks, sliding_expected, sliding_files
from tests.bench.features_expected import Expected, Sample, WrongAnswer, load
from tests.bench.features_peers import PEERS, peer
from tests.bench.peers.run import measure

FIGURES = {"who", "what", "events", "customers", "events_per_s", "cores", "peak_rss_mb"}


def test_the_quick_form_prints_a_line_a_result_and_a_last_one_that_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "FOLDER", tmp_path)
    assert features.main(["--quick"]) == 0
    first, *results, from_json, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["machine"]["cores"] >= 1
    assert first["command"] == "python -m tests.bench.features --quick"
    assert features.table([first, *results]).count("| churnstream |") == len(WHATS) - 1
    assert all(result.keys() >= FIGURES and result["events_per_s"] > 0 for result in results)
    measured = {result["what"] for result in results if result["who"] == "churnstream"}
    assert measured == {what.title for name, what in WHATS.items() if name != "start"}
    # everything but decoding alone was compared with the slow answer, at many rows each
    assert all(result["compared"] > 50 for result in results if result["what"] != WHATS["decode"].title)
    assert last.keys() == {"bench", "events_per_s", "events_per_s_json", "ratios"}
    assert last["ratios"].keys() == from_json["ratios"].keys() == {"storey", "python"}
    assert (last["bench"], from_json["events_per_s"]) == ("features", last["events_per_s_json"])


def test_from_the_start_of_a_process_to_the_first_features(tmp_path: Path) -> None:
    # the only run in a process of its own here: what it prints comes back, and so does the time of its start
    result = fresh("tests.bench.features_churnstream", "start", 1_000, 20, "--folder", tmp_path)
    assert (result["events"], result["compared"]) == (1, 1)
    assert 0 < result["seconds"] < 60


def test_a_process_that_fails_fails_with_the_last_thing_it_said() -> None:
    with pytest.raises(RunFailed, match="invalid choice: 'nothing'"):
        fresh("tests.bench.features_churnstream", "nothing", 1, 1)


@pytest.mark.parametrize("place", range(24))
def test_a_row_that_is_wrong_in_any_feature_has_no_figures(place: int) -> None:
    (row,) = sliding_expected([next(sliding_blocks(1, 1))], 1, 1)
    sample = Sample([row], 1)
    sample.taken[0] = list(row.features)
    assert sample.check() == 1
    sample.taken[0] = [value + 1e-6 if at == place else value for at, value in enumerate(row.features)]
    if row.features[place] == row.features[place]:
        with pytest.raises(WrongAnswer, match=f"feature {place} after event 0"):
            sample.check()
    sample.taken[0] = [0.5 if at == place else value for at, value in enumerate(row.features)]
    with pytest.raises(WrongAnswer, match=f"feature {place} after event 0"):
        sample.check()


def test_a_row_that_is_missing_and_a_sample_that_is_empty_have_no_figures() -> None:
    row = Expected(event=3, customer="u1", pane=7, until=None, amount=0, features=[1.0])
    with pytest.raises(WrongAnswer, match="no row for event 3, of u1"):
        Sample([row], 4).check()
    with pytest.raises(WrongAnswer, match="too few events"):
        Sample([row], 3).check()


def test_only_the_last_row_of_a_pane_within_what_was_read_closes_it() -> None:
    # u1 has events 0, 4 and 9 in one pane
    rows = [Expected(event, "u1", 7, until, 0, [1.0]) for event, until in ((0, 4), (4, 9), (9, None))]
    assert [Sample(rows, events).closing for events in (3, 5, 10)] == [{("u1", 7): 0}, {("u1", 7): 4}, {("u1", 7): 9}]


def test_a_peer_that_computes_something_else_has_no_figures(tmp_path: Path) -> None:
    # 83 minutes of events: windows of whole panes and windows that move with every event come apart after the first hour
    files = sliding_files(10_000, 200, folder=tmp_path)
    assert measure(peer("python"), files.ndjson, files.expected, files.events)["compared"] > 500
    exact = replace(peer("python"), held_to={"exact": True})
    with pytest.raises(WrongAnswer):
        measure(exact, files.ndjson, files.expected, files.events)


def test_the_expected_rows_reach_from_the_first_events_to_the_last(tmp_path: Path) -> None:
    files = sliding_files(60_000, 500, ndjson=False, folder=tmp_path)
    wanted = load(files.expected, files.events).wanted
    assert min(wanted) < 1_000
    assert max(wanted) > 59_000
    assert len(wanted) > 1_000


def test_a_peer_that_is_not_installed_is_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "ENVIRONMENTS", tmp_path)
    (tmp_path / "polars.why").write_text("no wheel for this machine\n")
    files = sliding_files(100, 5, folder=tmp_path)
    job = features.theirs(peer("polars"), files)
    job.try_once()
    job.try_once()
    assert job.line()["skipped"] == "it is not installed: no wheel for this machine"
    assert job.line().keys() == {*FIGURES, "skipped"}
    assert "skipped: it is not installed" in features.table([job.line()])


def test_every_peer_has_a_module_and_stands_in_the_lock(root: Path) -> None:
    lock = (root / "requirements-peers.lock").read_text()
    script = (root / "scripts" / "set-up-peers").read_text()
    for each in PEERS:
        assert root.joinpath(*each.module.split(".")).with_suffix(".py").is_file()
        assert each.ours or re.search(rf"^{each.name}==", lock, re.MULTILINE)
        assert re.search(rf"\b{each.name}\b", script)


UV = """#!/bin/sh
echo "$*" >>calls
case "$1 $*" in
venv*) for place; do :; done; mkdir -p "$place/bin"; echo "#!/bin/sh" >"$place/bin/python"; chmod +x "$place/bin/python" ;;
*polars*) echo "no wheel" >&2; echo "for this machine" >&2; exit 1 ;;
esac
"""


def test_a_peer_that_does_not_install_leaves_its_reason_and_the_others_stay(root: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(root / "scripts" / "set-up-peers", tmp_path / "scripts")
    shutil.copy(root / "requirements-peers.lock", tmp_path)
    (tmp_path / "uv").write_text(UV)
    (tmp_path / "uv").chmod(0o755)

    def set_up(*names: str) -> subprocess.CompletedProcess[str]:
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(
            [tmp_path / "scripts" / "set-up-peers", *names], env=path, capture_output=True, text=True, check=False
        )

    done = set_up("polars", "river", "storey", "none")
    assert done.returncode == 0
    assert "polars is left out: no wheel for this machine" in done.stderr
    assert (tmp_path / "build" / "peers" / "polars.why").read_text().strip() == "no wheel for this machine"
    assert sorted(path.name for path in (tmp_path / "build" / "peers").iterdir()) == ["polars.why", "river"]
    calls = (tmp_path / "calls").read_text()
    assert re.search(r"pip install .*--no-build --require-hashes .* river==[0-9.]+ msgspec==[0-9.]+$", calls, re.MULTILINE)
    assert set_up("river").stderr == ""
    assert (tmp_path / "calls").read_text() == calls
    assert set_up("nobody").returncode == 2


def test_the_median_is_a_run_that_was() -> None:
    runs = [{"events_per_s": rate, "cores": rate / 10} for rate in (30, 10, 20)]
    assert median(runs) == {"events_per_s": 20, "cores": 2.0, "runs": 3, "range": [10, 30]}


def test_half_a_file_never_gets_the_name(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        common.once(tmp_path / "file", fail)
    assert not (tmp_path / "file").exists()
    common.once(tmp_path / "file", lambda path: path.write_text("whole"))
    assert common.once(tmp_path / "file", fail).read_text() == "whole"


def test_the_picture_of_the_costs_is_the_same_for_the_same_points(tmp_path: Path) -> None:
    point = {"events_per_s": 1, "peak_rss_mb": 250}
    points = {
        "customers": [{**point, "customers": 10**power, "windows": 2, "ns_an_event": 300.0 + power} for power in range(2, 7)],
        "windows": [{**point, "customers": 2_000, "windows": 2**power, "ns_an_event": 200.0 * 2**power} for power in range(5)],
    }
    for name in ("one.svg", "two.svg"):
        features_cost.save(features_cost.draw(points), tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert all(words in drawn for words in ("1,000,000", "250 MB", "3,200", "192"))
