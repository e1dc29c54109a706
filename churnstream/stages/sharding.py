"""The shards of many keys at once; which shard a key has is said in ``churnstream.records``."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SEED, MULTIPLIER = np.uint32(0x9747B28C), np.uint32(0x5BD1E995)
WORD = 4  # bytes


def shards_of(keys: pa.StringArray, shards: int) -> NDArray[np.uint16]:
    """``shard_of(key, shards)`` of each of ``keys``, none of which is null; a word of every key in each step."""
    distinct = keys.dictionary_encode()
    found = ((_murmur2(distinct.dictionary) & np.uint32(0x7FFFFFFF)) % np.uint32(shards)).astype(np.uint16)
    return found[distinct.indices.to_numpy()]


def _murmur2(keys: pa.StringArray) -> NDArray[np.uint32]:
    offsets = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset : keys.offset + len(keys) + 1].astype(np.int64)
    body = b"".join((memoryview(keys.buffers()[2] or b"")[: offsets[-1]], bytes(WORD)))
    words: NDArray[np.uint32] = np.ndarray((len(body) - WORD + 1,), "<u4", body, strides=(1,))  # those that begin at each byte
    length = np.diff(offsets)
    result = SEED ^ length.astype(np.uint32)
    for place in range(0, int(length.max(initial=0)) - WORD + 1, WORD):
        longer = (length >= place + WORD).nonzero()[0]
        word = words[offsets[longer] + place] * MULTIPLIER
        word = (word ^ word >> np.uint32(24)) * MULTIPLIER
        result[longer] = result[longer] * MULTIPLIER ^ word
    rest = length % WORD
    ragged = rest.nonzero()[0]
    rest = rest[ragged]
    mask = ((1 << 8 * rest) - 1).astype(np.uint32)
    result[ragged] = (result[ragged] ^ words[offsets[ragged + 1] - rest] & mask) * MULTIPLIER
    result = (result ^ result >> np.uint32(13)) * MULTIPLIER
    return result ^ result >> np.uint32(15)
