"""replay: corrected records enter bronze, each naming the record that it replaces, which is void from then on.

A replayed record's file is ``_replay/<hash of what was replayed>`` and its row is the offset of its origin, so that who
replaced whom is told by bronze itself. It enters the source's own lane; where the origin is of another one, the file's
name ends in that.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

import pyarrow as pa

from headrace import formats
from headrace.errors import ContractError, nearest
from headrace.flow import manifest
from headrace.flow.land import arrival_schema
from headrace.flow.manifest import REPLAY, Landed
from headrace.flow.quarantine import REJECTED, Quarantine, corrected
from headrace.model.source import Source
from headrace.sql.judge import silver_columns
from headrace.sql.landing import landing_sql


def replay(quarantine: Quarantine, name: str, text: str) -> tuple[int, list[str]]:
    """Appends corrected records (JSON lines of origin and record); gives how many, and the origins that were replayed
    before.

    Raises ContractError HR0305 where an origin is not quarantined, before anything is written.
    """
    lake, engine = quarantine.lake, quarantine.engine
    source = quarantine.source(name)
    bronze, silver = lake.snapshot(f"bronze/{name}"), lake.snapshot(f"silver/{name}")
    if bronze is None or silver is None:
        raise ContractError("HR0305", f"{name} has no quarantined records", help="headrace quarantine ls")
    known = manifest.load(lake, engine)
    replaced = manifest.replaced(source, lake, engine, known)
    entries = list(corrected(source, text))
    again = [f"{lane}:{offset}" for (lane, offset), _ in entries if offset in replaced.get(lane, ())]
    new = {origin: record for origin, record in entries if origin[1] not in replaced.get(origin[0], ())}
    scan = engine.scan(silver.files, silver_columns(source))
    rejected = set(engine.rows(f"SELECT _lane, _offset FROM {scan} WHERE {REJECTED}"))
    sent = {source.sent(c.name) for c in source.columns}
    for (lane, offset), record in new.items():
        unknown = next((n for n in record if n not in sent), None)
        if unknown is not None:
            raise ContractError(
                "HR0305", f"{lane}:{offset} has a field '{unknown}' that {name} does not", help=nearest(unknown, sent)
            )
        if (lane, offset) not in rejected:
            raise ContractError(
                "HR0305", f"{lane}:{offset} is not quarantined", help=f"headrace quarantine show {name}"
            )
    if not new:
        return 0, again
    start = bronze.transaction(name) or 0
    digest = hashlib.sha256(json.dumps(sorted(new.items())).encode()).hexdigest()
    engine.offer("_arrivals", _arrivals(source, new, digest, start))
    path = lake.new_file(f"bronze/{name}")
    rows = engine.write(landing_sql(source, formats.columns(source)), path)
    lake.commit(f"bronze/{name}", [(path, rows)], keep=None, base=bronze, transactions={name: start + rows})
    now = dt.datetime.now(dt.UTC).isoformat()
    file = f"{REPLAY}{digest[:12]}"
    manifest.append(lake, engine, [Landed(name, file, len(text), 0, digest, rows, start, start + rows, "", now)])
    return len(new), again


def _arrivals(source: Source, records: dict[tuple[str, int], dict[str, Any]], digest: str, start: int) -> pa.Table:
    """Corrected records as if they had been read from a file."""
    schema = arrival_schema(source)
    columns: dict[str, list[Any]] = {f.name: [] for f in schema}
    for position, ((lane, origin), record) in enumerate(records.items()):
        fixed = {
            "_file": f"{REPLAY}{digest[:12]}" + (f"/{lane}" if lane != source.name else ""),
            "_sha256": digest,
            "_offset": start + position,
            "_row": origin,
            "_line": json.dumps(record, ensure_ascii=False),
        }
        for column, values in columns.items():
            sent = record.get(column)
            values.append(
                fixed[column]
                if column in fixed
                else None
                if sent is None
                else sent
                if isinstance(sent, str)
                else json.dumps(sent)
            )
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema})
