"""What the marts add up to: the same question to everyone's gold, and the golden answers for the real data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import duckdb

Totals = dict[str, dict[str, Decimal]]

MEASURES = {
    "org_daily_usage_by_service": "events cost_usd requests cpu_hours storage_gb_hours genai_tokens carbon_kg events_missing_value",
    "revenue_by_org_month": "subtotal_usd credits_usd taxes_usd net_usd invoices invoices_quarantined",
    "tickets_by_org_date": "tickets sla_breaches csat_n open integration billing availability usability performance security",
    "genai_tokens_by_org_date": "total_tokens cost_usd events",
    "cost_spikes": "anomaly_events anomalous_cost expected_cost excess",
}
GOLDEN: dict[tuple[str, str], int | str] = {
    ("org_daily_usage_by_service", "rows"): 11_050,
    ("org_daily_usage_by_service", "cost_usd"): "148351.5759",
    ("org_daily_usage_by_service", "requests"): 2_281_020,
    ("org_daily_usage_by_service", "cpu_hours"): "19739.9555",
    ("org_daily_usage_by_service", "storage_gb_hours"): "130689.3655",
    ("org_daily_usage_by_service", "carbon_kg"): "365.561219",
    ("org_daily_usage_by_service", "genai_tokens"): 2_545_481,
    ("org_daily_usage_by_service", "events_missing_value"): 873,
    ("revenue_by_org_month", "invoices"): 227,
    ("revenue_by_org_month", "invoices_quarantined"): 13,
    ("tickets_by_org_date", "rows"): 984,
    ("tickets_by_org_date", "tickets"): 1_000,
    ("tickets_by_org_date", "sla_breaches"): 95,
    ("tickets_by_org_date", "open"): 240,
    ("genai_tokens_by_org_date", "rows"): 848,
    ("genai_tokens_by_org_date", "events"): 3_115,
    ("genai_tokens_by_org_date", "cost_usd"): "22261.1260",
    ("cost_spikes", "rows"): 150,
    ("cost_spikes", "anomaly_events"): 151,
}
"""Of the real landing folder (docs of the project; computed by other programs)."""


def of_parquet(gold: Path) -> Totals:
    """The totals of ``<gold>/<mart>``, a Parquet file or a folder of them."""
    return _totals({mart: [str(p) for p in _files(gold / mart, gold / f"{mart}.parquet")] for mart in MEASURES})


def of_headrace(folder: Path) -> Totals:
    """The totals of a project's lake, in the versions that its Delta log names."""
    from deltalake import DeltaTable

    return _totals({mart: DeltaTable(str(folder / ".headrace/lake/gold" / mart)).file_uris() for mart in MEASURES})


def _files(folder: Path, file: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet")) if folder.is_dir() else [file]


def _totals(files: Mapping[str, list[str]]) -> Totals:
    found = {}
    with duckdb.connect() as connection:
        for mart, names in MEASURES.items():
            wanted = ["rows", *names.split()]
            sums = ", ".join(f"CAST(sum({name}) AS DECIMAL(38,6))" for name in wanted[1:])
            rows = connection.execute(
                f"SELECT CAST(count(*) AS DECIMAL(38,6)), {sums} FROM read_parquet({files[mart]})"
            ).fetchall()
            found[mart] = dict(zip(wanted, rows[0], strict=True))
    return found


def check(of: Mapping[str, Totals], *, golden: bool) -> str:
    """Stops where two programs do not agree to the last digit, or not with the golden figures; else says what agreed."""
    first, *others = of
    wrong = [
        f"{mart}.{name}: {first} {value}, {other} {of[other][mart][name]}"
        for other in others
        for mart, values in of[first].items()
        for name, value in values.items()
        if of[other][mart][name] != value
    ]
    if golden:
        wrong += [
            f"{mart}.{name}: {first} {of[first][mart][name]}, golden {value}"
            for (mart, name), value in GOLDEN.items()
            if of[first][mart][name] != Decimal(value)
        ]
    if wrong:
        sys.exit("the totals differ, so the times mean nothing:\n" + "\n".join(wrong))
    figures = sum(len(values) for values in of[first].values())
    return f"{figures} totals of {len(MEASURES)} marts are equal in {', '.join(of)}" + (
        f", and {len(GOLDEN)} are the golden ones" if golden else ""
    )
