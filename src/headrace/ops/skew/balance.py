"""How even loads are: in numbers, in the eyes of an advisor that looks at deviations, and as chance alone would have it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from headrace.model.ring import Ring

DRAWS = 400
SEED = 418_001
SINGLY = 2_000
"""Keys up to which each is drawn; of more, how many fall on each set of replicas is."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Of loads: the greatest over the mean (1 where all are equal), the standard deviation over the mean (CV), and Gini's
    coefficient (0 where all are equal, near 1 where one has everything)."""

    mean: float
    most: float
    max_over_mean: float
    cv: float
    gini: float


def balance(loads: Sequence[float]) -> Balance:
    """The balance of at least one load. The deviation is that of all loads (not of a sample), and Gini's coefficient by its
    formula over sorted values, sum((2i - n - 1) x_i) / (n sum(x_i)) (Sen, On Economic Inequality, 1973)."""
    count, total = len(loads), sum(loads)
    mean = total / count
    if not total:
        return Balance(0.0, 0.0, 1.0, 0.0, 0.0)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in loads) / count)
    ranked = sum((2 * i - count - 1) * x for i, x in enumerate(sorted(loads), 1))
    return Balance(mean, max(loads), max(loads) / mean, deviation / mean, ranked / (count * total))


@dataclass(frozen=True, slots=True)
class Advisor:
    """What ScyllaDB Monitoring's rule of unbalanced traffic makes of loads: it fires where a shard's |x - mean| /
    (stddev + 100) is above 2 (scylla-monitoring, prometheus/prom_rules/prometheus.rules.yml, nonBalancedcqlTraffic).

    ``ceiling`` is all that ``hot`` equally hot of ``shards`` shards can reach, whatever they have to bear:
    sqrt((shards - hot) / hot), as P. A. Samuelson, How Deviant Can You Be?, JASA 63 (1968), for one. So the rule is
    blind unless there are ``needed`` shards.
    """

    shards: int
    hot: int
    score: float
    ceiling: float
    needed: int
    threshold: float = 2.0

    @property
    def is_blind(self) -> bool:
        return self.ceiling <= self.threshold


def advisor(loads: Sequence[float], hot: int) -> Advisor:
    mean = sum(loads) / len(loads)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in loads) / len(loads))
    score = max(abs(x - mean) for x in loads) / (deviation + 100)
    hot = min(hot, len(loads))
    return Advisor(len(loads), hot, score, math.sqrt((len(loads) - hot) / hot), 5 * hot + 1)


@dataclass(frozen=True, slots=True)
class Chance:
    """Max/mean of shards where ``keys`` keys of equal size lie where chance puts them: in half of all cases it is above
    ``median``, in one of twenty above ``high``."""

    keys: int
    median: float
    high: float


def chance(ring: Ring, keys: int) -> Chance:
    """By simulation, the same one each time: ``DRAWS`` draws of where the keys fall. The closed forms (Raab and Steger,
    Balls into Bins, 1998) hold for many keys only, and for rings whose parts are equal."""
    rnd = random.Random(SEED)  # noqa: S311  no secret
    cells = ring.cells()
    shares = [share for share, _ in cells]
    places = {place: at for at, place in enumerate(ring.places)}
    holders = [[places[place] for place in cell] for _, cell in cells]
    found = sorted(_drawn(rnd, shares, holders, len(places), keys) for _ in range(DRAWS))
    return Chance(keys, found[DRAWS // 2], found[DRAWS * 19 // 20])


def _drawn(rnd: random.Random, shares: list[float], holders: list[list[int]], places: int, keys: int) -> float:
    loads = [0] * places
    if keys <= SINGLY:
        for cell in rnd.choices(range(len(shares)), cum_weights=list(accumulate(shares)), k=keys):
            for place in holders[cell]:
                loads[place] += 1
    else:
        left, share_left = keys, sum(shares)
        for share, held in zip(shares, holders, strict=True):
            count = left if share >= share_left else _binomial(rnd, left, share / share_left)
            left, share_left = left - count, share_left - share
            for place in held:
                loads[place] += count
    return max(loads) * places / sum(loads)


def _binomial(rnd: random.Random, count: int, share: float) -> int:
    """How many of ``count`` trials succeed: one by one where few will, and else by the normal distribution."""
    spread = count * share * (1 - share)
    if spread > 25:
        return min(max(round(rnd.gauss(count * share, math.sqrt(spread))), 0), count)
    # The gaps between successes are geometric (Devroye, Non-Uniform Random Variate Generation, 1986, X.4).
    found, at, scale = 0, 0, math.log1p(-min(share, 1 - share))
    while scale:
        at += int(math.log(1.0 - rnd.random()) / scale) + 1
        if at > count:
            break
        found += 1
    return found if share <= 0.5 else count - found
