"""A report as one page: bars for each shard, today and with other keys, and the tables; no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from headrace.model.ring import Place, Ring
from headrace.ops.skew.causes import advice, best, causes, counted, is_hot, largest, percent, size
from headrace.ops.skew.measure import LARGEST, Report
from headrace.ops.skew.ring import described
from headrace.ops.skew.survey import Loads

WIDTH, HEIGHT = 880, 250
LEFT, RIGHT, ABOVE, BELOW = 64, 12, 26, 46
GAP = 14
"""Between two nodes' bars."""
LABELLED = 40
"""Bars up to which each has its figure above it."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b2733;--quiet:#526170;--page:#fff;--panel:#f5f7f9;--line:#d5dce3;--bar:#3f7cac;--hot:#c2410c;
--mean:#1b2733;--good:#1d7a46}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--quiet:#a3b0bd;--page:#11171d;--panel:#19222b;--line:#33414e;--bar:#6ea8d6;
--hot:#fb8b4b;--mean:#e6ebf0;--good:#5fc98d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px}
h2{font-size:1.15rem;margin:40px 0 8px}
h3{font-size:1rem;margin:0 0 4px}
p{margin:0 0 8px;max-width:75ch}
.quiet{color:var(--quiet)}
.cause{border-left:4px solid var(--hot);background:var(--panel);padding:12px 16px;margin:16px 0;border-radius:0 6px 6px 0}
.cause.even{border-color:var(--good)}
.cause p:last-child,.note p:last-child{margin:0}
.note{background:var(--panel);padding:12px 16px;margin:16px 0;border-radius:6px}
.panel{background:var(--panel);border-radius:6px;padding:16px;margin:16px 0}
.panel.chosen{outline:2px solid var(--good)}
.badge{color:var(--good);font-weight:600}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--quiet)}
svg .value{font-size:11px;fill:var(--ink);paint-order:stroke;stroke:var(--panel);stroke-width:4px}
.bar{fill:var(--bar)}.hot{fill:var(--hot)}
.mean{stroke:var(--mean);stroke-width:1.2;stroke-dasharray:5 4}
.axis{stroke:var(--line)}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:0 0 8px;padding:0;list-style:none;font-size:.875rem;color:var(--quiet)}
.legend svg{display:inline-block;width:14px;height:12px;margin-right:6px;vertical-align:-1px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;min-width:100%}
caption{text-align:left;color:var(--quiet);padding:0 0 6px}
th,td{padding:6px 12px 6px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;white-space:nowrap}
.n{text-align:right}
tr.hot-row td:first-child{border-left:4px solid var(--hot);padding-left:8px;font-weight:600}
summary{cursor:pointer;margin:8px 0}
code{font:0.95em ui-monospace,monospace}
"""


def html(report: Report) -> str:
    """The page."""
    ring, loads, subject = report.ring, report.loads, report.subject
    key = ", ".join(subject.key_names) or "one partition"
    title = f"Skew of {subject.name} by {key}"
    chosen = best(report)
    hot = [k for k in report.top if is_hot(report, k)]
    most = max(loads.rows.values())
    shown = [v for v in report.variants if v is not chosen]
    unit = "shard" if len(ring.places) > len(ring.nodes) else "node"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(counted(report))}. {escape(described(ring))}.</p>',
    ]
    if report.keyless:
        body.append(f"<p>{report.keyless:,} more rows have no key: a store refuses them.</p>")
    for cause in causes(report):
        todo = f"<p><strong>What helps:</strong> {escape(cause.todo)}.</p>" if cause.todo else ""
        body.append(
            f'<div class="cause{" even" if cause.kind == "even" else ""}"><h3>{escape(cause.kind[0].upper() + cause.kind[1:])}</h3>'
            f"<p>{escape(cause.what)}</p>{todo}</div>"
        )
    body.append(f"<h2>Rows of each {unit}, before and after</h2>")
    body.append(
        "<p>Every replica counts. All pictures have one scale; the dashed line is the mean, where each bar would end if all were "
        f"even. Chance alone, with {report.keys:,} equal keys, gives max/mean {report.chance.median:.3f} in half of all cases and above "
        f"{report.chance.high:.3f} in one of twenty.</p>"
    )
    body.append(_legend(bool(hot)))
    held = _held(report)
    body.append(_panel("today", f"Today: {key}", "", ring, loads, most, unit, held))
    if chosen is not None:
        said = f'<span class="badge">Enough:</span> a read of one {escape(key)} asks {chosen.reads_mean:,.1f} partitions on average.'
        body.append(_panel("chosen", f"With {chosen.name}", said, ring, chosen.loads, most, unit, {}))
    if shown:
        body.append(f"<details><summary>{len(shown)} more keys</summary>")
        for number, variant in enumerate(shown):
            said = f"A read of one {escape(key)} asks {variant.about}{variant.reads_mean:,.1f} partitions on average, {variant.about}{variant.reads_most:,} at most."
            name = variant.name if variant.kind == "other" else f"with {variant.name}"
            body.append(_panel(f"other{number}", name[0].upper() + name[1:], said, ring, variant.loads, most, unit, {}))
        body.append("</details>")
    body += [_variants_table(report), _top_table(report, key), _loads_table(report, unit)]
    if hot:
        body.append(f'<h2>Would an advisor see it?</h2><div class="note"><p>{escape(advice(report))}</p></div>')
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _held(report: Report) -> dict[Place, int]:
    """Of each shard, the rows of hot keys."""
    found: dict[Place, int] = {}
    for key in report.top:
        if is_hot(report, key):
            for place in key.replicas:
                found[place] = found.get(place, 0) + key.rows
    return found


def _legend(hot: bool) -> str:
    def item(shape: str, text: str) -> str:
        return f'<li><svg viewBox="0 0 14 12" aria-hidden="true">{shape}</svg>{text}</li>'

    items = [item('<rect class="bar" width="14" height="12"/>', "rows")]
    if hot:
        items.append(item('<rect class="hot" width="14" height="12"/>', "rows of hot keys"))
    items.append(item('<path class="mean" d="M0 6h14"/>', "mean"))
    return f'<ul class="legend">{"".join(items)}</ul>'


def _panel(
    name: str, title: str, said: str, ring: Ring, loads: Loads, most: int, unit: str, held: dict[Place, int]
) -> str:
    even = loads.shards
    figures = f"max/mean {even.max_over_mean:.3f}, CV {even.cv:.3f}, Gini {even.gini:.3f}; largest partition {largest(loads)} rows."
    return (
        f'<div class="panel{" chosen" if name == "chosen" else ""}"><h3>{escape(title)}</h3><p>{said} {figures}</p>'
        f"{_bars(name, title, ring, loads, most, unit, held)}</div>"
    )


def _bars(name: str, title: str, ring: Ring, loads: Loads, most: int, unit: str, held: dict[Place, int]) -> str:
    places = ring.places
    high = max(most, *loads.rows.values(), 1)
    step = _step(high)
    top = -(-high // step) * step
    room = WIDTH - LEFT - RIGHT - (GAP * (len(ring.nodes) - 1) if unit == "shard" else 0)
    wide = room / len(places)
    bar = wide * 0.78 if wide > 4 else wide
    base = HEIGHT - BELOW
    scale = (base - ABOVE) / top
    parts, labels = [], []
    for tick in range(0, top + 1, step):
        y = base - tick * scale
        parts.append(
            f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/><text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    for at, (node, shard) in enumerate(places):
        rows, hot = loads.rows[(node, shard)], min(held.get((node, shard), 0), loads.rows[(node, shard)])
        x = LEFT + at * wide + (GAP * node if unit == "shard" else 0) + (wide - bar) / 2
        label = f"{ring.nodes[node].name}{f' shard {shard}' if unit == 'shard' else ''}: {rows:,} rows"
        parts.append(f"<g><title>{escape(label)}</title>")
        cold = (rows - hot) * scale
        parts.append(f'<rect class="bar" x="{x:.1f}" y="{base - cold:.1f}" width="{bar:.1f}" height="{cold:.1f}"/>')
        if hot:
            parts.append(
                f'<rect class="hot" x="{x:.1f}" y="{base - rows * scale:.1f}" width="{bar:.1f}" height="{hot * scale:.1f}"/>'
            )
        parts.append("</g>")
        middle = x + bar / 2
        if len(places) <= LABELLED:
            times = f"{rows / loads.shards.mean:.2f}" if loads.shards.mean else "0"
            labels.append(
                f'<text class="value" x="{middle:.1f}" y="{base - rows * scale - 5:.1f}" text-anchor="middle">{times}</text>'
            )
            below = str(shard) if unit == "shard" else ring.nodes[node].name
            parts.append(f'<text x="{middle:.1f}" y="{base + 16}" text-anchor="middle">{escape(below)}</text>')
    if unit == "shard":
        at = 0
        for number, holder in enumerate(ring.nodes):
            middle = LEFT + (at + holder.shards / 2) * wide + GAP * number
            if len(ring.nodes) <= LABELLED:
                parts.append(
                    f'<text x="{middle:.1f}" y="{base + 34}" text-anchor="middle">{escape(holder.name)}</text>'
                )
            at += holder.shards
    y = base - loads.shards.mean * scale
    parts.append(f'<path class="mean" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
    worst = max(loads.rows, key=lambda place: loads.rows[place])
    told = (
        f"Bars of {len(places)} {unit}s. The most is {loads.rows[worst]:,} rows, on {ring.nodes[worst[0]].name}"
        f"{f' shard {worst[1]}' if unit == 'shard' else ''}; the mean is {loads.shards.mean:,.0f}."
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-told">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-told">{escape(told)}</desc>{"".join(parts + labels)}</svg>'
    )


def _step(high: int) -> int:
    """Between two lines of the axis: 1, 2 or 5 times a power of ten, and at most six of them."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if high <= 5 * factor * power:
                return factor * power
        power *= 10


def _short(count: int) -> str:
    for unit, name in ((10**9, " bn"), (10**6, " M"), (10**3, " k")):
        if count >= unit:
            return f"{count / unit:g}{name}"
    return str(count)


def _variants_table(report: Report) -> str:
    chosen = best(report)
    rows = [("as it is", report.loads, "1.0", "1", "")]
    for v in report.variants:
        reads = f"{v.about}{v.reads_mean:,.1f}", f"{v.about}{v.reads_most:,}"
        rows.append((v.name, v.loads, *reads, "enough" if v is chosen else ""))
    lines = []
    for name, loads, mean, most, mark in rows:
        even = loads.shards
        figures = [f"{even.max_over_mean:.3f}", f"{even.cv:.3f}", mean, most, mark]
        lines.append([name, f"{loads.partitions:,}", largest(loads), size(loads.largest_bytes), *figures])
    note = (
        f" Buckets and salts are worked out for the {LARGEST:,} largest keys; the others stay where they are."
        if report.keys > LARGEST
        else ""
    )
    caption = f"What other keys would do. Reads: partitions that are read for what is one today.{note}"
    columns = [
        "key",
        "partitions",
        "largest, rows",
        "largest, bytes",
        "max/mean",
        "CV",
        "reads, mean",
        "reads, most",
        "",
    ]
    return f"<h2>Other keys</h2>{_table(caption, columns, lines, words={0, 8})}"


def _top_table(report: Report, key: str) -> str:
    ring = report.ring
    part = "tablet" if ring.has_tablets else "range"
    lines = [
        [", ".join(k.key), f"{k.rows:,}", size(k.bytes), percent(k.share), f"{k.multiple:,.1f}", f"{k.burst.said} ({k.burst.rows:,} rows)" if k.burst else "none",
         str(k.token), str(k.part), " ".join(_named(ring, place) for place in k.replicas)]
        for k in report.top
    ]  # fmt: skip
    hot = {at for at, k in enumerate(report.top) if is_hot(report, k)}
    columns = [key, "rows", "bytes", "share", "x mean", "burst", "token", part, "replicas"]
    return f"<h2>Largest keys</h2>{_table('Replicas are nodes, and shards of them.', columns, lines, words={0, 5, 8}, marked=hot)}"


def _loads_table(report: Report, unit: str) -> str:
    loads, ring = report.loads, report.ring
    mean = loads.shards.mean or 1
    lines = [
        [_named(ring, p), f"{rows:,}", size(loads.bytes[p]), f"{rows / mean:.3f}"] for p, rows in loads.rows.items()
    ]
    return f"<details><summary>Every {unit} as a table</summary>{_table(f'Load of each {unit} today.', [unit, 'rows', 'bytes', 'x mean'], lines, words={0})}</details>"


def _table(
    caption: str, columns: Sequence[str], lines: Iterable[Sequence[str]], words: set[int], marked: Iterable[int] = ()
) -> str:
    def cell(tag: str, at: int, text: str) -> str:
        scope, kind = ' scope="col"' if tag == "th" else "", "" if at in words else ' class="n"'
        return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"

    def line_of(number: int, line: Sequence[str]) -> str:
        kind = ' class="hot-row"' if number in hot else ""
        return f"<tr{kind}>{''.join(cell('td', at, text) for at, text in enumerate(line))}</tr>"

    hot = set(marked)
    head = "".join(cell("th", at, column) for at, column in enumerate(columns))
    body = "".join(line_of(number, line) for number, line in enumerate(lines))
    return f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _named(ring: Ring, place: Place) -> str:
    node = ring.nodes[place[0]]
    return node.name if node.shards == 1 else f"{node.name}/{place[1]}"
