"""Which rows of a record a function cannot apply: found by trying the others without them."""

from collections.abc import Awaitable, Callable, Sequence

Try = Callable[[Sequence[int]], Awaitable[str]]  # the places of some rows -> why they fail together; empty when they do not


async def find_poison(rows: int, attempt: Try) -> dict[int, str]:
    """The rows to leave out, each with the reason, so that ``attempt`` succeeds with all the others.

    All of them together are known to fail. A row is left out when it fails twice after the rows before it that were kept; so rows
    that fail only in company lose the last of them. To find one among n takes about log2(n) attempts, and where many lie close
    together two or three each.
    """
    found: dict[int, str] = {}
    kept: list[int] = []  # of the rows before ``start``; they succeed together
    start, step = 0, rows
    while start < rows:
        if not found:
            failing = rows  # which is known
        else:
            reach = min(rows, start + step)
            if not await attempt([*kept, *range(start, reach)]):
                kept, start, step = [*kept, *range(start, reach)], reach, step * 2
                continue
            failing = reach
        good = start
        while failing - good > 1:
            middle = (good + failing) // 2
            if await attempt([*kept, *range(start, middle)]):
                failing = middle
            else:
                good = middle
        kept += range(start, good)
        reason = await attempt([*kept, good])  # once more: what fails only now and then is no reason to leave it out
        if reason:
            found[good] = reason
            step = rows if len(found) == 1 else 1  # mostly it was the only one
        else:
            kept.append(good)
        start = good + 1
    return found
