"""The cloud project on the real data: every golden of its specification, and every row against an independent oracle."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headrace.app import App
from headrace.model.run import Run
from tests.data import landing as landing_of
from tests.journeys.cloud_tables import ask, detector_lines, label_lines, opened, quality_lines
from tests.kit import Quiet
from tests.oracle import cloud as oracle

D = Decimal
Row = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
ALL_DAYS = {"from_": "2025-07-01", "to": "2025-08-31"}
BIG_ORG = "org_53lc58dr"


@pytest.fixture(scope="session")
def landing() -> Path:
    return landing_of("cloud")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def ran(folder: Path, landing: Path) -> tuple[App, Run]:
    app = opened(folder, landing)
    observer = Quiet()
    run = app.run(observer)
    assert observer.alarms == []
    return app, run


@pytest.fixture(scope="session")
def app(ran: tuple[App, Run]) -> App:
    return ran[0]


@pytest.fixture(scope="session")
def gold(app: App) -> Callable[[str], list[Row]]:
    """SQL over the project's datasets and finished marts, as the engine sees them."""
    app.gold.define()

    def rows(sql: str) -> list[Row]:
        names = [name for name, _ in app.engine.describe(sql)]
        return [dict(zip(names, row, strict=True)) for row in app.engine.rows(sql)]

    return rows


@pytest.fixture(scope="session")
def con(landing: Path) -> duckdb.DuckDBPyConnection:
    return oracle.connect(landing)


@pytest.fixture(scope="session")
def org_ids(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [org for (org,) in con.execute("select org_id from orgs order by 1").fetchall()]


def rounded(value: Any, places: int) -> Decimal | None:
    """As answers round: exact, half away from zero."""
    if value is None:
        return None
    exact = Fraction(value)
    whole = int(abs(exact) * 10**places + Fraction(1, 2))
    return D(whole if exact >= 0 else -whole).scaleb(-places)


def alike(found: Any, expected: Any, places: int = 6) -> bool:
    """Whether an answer's value is the oracle's; a quotient is compared as answers round it."""
    if expected is None or found is None:
        return found is expected
    if isinstance(expected, date):
        return bool(found == expected.isoformat())
    if isinstance(expected, Fraction):
        return D(found) == rounded(expected, places)
    if isinstance(expected, str):
        return bool(found == expected)
    return D(str(found)) == D(str(expected))


def differences(found: list[Row], expected: list[Row], key: tuple[str, ...], places: dict[str, int]) -> Iterator[str]:
    """What is wrong with the rows of an answer: the columns that both have are compared."""
    by_key = {tuple(str(row[k]) for k in key): row for row in expected}
    assert len(by_key) == len(expected)
    seen = {tuple(str(row[k]) for k in key): row for row in found}
    if len(seen) != len(found) or seen.keys() != by_key.keys():
        yield f"{len(found)} rows, {len(expected)} expected; {sorted(seen.keys() ^ by_key.keys())[:5]}"
        return
    for name, row in seen.items():
        for column in row.keys() & by_key[name].keys():
            value = by_key[name][column]
            wanted = rounded(value, places[column]) if column in places and value is not None else value
            if not alike(row[column], wanted):
                yield f"{name}.{column}: {row[column]} found, {value} expected"


# Every row of the five marts


MARTS: dict[str, tuple[Callable[[Path], list[Row]], tuple[str, ...], int]] = {
    "org_daily_usage_by_service": (oracle.org_daily_usage_by_service, ("org_id", "usage_date", "service"), 11_050),
    "revenue_by_org_month": (oracle.revenue_by_org_month, ("org_id", "month"), 240),
    "tickets_by_org_date": (oracle.tickets_by_org_date, ("org_id", "created_date", "severity"), 984),
    "genai_tokens_by_org_date": (oracle.genai_tokens_by_org_date, ("org_id", "usage_date"), 848),
    "cost_spikes": (oracle.cost_spikes, ("org_id", "usage_date", "service"), 150),
}


@pytest.mark.parametrize("mart", MARTS)
def test_every_row_of_a_mart_is_the_oracles(mart: str, landing: Path, gold: Callable[[str], list[Row]]) -> None:
    rows_of, key, count = MARTS[mart]
    found = {tuple(row[k] for k in key): row for row in gold(f"SELECT * FROM {mart}")}
    expected = {tuple(row[k] for k in key): row for row in rows_of(landing)}
    assert len(found) == len(expected) == count
    assert found.keys() == expected.keys()
    columns = set(next(iter(expected.values())))
    assert columns <= set(next(iter(found.values()))), "a column of the oracle is missing"
    for name, row in expected.items():
        for column, value in row.items():
            have = found[name][column]
            # The engine finishes quotients as doubles; answers are exact and compared below.
            wanted = pytest.approx(float(value), rel=1e-12) if isinstance(value, Fraction) else value
            assert have == wanted, (name, column)


def test_every_row_of_usage_as_answered(app: App, landing: Path, org_ids: list[str]) -> None:
    found = [{"org_id": org, **row} for org in org_ids for row in ask(app, "usage", org=org, **ALL_DAYS)]
    expected = oracle.org_daily_usage_by_service(landing)
    assert len(found) == 11_050
    assert set(expected[0]) <= set(found[0])
    assert list(differences(found, expected, ("org_id", "usage_date", "service"), {})) == []


def test_every_row_of_revenue_as_answered(app: App, landing: Path, org_ids: list[str]) -> None:
    found = [{"org_id": org, **row} for org in org_ids for row in ask(app, "revenue", org=org)]
    expected = oracle.revenue_by_org_month(landing)
    places = dict.fromkeys(("subtotal_usd", "credits_usd", "taxes_usd", "net_usd"), 4)
    assert len(found) == 240
    assert set(expected[0]) <= set(found[0])
    assert list(differences(found, expected, ("org_id", "month"), places)) == []


def test_every_row_of_tickets_as_answered(app: App, landing: Path, org_ids: list[str]) -> None:
    days = {"from_": "2025-05-01", "to": "2025-08-31"}
    found = [{"org_id": org, **row} for org in org_ids for row in ask(app, "org_tickets", org=org, **days)]
    expected = oracle.tickets_by_org_date(landing)
    assert len(found) == 984
    assert set(expected[0]) <= set(found[0])
    assert list(differences(found, expected, ("org_id", "created_date", "severity"), {})) == []


def test_every_row_of_genai_as_answered(app: App, landing: Path, org_ids: list[str]) -> None:
    found = [{"org_id": org, **row} for org in org_ids for row in ask(app, "genai", org=org, **ALL_DAYS)]
    expected = oracle.genai_tokens_by_org_date(landing)
    assert len(found) == 848
    assert set(expected[0]) <= set(found[0])
    assert list(differences(found, expected, ("org_id", "usage_date"), {"cost_per_million": 4})) == []


def test_every_cost_spike_as_answered(app: App, landing: Path, org_ids: list[str]) -> None:
    expected = oracle.cost_spikes(landing)
    every = ask(app, "cost_spikes", limit=1000, **ALL_DAYS)
    assert len(every) == 150
    assert set(expected[0]) <= set(every[0])
    assert list(differences(every, expected, ("org_id", "usage_date", "service"), {})) == []
    excesses = [D(row["excess"]) for row in every]
    assert excesses == sorted(excesses, reverse=True)
    one_by_one = [row for org in org_ids for row in ask(app, "cost_spikes", org=org, limit=1000, **ALL_DAYS)]
    assert sorted(map(str, one_by_one)) == sorted(map(str, every))


def test_tickets_of_a_severity_are_the_oracles_added_up(app: App, landing: Path) -> None:
    rows = oracle.tickets_by_org_date(landing)
    for severity in ("low", "medium", "high", "critical"):
        days: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["severity"] == severity:
                days[row["created_date"].isoformat()].append(row)
        found = ask(app, "tickets", severity=severity, from_="2025-05-01", to="2025-08-31")
        assert [row["created_date"] for row in found] == sorted(days)
        for row in found:
            parts = days[row["created_date"]]
            tickets, breaches = sum(p["tickets"] for p in parts), sum(p["sla_breaches"] for p in parts)
            scores = [p["csat_avg"] * p["csat_n"] for p in parts if p["csat_n"]]
            count = sum(p["csat_n"] for p in parts)
            assert (row["tickets"], row["sla_breaches"], row["csat_n"]) == (tickets, breaches, count)
            assert alike(row["sla_breach_rate"], Fraction(breaches, tickets))
            assert alike(row["csat_avg"], sum(scores, Fraction(0)) / count if count else None)


# The goldens of the specification (marts and queries)


def test_q1_usage(app: App) -> None:
    rows = ask(app, "usage", org=BIG_ORG, from_="2025-08-29", to="2025-08-31")
    found = [(r["usage_date"][5:], r["service"], r["cost_usd"], int(D(r["requests"]))) for r in rows]
    assert found == [
        ("08-29", "analytics", "17.2923", 234), ("08-29", "compute", "0.4647", 0), ("08-29", "database", "10.3658", 201),
        ("08-29", "networking", "1.2445", 109), ("08-30", "compute", "11.3755", 112), ("08-30", "database", "19.2887", 365),
        ("08-30", "genai", "33.0729", 243), ("08-30", "networking", "3.4050", 321), ("08-30", "storage", "2.6326", 114),
        ("08-31", "analytics", "47.3679", 604), ("08-31", "compute", "1.0125", 0), ("08-31", "database", "1.7011", 0),
        ("08-31", "genai", "15.1432", 112), ("08-31", "storage", "2.6436", 125),
    ]  # fmt: skip


def test_q2_top_services_of_14_days(app: App) -> None:
    rows = ask(app, "top_services", org=BIG_ORG, from_="2025-08-18", to="2025-08-31", limit=3)
    assert [(r["service"], r["cost_usd"]) for r in rows] == [
        ("analytics", "282.0746"),
        ("genai", "271.2743"),
        ("compute", "237.4770"),
    ]


def test_q3_critical_tickets_of_30_days(app: App) -> None:
    days = {"from_": "2025-08-02", "to": "2025-08-31"}
    rows = ask(app, "tickets", severity="critical", **days)
    assert (len(rows), sum(r["tickets"] for r in rows), sum(r["sla_breaches"] for r in rows)) == (15, 17, 0)
    assert {r["created_date"] for r in rows if r["tickets"] == 2} == {"2025-08-04", "2025-08-20"}
    assert max(r["tickets"] for r in rows) == 2
    of_all = {r["severity"]: (r["tickets"], r["sla_breaches"]) for r in ask(app, "severities", **days)}
    assert of_all == {"critical": (17, 0), "high": (55, 9), "medium": (78, 8), "low": (96, 13)}


def test_q4_revenue(app: App) -> None:
    rows = ask(app, "revenue", org=BIG_ORG)
    assert [(r["month"], r["currency"], D(r["net_usd"])) for r in rows] == [
        ("2025-06-01", "EUR", D("1404.2948")),
        ("2025-07-01", "USD", D("583.27")),
        ("2025-08-01", "USD", D("263.27")),
    ]
    assert [D(r["fx_applied"]) for r in rows] == [D("1.11029"), 1, 1]


def test_q5_genai(app: App) -> None:
    rows = ask(app, "genai", org="org_pbhsahxt", from_="2025-08-27", to="2025-08-31")
    assert [(r["total_tokens"], r["cost_usd"]) for r in rows] == [
        (1_777, "2.5819"), (4_885, "43.9459"), (2_210, "16.7402"), (5_401, "34.0184"), (2_488, "24.7227"),
    ]  # fmt: skip


def test_totals(app: App) -> None:
    (row,) = ask(app, "summary")
    assert {name: D(str(value)) for name, value in row.items()} == {
        "cost_usd": D("148351.5759"), "events": 42_989, "organisations": 80, "requests": 2_281_020,
        "cpu_hours": D("19739.9555"), "storage_gb_hours": D("130689.3655"), "genai_tokens": 2_545_481,
        "carbon_kg": D("365.561219"), "events_missing_value": 873,
    }  # fmt: skip


def test_cost_by_service(app: App) -> None:
    totals: defaultdict[str, Decimal] = defaultdict(D)
    for row in ask(app, "costs", **ALL_DAYS):
        totals[row["service"]] += D(row["cost_usd"])
    assert totals == {
        "compute": D("62052.1153"), "genai": D("29710.4435"), "database": D("22787.9980"),
        "analytics": D("19966.6859"), "storage": D("9458.6502"), "networking": D("4375.6830"),
    }  # fmt: skip


def test_top_organisations(app: App) -> None:
    rows = ask(app, "top_orgs", limit=3, **ALL_DAYS)
    assert [(r["org_id"], r["cost_usd"]) for r in rows] == [
        ("org_53lc58dr", "4389.4683"), ("org_chj755nf", "4367.5677"), ("org_kdgigatj", "4351.4633"),
    ]  # fmt: skip


def test_revenue_totals(app: App) -> None:
    rows = ask(app, "revenue_by_month")
    totals = [sum(D(r[c]) for r in rows) for c in ("subtotal_usd", "credits_usd", "taxes_usd", "net_usd")]
    assert totals == pytest.approx([D("143569.08"), D("1466.46"), D("30149.59"), D("172252.22")], abs=D("0.02"))
    assert sum(r["invoices"] for r in rows) == 227
    assert sum(r["invoices_quarantined"] for r in rows) == 13


def test_revenue_total_to_the_cent(gold: Callable[[str], list[Row]]) -> None:
    (row,) = gold(
        "SELECT sum(subtotal_usd) AS s, sum(credits_usd) AS c, sum(taxes_usd) AS t, sum(net_usd) AS n FROM revenue_by_org_month"
    )
    found = [rounded(row[name], 2) for name in ("s", "c", "t", "n")]
    assert found == [D("143569.08"), D("1466.46"), D("30149.59"), D("172252.22")]


def test_spike_totals(app: App) -> None:
    rows = ask(app, "cost_spikes", limit=1000, **ALL_DAYS)
    by_service: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        by_service[row["service"]] += row["anomaly_events"]
    assert by_service == {"analytics": 16, "compute": 52, "database": 24, "genai": 11, "networking": 20, "storage": 28}
    assert len({r["org_id"] for r in rows}) == 62
    assert rounded(sum(D(r["excess"]) for r in rows), 2) == D("10321.15")
    assert rounded(sum(D(r["anomalous_cost"]) for r in rows), 2) == D("10844.51")
    top = rows[0]
    assert (top["org_id"], top["usage_date"], top["service"]) == ("org_c11ertj5", "2025-07-11", "genai")
    assert (top["anomalous_cost"], top["max_multiple"]) == ("317.4308", "23.95")
    assert {r["rule_version"] for r in rows} == {1}
    assert all(r["methods"].startswith("price per unit") for r in rows)


# Detectors


def test_the_spike_events_are_the_derived_truth(app: App, landing: Path, org_ids: list[str]) -> None:
    found = [row["event_id"] for org in org_ids for row in ask(app, "spike_events", org=org, limit=1000, **ALL_DAYS)]
    assert len(found) == 151
    assert set(found) == oracle.spikes(landing)


ORACLES_NAME = {"z_3": "z_score", "global_mad_3": "global_mad", "percentile": "percentile"}


def test_detectors_are_the_oracles(app: App, landing: Path) -> None:
    rows = {row["detector"]: row for row in ask(app, "detectors")}
    expected = oracle.detectors(landing)
    assert rows.keys() == expected.keys() | {"percentile"}
    for name, (flags, true) in expected.items():
        row = rows[name]
        assert (row["flags"], row["true_flags"], row["spikes"]) == (flags, true, 151), name
        assert alike(row["precision"], rounded(Fraction(true, flags), 4)), name
        assert alike(row["recall"], rounded(Fraction(true, 151), 4)), name
    for name, oracles in ORACLES_NAME.items():
        assert (rows[name]["landed_flags"], rows[name]["clean_flags"]) == oracle.original_flags(landing)[oracles], name
    assert all(
        row["labels"] == 0 and row["label_precision"] is None and row["label_recall"] is None for row in rows.values()
    )
    assert [row["detector"] for row in rows.values() if row["role"] == "decides"] == ["rate_mad_8"]


def test_generated_labels_score_the_detectors(tmp_path: Path) -> None:
    app = opened(tmp_path / "project", tmp_path / "files")
    app.generate(0.25, 3, None)
    app.run(Quiet())
    # Which planted spikes are left to be found, read from the files alone.
    labels, reachable = (
        duckdb.connect()
        .execute(
            f"SELECT count(*) FILTER (NOT sign_turned), count(*) FILTER (NOT sign_turned AND NOT value_lost) "
            f"FROM read_csv('{tmp_path}/files/labels/spikes.csv')"
        )
        .fetchall()[0]
    )
    assert labels > 20
    rows = {row["detector"]: row for row in ask(app, "detectors")}
    assert {row["labels"] for row in rows.values()} == {labels}
    decides = rows["rate_mad_8"]
    assert decides["true_labels"] == reachable
    assert alike(decides["label_recall"], rounded(Fraction(reachable, labels), 4))
    assert alike(decides["label_precision"], rounded(Fraction(reachable, decides["clean_flags"]), 4))
    assert D(decides["label_precision"]) > D("0.95")
    # The price that a spike stands out from is the one that the generator drew by.
    assert D(rows["global_mad_3"]["label_precision"]) < D("0.05")


# Contracts and rules


def test_landed_is_clean_quarantined_and_repeats(ran: tuple[App, Run], con: duckdb.DuckDBPyConnection) -> None:
    app, _ = ran
    by_source: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in ask(app, "quality"):
        if row["kind"] in ("landed", "clean"):
            by_source[row["source"]][row["kind"]] = row["records"]
    landed = {
        source: con.execute(f"select count(*) from landed_{source}").fetchall()[0][0] for source in oracle.CSV_SOURCES
    }
    landed["usage_events"] = con.execute("select count(*) from landed_events").fetchall()[0][0]
    assert {source: counts["landed"] for source, counts in by_source.items()} == landed
    quarantined = {source: counts["landed"] - counts["clean"] for source, counts in by_source.items()}
    assert {source: count for source, count in quarantined.items() if count} == {
        "usage_events": 211,
        "billing_monthly": 13,
    }


BEFORE_SIGNUP = ("flagged", "before the organisation signed up")
# Every rule of the oracle, and where the project counts it. Two lines for one rule are added up.
COUNTED: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("customers_orgs", "nps_score_out_of_range"): (("repaired", "NPS outside -100 to 100"),),
    ("customers_orgs", "enterprise_flag_contradicts_plan"): (
        ("flagged", "enterprise plan, not marked enterprise"), ("flagged", "marked enterprise, on another plan")),
    ("customers_orgs", "enterprise_plan_flagged_false"): (("flagged", "enterprise plan, not marked enterprise"),),
    ("customers_orgs", "other_plan_flagged_true"): (("flagged", "marked enterprise, on another plan"),),
    ("users", "created_before_org_signup"): (BEFORE_SIGNUP,),
    ("users", "last_login_before_created"): (("flagged", "last login before creation"),),
    ("users", "inactive_with_login"): (("flagged", "inactive, has a login"),),
    ("users", "active_without_login"): (("flagged", "active, never logged in"),),
    ("resources", "created_before_org_signup"): (BEFORE_SIGNUP,),
    ("resources", "tag_conflict_alpha_beta"): (("flagged", "tagged both costcenter:alpha and costcenter:beta"),),
    ("resources", "tag_conflict_dev_prod"): (("flagged", "tagged both env:dev and env:prod"),),
    ("resources", "tag_conflict_ml_core"): (("flagged", "tagged both team:ml and team:core"),),
    ("support_tickets", "csat_out_of_range"): (("repaired", "csat outside 1 to 5"),),
    ("support_tickets", "created_before_org_signup"): (BEFORE_SIGNUP,),
    ("support_tickets", "resolved_after_data_end"): (("flagged", "resolved after the end of the data"),),
    ("support_tickets", "resolved_before_created"): (("flagged", "resolved before creation"),),
    ("support_tickets", "resolved_on_created_date"): (("flagged", "resolved on the day of creation"),),
    ("support_tickets", "csat_on_open_ticket"): (("flagged", "csat on an open ticket"),),
    ("marketing_touches", "touch_before_org_signup"): (BEFORE_SIGNUP,),
    ("marketing_touches", "converted_without_click"): (("flagged", "converted without a click"),),
    ("nps_surveys", "nps_score_out_of_range"): (("quarantined", "NPS outside -100 to 100"),),
    ("nps_surveys", "survey_before_org_signup"): (BEFORE_SIGNUP,),
    ("billing_monthly", "tax_sign_mismatch"): (("quarantined", "tax_sign_mismatch"),),
    ("billing_monthly", "usd_rate_not_one"): (("repaired", "USD rate is 1"),),
    ("billing_monthly", "credits_missing"): (("repaired", "no credits"),),
    ("usage_events", "cost_below_floor"): (("quarantined", "negative cost"),),
    ("usage_events", "value_as_text"): (("flagged", "value sent as text"),),
    ("usage_events", "unit_missing"): (("repaired", "unit taken from the metric"),),
    ("usage_events", "carbon_zero_without_value"): (("repaired", "carbon of 0 without a value"),),
    ("usage_events", "value_missing"): (("flagged", "value missing"),),
    ("usage_events", "before_resource_creation"): (("flagged", "before the resource was created"),),
    ("usage_events", "on_terminated_resource"): (("flagged", "on a terminated resource"),),
    ("usage_events", "on_stopped_resource"): (("flagged", "on a stopped resource"),),
    ("usage_events", "before_org_signup"): (BEFORE_SIGNUP,),
    ("usage_events", "on_churned_org"): (("flagged", "of a churned organisation"),),
    ("usage_events", "on_lead_or_prospect_org"): (("flagged", "of a lead or prospect"),),
}  # fmt: skip
# Counted as rows of another query: an organisation is no record of a source.
ELSEWHERE = {("billing_monthly", "org_changes_currency")}


@pytest.fixture(scope="session")
def rules(landing: Path) -> dict[tuple[str, str], int]:
    return {(source, rule): n for source, counts in oracle.rule_counts(landing).items() for rule, n in counts.items()}


@pytest.fixture(scope="session")
def quality(app: App) -> dict[tuple[str, str, str], int]:
    return {(row["source"], row["kind"], row["reason"]): row["records"] for row in ask(app, "quality")}


def test_every_rule_of_the_oracle_is_counted_somewhere(rules: dict[tuple[str, str], int]) -> None:
    assert rules.keys() == COUNTED.keys() | ELSEWHERE


@pytest.mark.parametrize(("source", "rule"), COUNTED, ids=[f"{s}-{r}" for s, r in COUNTED])
def test_a_rule_finds_as_many_records_as_the_oracle(
    source: str, rule: str, rules: dict[tuple[str, str], int], quality: dict[tuple[str, str, str], int]
) -> None:
    assert sum(quality.get((source, *line), 0) for line in COUNTED[source, rule]) == rules[source, rule]


def test_nothing_is_found_that_the_oracle_does_not_count(
    quality: dict[tuple[str, str, str], int], con: duckdb.DuckDBPyConnection
) -> None:
    known = {(source, *line) for (source, _), lines in COUNTED.items() for line in lines}
    rest = {name: n for name, n in quality.items() if name not in known and name[1] not in ("landed", "clean")}
    without_score = con.execute("select count(*) from surveys where nps_score is null").fetchall()[0][0]
    assert rest == {("nps_surveys", "flagged", "score missing"): without_score}


def test_one_source_is_its_part_of_all(app: App, quality: dict[tuple[str, str, str], int]) -> None:
    for source in {name[0] for name in quality}:
        found = {(r["source"], r["kind"], r["reason"]): r["records"] for r in ask(app, "quality", source=source)}
        assert found == {name: n for name, n in quality.items() if name[0] == source}


def test_quarantine_by_day_adds_up(app: App, con: duckdb.DuckDBPyConnection) -> None:
    expected = con.execute(
        "select cast(usage_date as varchar), count(*) from events where not clean group by 1 order by 1"
    ).fetchall()
    assert [(r["day"], r["records"]) for r in ask(app, "quarantine_by_day", source="usage_events")] == expected


def test_organisations_that_change_currency(app: App, rules: dict[tuple[str, str], int]) -> None:
    rows = ask(app, "currency_changes", limit=1000)
    assert len(rows) == rules["billing_monthly", "org_changes_currency"] == 50


def test_repairs_of_values(gold: Callable[[str], list[Row]], con: duckdb.DuckDBPyConnection) -> None:
    found = gold("SELECT event_id, metric, unit, value, carbon_kg, cost_usd FROM usage_events ORDER BY event_id")
    expected = con.execute(
        """
        select event_id, metric, value, case when value is not null then carbon_kg end, cost
        from events where clean order by event_id
        """
    ).fetchall()
    assert [(r["event_id"], r["metric"], r["value"], r["carbon_kg"], r["cost_usd"]) for r in found] == expected
    units = {("requests", "count"), ("cpu_hours", "hours"), ("storage_gb_hours", "gb_hours")}
    assert {(r["metric"], r["unit"]) for r in found} == units


def test_no_query_shows_an_email_address(app: App) -> None:
    for query in app.project.queries.values():
        shown = {c.name for c in query.columns} | {name for table in query.tables for name in table.columns}
        assert not {"email", "user_id"} & shown, query.name


# Open points: visible, and not put right


def test_pesos_have_the_size_of_dollars(app: App) -> None:
    rows = [row for row in ask(app, "currencies") if row["currency"] == "ARS"]
    assert sum(row["invoices"] for row in rows) == 49
    assert sum(D(row["subtotal"]) for row in rows) == D("43155.85")
    assert rounded(sum(D(row["net_usd"]) for row in rows), 2) == D("78.11")


def test_invoices_do_not_follow_usage(app: App, con: duckdb.DuckDBPyConnection) -> None:
    rows = ask(app, "invoice_variance", month="2025-07-01")
    assert len(rows) == 80
    usage = dict(
        con.execute(
            "select org_id, sum(cost) from events where clean and monthname(usage_date) = 'July' group by org_id"
        ).fetchall()
    )
    assert {row["org_id"]: D(row["usage_usd"]) for row in rows if row["usage_usd"] is not None} == usage
    dollars = [(float(r["usage_usd"]), float(r["subtotal_usd"])) for r in rows if r["currency"] == "USD"]
    assert len(dollars) == 52
    assert round(correlation(dollars), 2) == -0.03
    for row in rows:
        if row["subtotal_usd"] is not None:
            assert D(row["variance_usd"]) == pytest.approx(
                D(row["subtotal_usd"]) - D(row["usage_usd"]), abs=D("0.0001")
            )


def correlation(pairs: list[tuple[float, float]]) -> float:
    n = len(pairs)
    mean_x, mean_y = sum(x for x, _ in pairs) / n, sum(y for _, y in pairs) / n
    products = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    squares = sum((x - mean_x) ** 2 for x, _ in pairs) * sum((y - mean_y) ** 2 for _, y in pairs)
    return products / math.sqrt(squares)


def test_tokens_do_not_explain_cost(app: App) -> None:
    (row,) = ask(app, "genai_price_check")
    assert round(float(row["correlation"]), 2) == 0.02
    assert row["events"] == 3_115


def test_resolution_does_not_tell_a_broken_sla(app: App, con: duckdb.DuckDBPyConnection) -> None:
    expected = con.execute(
        """
        select sla_breached, count(*), count(resolved_date), cast(sum(resolved_date - created_date) as bigint)
        from tickets group by 1 order by 1
        """
    ).fetchall()
    found = ask(app, "resolution_by_breach")
    assert [(r["sla_breached"], r["tickets"], r["resolved"]) for r in found] == [row[:3] for row in expected]
    for row, (_, _, resolved, days) in zip(found, expected, strict=True):
        assert alike(row["avg_resolution_hours"], rounded(Fraction(24 * days, resolved), 1))


# Late files


@pytest.mark.slow
def test_files_that_come_in_two_runs_give_the_same_answers(app: App, landing: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    shutil.copytree(landing, files)
    late = [
        *sorted((files / "usage_events_stream").iterdir())[::3],
        files / "billing_monthly.csv",
        files / "customers_orgs.csv",
    ]
    held = tmp_path / "held"
    for file in late:
        target = held / file.relative_to(files)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)
    other = opened(tmp_path / "project", files)
    other.run(Quiet())
    assert ask(other, "summary") != ask(app, "summary")
    shutil.copytree(held, files, dirs_exist_ok=True)
    other.run(Quiet())
    for query in ("summary", "quality", "detectors", "currencies", "currency_changes", "revenue_by_month", "orgs"):
        assert ask(other, query) == ask(app, query), query
    for query in ("costs", "top_orgs", "severities"):
        assert ask(other, query, **ALL_DAYS) == ask(app, query, **ALL_DAYS), query
    spikes = {"limit": 1000, **ALL_DAYS}
    assert ask(other, "cost_spikes", **spikes) == ask(app, "cost_spikes", **spikes)
    assert other.run(Quiet()).generation is None


# FOCUS

# FOCUS 1.2 (github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, tag v1.2, specification/columns/): every column, and
# whether it allows nulls.
FOCUS_COLUMNS = {
    "AvailabilityZone": True, "BilledCost": False, "BillingAccountId": False, "BillingAccountName": True,
    "BillingAccountType": False, "BillingCurrency": False, "BillingPeriodEnd": False, "BillingPeriodStart": False,
    "CapacityReservationId": True, "CapacityReservationStatus": True, "ChargeCategory": False, "ChargeClass": True,
    "ChargeDescription": True, "ChargeFrequency": False, "ChargePeriodEnd": False, "ChargePeriodStart": False,
    "CommitmentDiscountCategory": True, "CommitmentDiscountId": True, "CommitmentDiscountName": True,
    "CommitmentDiscountQuantity": True, "CommitmentDiscountStatus": True, "CommitmentDiscountType": True,
    "CommitmentDiscountUnit": True, "ConsumedQuantity": True, "ConsumedUnit": True, "ContractedCost": False,
    "ContractedUnitPrice": True, "EffectiveCost": False, "InvoiceId": True, "InvoiceIssuerName": False,
    "ListCost": False, "ListUnitPrice": True, "PricingCategory": True, "PricingCurrency": True,
    "PricingCurrencyContractedUnitPrice": True, "PricingCurrencyEffectiveCost": True,
    "PricingCurrencyListUnitPrice": True, "PricingQuantity": True, "PricingUnit": True, "ProviderName": False,
    "PublisherName": False, "RegionId": True, "RegionName": True, "ResourceId": True, "ResourceName": True,
    "ResourceType": True, "ServiceCategory": False, "ServiceName": False, "ServiceSubcategory": False, "SkuId": True,
    "SkuMeter": True, "SkuPriceDetails": True, "SkuPriceId": True, "SubAccountId": True, "SubAccountName": True,
    "SubAccountType": True, "Tags": True,
}  # fmt: skip
OURS = ["x_AnomalyScore", "x_CarbonKg", "x_Events", "x_ExchangeRateToUsd", "x_GenaiTokens", "x_TagConflicts"]
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other", ""},
    "ServiceCategory": {
        "AI and Machine Learning",
        "Analytics",
        "Compute",
        "Databases",
        "Networking",
        "Storage",
        "Other",
    },
}


@pytest.fixture(scope="session")
def focus(app: App, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    file = tmp_path_factory.mktemp("focus") / "focus.csv"
    assert app.exports() == ["focus"]
    count = app.export("focus", file)
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == count
    return rows


@pytest.fixture(scope="session")
def usage_rows(focus: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in focus if not row["InvoiceId"]]


@pytest.fixture(scope="session")
def invoice_rows(focus: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in focus if row["InvoiceId"]]


def test_focus_has_the_columns_of_version_1_2(focus: list[dict[str, str]]) -> None:
    assert len(FOCUS_COLUMNS) == 57
    assert list(focus[0]) == [*FOCUS_COLUMNS, *OURS]
    for column, nullable in FOCUS_COLUMNS.items():
        if not nullable:
            assert all(row[column] for row in focus), column
    for column, values in ALLOWED.items():
        assert {row[column] for row in focus} <= values, column


def test_focus_moments_are_utc_and_periods_end_after_they_start(focus: list[dict[str, str]]) -> None:
    for row in focus:
        for period in ("Billing", "Charge"):
            start, end = row[f"{period}PeriodStart"], row[f"{period}PeriodEnd"]
            assert len(start) == len(end) == 20
            assert start.endswith("T00:00:00Z")
            assert end.endswith("T00:00:00Z")
            assert start < end
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]


def test_focus_usage_rows_carry_the_clean_usage(
    usage_rows: list[dict[str, str]], con: duckdb.DuckDBPyConnection
) -> None:
    expected = con.execute(
        """
        select org_id, resource_id, service, region, metric, cast(usage_date as varchar), value is null,
               sum(cost), sum(value), count(*)
        from events where clean group by all
        """
    ).fetchall()
    found = {
        (r["BillingAccountId"], r["ResourceId"], r["ServiceName"], r["RegionId"], r["SkuMeter"],
         r["ChargePeriodStart"][:10], r["ConsumedQuantity"] == ""): r
        for r in usage_rows
    }  # fmt: skip
    assert len(found) == len(usage_rows) == len(expected)
    for *key, cost, quantity, events in expected:
        row = found[tuple(key)]
        assert D(row["EffectiveCost"]) == cost
        assert row["ConsumedQuantity"] == "" if quantity is None else D(row["ConsumedQuantity"]) == quantity
        assert int(row["x_Events"]) == events
    assert sum(D(r["EffectiveCost"]) for r in usage_rows) == D("148351.5759")
    assert sum(int(r["x_GenaiTokens"] or 0) for r in usage_rows) == 2_545_481
    assert sum(D(r["x_CarbonKg"] or 0) for r in usage_rows) == D("365.561219")
    assert {(r["SkuMeter"], r["ConsumedUnit"]) for r in usage_rows if r["ConsumedUnit"]} == {
        ("requests", "Requests"), ("cpu_hours", "Hours"), ("storage_gb_hours", "GB-Hours"),
    }  # fmt: skip


def test_focus_prices_times_quantities_are_list_costs(usage_rows: list[dict[str, str]]) -> None:
    for row in usage_rows:
        if row["PricingQuantity"]:
            assert D(row["ListUnitPrice"]) * D(row["PricingQuantity"]) == D(row["ListCost"])
            assert D(row["ListUnitPrice"]) >= 0
        else:
            assert D(row["ListCost"]) == D(row["EffectiveCost"])
        assert row["ContractedCost"] == row["ListCost"]
        assert row["PricingUnit"] == row["ConsumedUnit"]
        assert bool(row["PricingUnit"]) == bool(row["PricingQuantity"])
        assert row["SkuId"]
        assert row["PricingCategory"] == "Standard"


def test_focus_anomaly_scores_single_out_the_spikes(usage_rows: list[dict[str, str]], landing: Path) -> None:
    high = {
        (r["BillingAccountId"], r["ChargePeriodStart"][:10], r["ServiceName"])
        for r in usage_rows
        if r["x_AnomalyScore"] and float(r["x_AnomalyScore"]) > 8
    }
    cells = {(r["org_id"], r["usage_date"].isoformat(), r["service"]) for r in oracle.cost_spikes(landing)}
    assert high == cells


def test_focus_bills_come_from_invoices_alone(
    usage_rows: list[dict[str, str]], invoice_rows: list[dict[str, str]], con: duckdb.DuckDBPyConnection
) -> None:
    assert {D(row["BilledCost"]) for row in usage_rows} == {D(0)}
    valid = con.execute(
        """
        select invoice_id, currency, subtotal, -coalesce(credits, 0), taxes from invoices
        where not (subtotal < 0 and taxes > 0)
        """
    ).fetchall()
    assert len(invoice_rows) == 3 * len(valid) == 3 * 227
    parts: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    for row in invoice_rows:
        parts[row["InvoiceId"]][row["ChargeCategory"]] = D(row["BilledCost"])
        billed = D(row["BilledCost"]) if row["ChargeCategory"] == "Credit" else D(0)
        assert D(row["EffectiveCost"]) == D(row["ListCost"]) == D(row["ContractedCost"]) == billed
        assert row["ConsumedQuantity"] == row["PricingQuantity"] == row["ListUnitPrice"] == row["SkuId"] == ""
    assert parts == {i: {"Usage": s, "Credit": c, "Tax": t} for i, _, s, c, t in valid}
    assert {(r["InvoiceId"], r["BillingCurrency"]) for r in invoice_rows} == {
        (i, currency) for i, currency, *_ in valid
    }


def test_focus_tags_are_objects_of_final_values(focus: list[dict[str, str]], con: duckdb.DuckDBPyConnection) -> None:
    tags = dict(con.execute("select resource_id, tags from resources").fetchall())
    for row in focus:
        listed = tags.get(row["ResourceId"], [])
        found = json.loads(row["Tags"]) if row["Tags"] else {}
        conflicts = set(row["x_TagConflicts"].split(",")) - {""}
        assert {f"{key}:{value}" for key, value in found.items()} | conflicts == set(listed)
        assert not {c.split(":")[0] for c in conflicts} & set(found)
        assert len({c.split(":")[0] for c in conflicts}) * 2 == len(conflicts)


def test_focus_deviations_are_those_that_the_docs_count(
    usage_rows: list[dict[str, str]], invoice_rows: list[dict[str, str]]
) -> None:
    unmeasured = sum(not row["ConsumedQuantity"] for row in usage_rows)
    subtotals = sum(row["ChargeCategory"] == "Usage" for row in invoice_rows)
    text = (ROOT / "docs" / "cloud.md").read_text()
    assert f"**{len(usage_rows):,} usage rows**" in text
    assert f"**{len(invoice_rows):,} invoice rows**" in text
    assert f"{unmeasured:,} usage rows have no quantity" in text
    assert f"{subtotals:,} subtotal rows" in text


# The project itself


@pytest.mark.slow
def test_the_projects_own_tests_pass(app: App) -> None:
    results = list(app.test(()))
    assert len(results) >= 7
    assert {result.name: result.differences for result in results if result.differences} == {}


def test_pages_show_queries_that_answer(app: App) -> None:
    for page in app.project.pages:
        for tile in page.tiles:
            query = app.project.queries[tile.query]
            # What no page presets, a reader chooses: any organisation of the list will do.
            preset = {"org": "org_53lc58dr", **page.filters, **tile.given}
            given = {p.name: preset[p.name] for p in query.parameters if preset.get(p.name)}
            answer = app.reader.answer(tile.query, given)
            assert answer.rows, (page.title, tile.title)


def test_the_docs_hold_the_figures_of_the_answers(app: App) -> None:
    text = (ROOT / "docs" / "cloud.md").read_text()
    for line in (*quality_lines(app), *detector_lines(app)):
        assert line in text
    without, with_breach = ask(app, "resolution_by_breach")
    hours = (
        f"took {with_breach['avg_resolution_hours']} hours on average, those without {without['avg_resolution_hours']}."
    )
    assert hours in text


QUESTIONS = [
    (file, *question)
    for file in ("docs/cloud.md", "src/headrace/projects/cloud/README.md")
    for question in re.findall(r"headrace query (\w+)((?: \w+=[\w-]+)*)", (ROOT / file).read_text())
]


@pytest.mark.parametrize(
    ("file", "query", "given"), QUESTIONS, ids=[f"{f.split('/')[-1]}-{q}" for f, q, _ in QUESTIONS]
)
def test_a_question_that_the_docs_ask_is_answered(file: str, query: str, given: str, app: App) -> None:
    assert app.reader.answer(query, dict(pair.split("=") for pair in given.split())).rows, file


def test_the_docs_name_every_query_and_its_parameters(app: App) -> None:
    text = (ROOT / "docs" / "cloud.md").read_text()
    table = re.findall(r"^\| (`.*?) \|(.*?)\| .* \|$", text, re.MULTILINE)
    told = {
        name: set(re.findall(r"\w+", parameters))
        for names, parameters in table
        for name in re.findall(r"`(\w+)`", names)
    }
    for query in app.project.queries.values():
        assert {p.name for p in query.parameters} <= told[query.name], query.name


@pytest.mark.slow
def test_the_docs_hold_the_figures_of_the_sample(tmp_path: Path) -> None:
    sample = opened(tmp_path / "project", tmp_path / "files")
    sample.generate(1.0, 1, None)
    sample.run(Quiet())
    text = (ROOT / "docs" / "cloud.md").read_text()
    for line in label_lines(sample):
        assert line in text
