"""Why rows lie unevenly, and which other key would do: what a report comes to."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.model.serving import PARTITION_BYTES, PARTITION_ROWS
from headrace.ops.skew.measure import Report, TopKey, Variant
from headrace.ops.skew.survey import Loads

MULTIPLE = 10.0
"""Times the mean from which on a key is hot, if besides it is too large a partition, or shifts a shard."""
SHIFT = 0.1
"""The part of a shard's fair share that one key must have to shift it."""
FEW = 1.2
"""Max/mean that chance alone exceeds in half of all cases where keys are too few."""


@dataclass(frozen=True, slots=True)
class Cause:
    """``kind`` is for programs: hot key, fan-in burst, low-cardinality key, few keys, large partitions, chance, unequal
    sizes or even; ``what`` says it with its figures, ``todo`` what helps (empty where nothing need be done)."""

    kind: str
    what: str
    todo: str = ""


def causes(report: Report) -> list[Cause]:
    """What makes the rows uneven or partitions too large, the gravest first; one that says "even" where nothing does."""
    found: list[Cause] = []
    hot = [key for key in report.top if is_hot(report, key)]
    shards = "shards" if max(n.shards for n in report.ring.nodes) > 1 else "nodes"
    for key in hot:
        found.append(_hot(report, key, shards))
    keys, bins = report.keys, len(report.ring.places)
    groups = bins // report.ring.replicas
    large = report.mean_rows > PARTITION_ROWS or report.bytes / keys > PARTITION_BYTES
    if keys < groups or (large and not hot):
        idle = (
            f", so {sum(not rows for rows in report.loads.rows.values())} of {bins} {shards} hold nothing"
            if keys < groups
            else ""
        )
        found.append(Cause(
            "low-cardinality key",
            f"{_names(report)} has {_count(keys, 'value')} for {report.rows:,} rows{idle}; a partition has {report.mean_rows:,.0f} rows "
            f"on average, and more with each day.",
            "take a key with far more values, or add a bucket or a salt to it",
        ))  # fmt: skip
    elif (
        not hot
        and not large
        and (report.loads.largest_rows > PARTITION_ROWS or report.loads.largest_bytes > PARTITION_BYTES)
    ):
        found.append(Cause(
            "large partitions",
            f"the largest partition has {report.loads.largest_rows:,} rows and {size(report.loads.largest_bytes)}; above "
            f"{PARTITION_ROWS:,} rows or {size(PARTITION_BYTES)} reads and repairs of one become slow.",
            "add a bucket to the key",
        ))  # fmt: skip
    measured = report.loads.shards.max_over_mean
    if report.chance.median >= FEW:
        found.append(Cause(
            "few keys",
            f"{_count(keys, 'key')} on {bins} {shards}: chance alone gives max/mean {report.chance.median:.2f} in half of all cases, and above "
            f"{report.chance.high:.2f} in one of twenty. Here it is {measured:.2f}.",
            "more keys even out by themselves; until then a bucket or a salt makes more partitions",
        ))  # fmt: skip
    if found:
        return found
    if measured <= max(report.chance.high, 1.0 + SHIFT):
        return [
            Cause("even", f"max/mean of {shards} is {measured:.3f}; chance alone gives up to {report.chance.high:.3f}.")
        ]
    return [Cause(
        "unequal sizes",
        f"max/mean of {shards} is {measured:.2f}, where chance alone would give up to {report.chance.high:.2f}; no single key "
        f"does it: the {len(report.top)} largest hold {sum(k.share for k in report.top):.1%} of the rows.",
        "look at the largest keys, and at the table of other keys",
    )]  # fmt: skip


def is_hot(report: Report, key: TopKey) -> bool:
    """Whether one key alone weighs on the shards that hold it."""
    too_large = key.rows > PARTITION_ROWS or key.bytes > PARTITION_BYTES
    return key.multiple >= MULTIPLE and (too_large or key.share / report.fair_share >= SHIFT)


def _hot(report: Report, key: TopKey, shards: str) -> Cause:
    burst = key.burst
    held = ", ".join(
        report.ring.nodes[n].name + (f"/{s}" if report.ring.nodes[n].shards > 1 else "") for n, s in key.replicas
    )
    what = (
        f"{_names(report)} = {', '.join(key.key)} has {key.rows:,} rows, {key.share:.1%} of all and {key.multiple:,.0f} times the mean. "
        f"They are one partition, on {held}: {key.share / report.fair_share:.0%} more than a fair share there."
    )
    if burst is None:
        return Cause("hot key", what, "salt the key, or add a bucket that divides this key's rows")
    what += (
        f" {burst.rows:,} of them came in one burst, {burst.said}: {burst.share:.0%} of what was written then, by "
        f"{len(key.replicas)} of {len(report.ring.places)} {shards}."
    )
    return Cause(
        "fan-in burst",
        what,
        "find the writer that repeats this key; if it is right, salt the key: a bucket by time holds a burst whole",
    )


def best(report: Report) -> Variant | None:
    """The other key with the least read fan-out whose partitions are small enough and whose shards are even; of equals
    the one whose shards are more even."""

    def does(variant: Variant) -> bool:
        loads = variant.loads
        small = loads.largest_rows <= PARTITION_ROWS and loads.largest_bytes <= PARTITION_BYTES
        return small and loads.shards.max_over_mean <= max(report.chance.high, 1.0 + SHIFT / 2)

    fitting = [variant for variant in report.variants if variant.kind != "other" and does(variant)]
    return min(fitting, key=lambda v: (v.reads_mean, v.loads.shards.max_over_mean), default=None)


def advice(report: Report) -> str:
    """Why an advisor that looks at deviations between shards sees the hot key, or cannot."""
    seen = report.advisor
    what = (
        f"ScyllaDB Monitoring's advisor fires where a shard's |x - mean| / (stddev + 100) is above {seen.threshold:g}. "
        f"A key lies on {seen.hot} of {seen.shards} shards here, and {seen.hot} of {seen.shards} equally hot ones reach at most "
        f"sqrt(({seen.shards} - {seen.hot}) / {seen.hot}) = {seen.ceiling:.2f}, however hot they are"
    )
    if seen.is_blind:
        return f"{what}. So it cannot see one; it would take {seen.needed} shards. These rows make {seen.score:.2f}."
    return f"{what}; these rows make {seen.score:.2f}."


def counted(report: Report) -> str:
    """What was counted, in a line; and how far that can be off."""
    about = "about " if report.loads.is_estimate else ""
    said = f"{report.rows:,} rows, {size(report.bytes)}, {about}{_count(report.keys, 'key')}"
    if report.unlisted > report.top[-1].rows:
        return (
            f"{said}; what is said of a key is exact, and one that is not listed has at most {report.unlisted:,} rows"
        )
    return f"{said}; what is said of a key is exact"


def largest(loads: Loads) -> str:
    """The rows of the largest partition."""
    return f"{'<= ' if loads.is_estimate else ''}{loads.largest_rows:,}"


def size(count: float) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 else "<0.01%"


def _names(report: Report) -> str:
    return ", ".join(report.subject.key_names) or "the key"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
