"""A customer's state: as rows that the kernel works on, and as bytes that are stored.

The bytes hold a version, the fingerprint of the features, the customer's rows, the events that wait for the anchor, and the
panes of each track, oldest first. What can be made from the panes again (the merges of sliding windows) is not stored.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from churnstream.errors import FingerprintMismatch, UnknownVersion
from churnstream.graph import aggregate, kernel, panes
from churnstream.graph.kernel import Pools
from churnstream.graph.plan import Plan, Real, Whole

VERSION = 2
HEADER = struct.Struct("<B8sII")  # version, fingerprint, events that wait, panes in all


@dataclass(frozen=True, slots=True)
class Unpacked:
    """``wait`` (n, 2) instants and event codes with ``wait_real`` (n, columns); ``panes`` (m, 2) tracks and panes with ``held``
    (m, width)."""

    whole: Whole
    real: Real
    wait: Whole
    wait_real: Real
    panes: Whole
    held: Real


def newcomer(plan: Plan) -> tuple[Whole, Real]:
    """The rows of a customer of whom nothing is known."""
    arrays = plan.arrays
    width = arrays.width
    size, length = _sizes(plan)
    whole = np.full(size, kernel.LONG_AGO, np.int64)
    whole[[kernel.ANCHOR, kernel.REQUIRED]] = kernel.NEVER
    whole[kernel.WAITING], whole[kernel.WAIT_LIMIT] = 0, kernel.FIRST_LIMIT
    whole[[kernel.FIRST_WAITING, kernel.LAST_WAITING]] = -1
    _without_panes(plan, whole)
    real = np.zeros((1, length))
    for at in range(0, length - len(arrays.att), width):
        aggregate.clear(real, 0, at, width)
    real = real[0]
    whole[kernel.HEAD + panes.LIVE : kernel.HEAD + len(arrays.track) * panes.TRACK : panes.TRACK] = panes.NO_PANE
    real[length - len(arrays.att) :] = plan.att_default
    return whole, real


def _sizes(plan: Plan) -> tuple[int, int]:
    """How long a customer's rows are: ``whole`` and ``real``."""
    arrays = plan.arrays
    whole = kernel.HEAD + len(arrays.track) * panes.TRACK + len(arrays.views) * panes.VIEW + len(arrays.att)
    return whole, (len(arrays.acc) + len(arrays.track) + 2 * len(arrays.views)) * arrays.width + len(arrays.att)


def _without_panes(plan: Plan, whole: Whole) -> None:
    """Unlink a customer's nodes from its tracks and views, which keep their live panes."""
    tracks = whole[kernel.HEAD : kernel.HEAD + len(plan.arrays.track) * panes.TRACK].reshape(-1, panes.TRACK)
    tracks[:, [panes.HEAD, panes.TAIL]] = panes.NOWHERE
    start = kernel.HEAD + tracks.size
    whole[start : start + len(plan.arrays.views) * panes.VIEW] = panes.NOWHERE


def empty_pools(plan: Plan, events: int = 0, nodes: int = 0) -> Pools:
    """Pools with room for so many waiting events and panes."""
    pools = Pools(
        node=np.zeros((0, panes.HELD + (1 + plan.views_a_track) * plan.arrays.width)),
        free=np.array([-1, 0], np.int64),
        wait=np.zeros((0, 3), np.int64),
        wait_real=np.zeros((0, len(plan.columns))),
        wait_free=np.array([-1, 0], np.int64),
    )
    return with_room(pools, events, nodes)


def with_room(pools: Pools, events: int, nodes: int) -> Pools:
    """The pools with at least so many free places for waiting events and for panes."""
    if pools.wait_free[1] < events:
        wait = _grown(pools.wait, 2, pools.wait_free, events)
        real = np.zeros((len(wait) - len(pools.wait), pools.wait_real.shape[1]))
        pools = pools._replace(wait=wait, wait_real=np.concatenate([pools.wait_real, real]))
    if pools.free[1] < nodes:
        pools = pools._replace(node=_grown(pools.node, panes.AFTER, pools.free, nodes))
    return pools


def _grown(pool: Any, link: int, free: Whole, wanted: int) -> Any:
    """``pool`` with at least ``wanted`` more places, chained by column ``link`` into ``free``."""
    more = max(wanted, len(pool) // 2)
    fresh = np.zeros((more, pool.shape[1]), pool.dtype)
    fresh[:, link] = np.arange(len(pool) + 1, len(pool) + more + 1)
    fresh[-1, link] = free[0]
    free[:] = len(pool), free[1] + more
    return np.vstack([pool, fresh])


def pack(plan: Plan, whole: Whole, real: Real, pools: Pools) -> bytes:
    """One customer as bytes."""
    parts = [whole.tobytes(), real.tobytes()]
    waiting = _chain(int(whole[kernel.FIRST_WAITING]), pools.wait, 2) if whole[kernel.WAITING] else []
    if waiting:
        parts += [pools.wait[waiting, :2].tobytes(), pools.wait_real[waiting].tobytes()]
    tracks: list[int] = []
    nodes: list[int] = []
    for track in range(len(plan.arrays.track)):
        chain = _chain(int(whole[kernel.HEAD + track * panes.TRACK + panes.HEAD]), pools.node, panes.AFTER)
        tracks += [track] * len(chain)
        nodes += chain
    if nodes:
        placed = np.column_stack([np.array(tracks, np.int64), pools.node[nodes, panes.PANE].astype(np.int64)])
        parts += [placed.tobytes(), pools.node[nodes, panes.HELD : panes.HELD + plan.arrays.width].tobytes()]
    return HEADER.pack(VERSION, plan.fingerprint, len(waiting), len(nodes)) + b"".join(parts)


def unpack(packed: bytes, plan: Plan) -> Unpacked:
    """What ``pack`` made; raises UnknownVersion for another layout, FingerprintMismatch for other features."""
    version, fingerprint, waiting, nodes = HEADER.unpack_from(packed)
    if version != VERSION:
        raise UnknownVersion(f"a customer's state has layout {version}, this version reads {VERSION}")
    if fingerprint != plan.fingerprint:
        raise FingerprintMismatch(
            f"a customer's state was kept for the features {fingerprint.hex()}, the running ones are {plan.fingerprint.hex()};"
            " replay the archive into empty streams, or go back to the definitions that wrote it"
        )
    at = HEADER.size

    def take(count: int, kind: type, *shape: int) -> Any:
        nonlocal at
        taken: Any = np.frombuffer(packed, kind, count, at).reshape(shape)
        at += 8 * count
        return taken

    size, length = _sizes(plan)
    return Unpacked(
        whole=take(size, np.int64, size),
        real=take(length, np.float64, length),
        wait=take(waiting * 2, np.int64, waiting, 2),
        wait_real=take(waiting * len(plan.columns), np.float64, waiting, len(plan.columns)),
        panes=take(nodes * 2, np.int64, nodes, 2),
        held=take(nodes * plan.arrays.width, np.float64, nodes, plan.arrays.width),
    )


def fill(unpacked: Unpacked, plan: Plan, whole: Whole, real: Real, place: int, pools: Pools) -> None:
    """Put a stored customer into a place of the kernel's rows; the pools have room, the caller saw to it."""
    arrays, width = plan.arrays, plan.arrays.width
    whole[place], real[place] = unpacked.whole, unpacked.real
    whole[place, [kernel.WAITING, kernel.FIRST_WAITING, kernel.LAST_WAITING]] = 0, -1, -1
    values = unpacked.wait_real.copy()  # the kernel compiles once more for arrays that may not be written
    for row, (at, code) in enumerate(unpacked.wait):
        kernel.wait_for_anchor(whole, place, code, at, values, row, pools.wait, pools.wait_real, pools.wait_free)
    _without_panes(plan, whole[place])
    fronts = (len(arrays.acc) + len(arrays.track)) * width
    for at in range(fronts, fronts + 2 * len(arrays.views) * width, width):
        aggregate.clear(real, place, at, width)
    for (track, pane), held in zip(unpacked.panes, unpacked.held, strict=True):
        at = kernel.HEAD + track * panes.TRACK
        node = panes.append(whole, place, at, whole[place, at + panes.TAIL], pane, pools.node, pools.free, width)
        pools.node[node, panes.HELD : panes.HELD + width] = held


def _chain(place: int, pool: Any, link: int) -> list[int]:
    places = []
    while place >= 0:
        places.append(place)
        place = int(pool[place, link])
    return places
