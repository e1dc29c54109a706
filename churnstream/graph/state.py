"""A customer's state: as rows that the kernel works on, and as bytes that are stored.

The bytes hold a version, the fingerprint of the features, the customer's rows, the events that wait for the anchor, and the panes of each
track, oldest first. What can be made from the panes again (the merges of sliding windows) is not stored.
"""

import struct
from dataclasses import dataclass

import numpy as np

from churnstream.errors import FingerprintMismatch, UnknownVersion
from churnstream.graph import aggregate, kernel, panes
from churnstream.graph.kernel import Pools
from churnstream.graph.plan import Plan

VERSION = 2
HEADER = struct.Struct("<B8sII")  # version, fingerprint, events that wait, panes in all


@dataclass(frozen=True, slots=True)
class Unpacked:
    """``wait`` (n, 2) instants and event codes with ``wait_real`` (n, columns); ``panes`` (m, 2) tracks and panes with ``held``."""

    whole: np.ndarray
    real: np.ndarray
    wait: np.ndarray
    wait_real: np.ndarray
    panes: np.ndarray
    held: np.ndarray


def newcomer(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a customer of whom nothing is known."""
    arrays = plan.arrays
    tracks_end, size, slabs = _sizes(plan)
    whole = np.full(size, kernel.LONG_AGO, np.int64)
    whole[[kernel.ANCHOR, kernel.REQUIRED]] = kernel.NEVER
    whole[kernel.WAITING], whole[kernel.WAIT_LIMIT] = 0, kernel.FIRST_LIMIT
    whole[[kernel.FIRST_WAITING, kernel.LAST_WAITING]] = -1
    whole[kernel.HEAD : tracks_end] = panes.NOWHERE
    real = np.zeros((slabs, aggregate.WIDTH))
    for row in range(slabs):
        aggregate.clear(real, row)
    real[len(arrays.acc) + len(arrays.views) :, 0] = plan.att_default
    return whole, real


def _sizes(plan: Plan) -> tuple[int, int, int]:
    """Where the tracks and views of a customer end in ``whole``, how long ``whole`` is, and how many rows ``real`` has."""
    arrays = plan.arrays
    end = kernel.HEAD + len(arrays.track) * panes.TRACK + len(arrays.views) * panes.VIEW
    return end, end + len(arrays.att), len(arrays.acc) + len(arrays.views) + len(arrays.att)


def empty_pools(plan: Plan, events: int = 0, nodes: int = 0) -> Pools:
    """Pools with room for so many waiting events and panes."""
    pools = Pools(
        node=np.zeros((0, panes.NODE), np.int64),
        held=np.zeros((0, aggregate.WIDTH)),
        upto=np.zeros((0, aggregate.WIDTH)),
        node_free=np.array([-1, 0], np.int64),
        wait=np.zeros((0, 3), np.int64),
        wait_real=np.zeros((0, len(plan.columns))),
        wait_free=np.array([-1, 0], np.int64),
    )
    wait, more_wait = grown(pools.wait, 2, pools.wait_free, events)
    node, more_node = grown(pools.node, panes.AFTER, pools.node_free, nodes)
    return pools._replace(
        wait=wait,
        wait_real=longer(pools.wait_real, more_wait),
        node=node,
        held=longer(pools.held, more_node),
        upto=longer(pools.upto, more_node * plan.views_a_track),
    )


def grown(pool: np.ndarray, link: int, free: np.ndarray, wanted: int) -> tuple[np.ndarray, int]:
    """``pool`` with at least ``wanted`` more places, chained by column ``link`` into ``free``; and how many more there are."""
    more = max(wanted, len(pool) // 2)
    if not more:
        return pool, 0
    fresh = np.zeros((more, pool.shape[1]), pool.dtype)
    fresh[:, link] = np.arange(len(pool) + 1, len(pool) + more + 1)
    fresh[-1, link] = free[0]
    free[:] = len(pool), free[1] + more
    return np.vstack([pool, fresh]), more


def longer(pool: np.ndarray, more: int) -> np.ndarray:
    return np.concatenate([pool, np.zeros((more, *pool.shape[1:]), pool.dtype)])


def pack(plan: Plan, whole: np.ndarray, real: np.ndarray, pools: Pools) -> bytes:
    """One customer as bytes."""
    waiting = _chain(int(whole[kernel.FIRST_WAITING]), pools.wait, 2)
    parts = [whole.tobytes(), real.tobytes(), pools.wait[waiting, :2].tobytes(), pools.wait_real[waiting].tobytes()]
    tracks: list[int] = []
    nodes: list[int] = []
    for track in range(len(plan.arrays.track)):
        chain = _chain(int(whole[kernel.HEAD + track * panes.TRACK + panes.HEAD]), pools.node, panes.AFTER)
        tracks += [track] * len(chain)
        nodes += chain
    if nodes:
        placed = np.column_stack([np.array(tracks, np.int64), pools.node[nodes, panes.PANE]])
        parts += [placed.tobytes(), pools.held[nodes].tobytes()]
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

    def take(count: int, kind: type, *shape: int) -> np.ndarray:
        nonlocal at
        taken = np.frombuffer(packed, kind, count, at).reshape(shape)
        at += 8 * count
        return taken

    _, size, slabs = _sizes(plan)
    return Unpacked(
        whole=take(size, np.int64, size),
        real=take(slabs * aggregate.WIDTH, np.float64, slabs, aggregate.WIDTH),
        wait=take(waiting * 2, np.int64, waiting, 2),
        wait_real=take(waiting * len(plan.columns), np.float64, waiting, len(plan.columns)),
        panes=take(nodes * 2, np.int64, nodes, 2),
        held=take(nodes * aggregate.WIDTH, np.float64, nodes, aggregate.WIDTH),
    )


def fill(unpacked: Unpacked, plan: Plan, whole: np.ndarray, real: np.ndarray, pools: Pools) -> None:
    """Put a stored customer into the kernel's rows; the pools have room, the caller saw to it."""
    arrays = plan.arrays
    whole[:], real[:] = unpacked.whole, unpacked.real
    whole[[kernel.WAITING, kernel.FIRST_WAITING, kernel.LAST_WAITING]] = 0, -1, -1
    for (at, code), values in zip(unpacked.wait, unpacked.wait_real.copy(), strict=True):
        kernel.wait_for_anchor(whole, code, at, values, pools.wait, pools.wait_real, pools.wait_free)
    whole[kernel.HEAD : _sizes(plan)[0]] = panes.NOWHERE
    for view in range(len(arrays.views)):
        aggregate.clear(real, len(arrays.acc) + view)
    for (track, pane), held in zip(unpacked.panes, unpacked.held, strict=True):
        at = kernel.HEAD + track * panes.TRACK
        place = panes.take_node(pane, pools.node, pools.held, pools.node_free)
        panes.link_after(whole, at, place, whole[at + panes.TAIL], pools.node)
        pools.held[place] = held


def _chain(place: int, pool: np.ndarray, link: int) -> list[int]:
    places = []
    while place >= 0:
        places.append(place)
        place = int(pool[place, link])
    return places
