"""Many keys at once get the shards that each of them has."""

import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churnstream.records import shard_of
from churnstream.stages.sharding import shards_of

LENGTHS = ["x" * length for length in range(20)] + ["é", "aé", "aaé", "中文", "😀", "😀a", "x" * 256, "x" * 257]


@pytest.mark.parametrize("shards", [1, 2, 8, 12, 4_096])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(LENGTHS)))
def test_every_key_has_the_shard_that_one_alone_has(shards: int, keys: list[str]) -> None:
    assert shards_of(pa.array(keys, pa.string()), shards).tolist() == [shard_of(key, shards) for key in keys]


def test_keys_of_every_length_have_their_shards() -> None:
    assert shards_of(pa.array(LENGTHS), 1_000).tolist() == [shard_of(key, 1_000) for key in LENGTHS]


def test_a_part_of_a_column_is_no_other_column() -> None:
    keys = pa.array([f"u{number}" for number in range(1_000)])
    assert shards_of(keys[300:307], 8).tolist() == [shard_of(f"u{number}", 8) for number in range(300, 307)]


def test_the_door_opens_without_the_compiler() -> None:
    """numba and mlrun take long to import; what stands at the door needs neither."""
    told = "import sys, churnstream.stages.intake; print({'numba', 'mlrun'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == "set()\n"
