"""How long someone whose logins failed must wait: longer each time, never for ever, and not on behalf of others."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

FREE = 5
"""Failures that cost nothing: people mistype."""
LONGEST_WAIT = 60.0
FORGOTTEN_AFTER = 900.0
"""Seconds. The wait doubles from one second on, and is forgotten a quarter of an hour after the last failure."""
MOST = 20_000
"""Names and addresses that are remembered; the ones longest quiet go first."""


class Throttle:
    """Counts failures per user name and per address.

    The wait for a name does not hold for an address from which that user has logged in before: a stranger who guesses
    at somebody's name slows down strangers, not that user. Names that do not exist are counted like those that do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        self._proven: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait(self, user: str, address: str) -> float:
        """Seconds until a login may be tried; 0 if it may be now."""
        network = network_of(address)
        wait = self._left(("address", network))
        if (user, network) not in self._proven:
            wait = max(wait, self._left(("user", user)))
        return wait

    def attempted(self, user: str, address: str) -> None:
        """Counts a login as failed for its user, before it is verified: many guesses at one name at once gain nothing."""
        if (user, network_of(address)) not in self._proven:
            self._count(("user", user))

    def failed(self, address: str) -> None:
        """Counts a login that failed for its address: only now, as many people may begin their day behind one."""
        self._count(("address", network_of(address)))

    def succeeded(self, user: str, address: str) -> None:
        """Takes an attempt back. What others did wrong under this name or from this address still counts."""
        proven = (user, network_of(address))
        if proven not in self._proven:
            count, last = self._failures.get(("user", user), (0, 0.0))
            if count > 1:
                self._failures[("user", user)] = (count - 1, last)
            else:
                self._failures.pop(("user", user), None)
        self._proven[proven] = None
        self._proven.move_to_end(proven)
        if len(self._proven) > MOST:
            self._proven.popitem(last=False)

    def _left(self, key: Hashable) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE:
            return 0.0
        passed = self._clock() - last
        if passed >= FORGOTTEN_AFTER:
            del self._failures[key]
            return 0.0
        return max(0.0, min(2.0 ** min(count - FREE, 30), LONGEST_WAIT) - passed)

    def _count(self, key: Hashable) -> None:
        count, last = self._failures.pop(key, (0, 0.0))
        now = self._clock()
        self._failures[key] = (1 if now - last >= FORGOTTEN_AFTER else count + 1, now)
        if len(self._failures) > MOST:
            self._failures.popitem(last=False)


def network_of(address: str) -> str:
    """What one person holds: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False).network_address)
