"""Quarantined records put back: each counted once, the origin void from then on, a second replay a no-op."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.errors import ContractError
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", {format}, id="sale_id", event_time="sold_at",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,4)")
sales.rule("amount >= {least}", "too small")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/quality.sql": "SELECT source, kind, reason, count(*) AS records FROM verdicts GROUP BY ALL",
    "queries/daily.sql": "SELECT day, revenue, receipts FROM daily WHERE shop = $shop ORDER BY day",
    "queries/quality.sql": "SELECT kind, sum(records) AS records FROM quality WHERE source = $source GROUP BY kind ORDER BY kind",
}
CSV = "sale_id,sold_at,shop,amount\n1,2024-01-01T00:00:00Z,a,5\n2,2024-01-01T00:00:00Z,a,-3\n3,2024-01-01T00:00:00Z,a,many\n4,2024-01-01\n"
JSONL = "".join(
    json.dumps({"sale_id": i, "sold_at": "2024-01-01T00:00:00Z", "shop": "a", "amount": amount}) + "\n" for i, amount in ((1, 5), (2, -3), (3, "many"))
) + '{"sale_id": 4, \n'  # fmt: skip


@pytest.fixture(params=["csv", "jsonl"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> ProjectFolder:
    kind = request.param
    folder = ProjectFolder(tmp_path, DECLARATIONS.format(format=f'{kind}("sales.{kind}")', least=0), FILES)
    folder.land(f"sales.{kind}", CSV if kind == "csv" else JSONL)
    folder.run()
    assert folder.ask("daily", shop="a") == [{"day": "2024-01-01", "revenue": "5.0000", "receipts": 1}]
    return folder


def _mended(folder: ProjectFolder) -> str:
    """What a person makes of the export: the amounts put right, the broken record written whole."""
    lines = []
    for record in folder.app.quarantine.records("sales", limit=100):
        fields = (
            record["record"]
            if isinstance(record["record"], dict)
            else {"sale_id": "4", "sold_at": "2024-01-01T00:00:00Z", "shop": "a"}
        )
        lines.append(json.dumps({"origin": record["origin"], "record": {**fields, "amount": "10"}}))
    assert len(lines) == 3
    return "\n".join(lines)


def _quality(folder: ProjectFolder) -> dict[str, int]:
    return {row["kind"]: row["records"] for row in folder.ask("quality", source="sales")}


def test_corrected_records_are_counted_once_and_their_origins_no_more(shop: ProjectFolder) -> None:
    assert _quality(shop) == {"clean": 1, "landed": 4, "quarantined": 3}
    text = _mended(shop)
    assert shop.app.replay("sales", text) == (3, [])
    shop.run()
    assert shop.ask("daily", shop="a") == [{"day": "2024-01-01", "revenue": "35.0000", "receipts": 4}]
    assert _quality(shop) == {"clean": 4, "landed": 4}
    assert shop.app.quarantine.reasons() == []


def test_a_second_replay_changes_nothing(shop: ProjectFolder) -> None:
    text = _mended(shop)
    shop.app.replay("sales", text)
    shop.run()
    before = shop.ask("daily", shop="a")
    assert shop.app.replay("sales", text) == (0, ["sales:1", "sales:2", "sales:3"])
    assert shop.run().generation is None
    assert shop.ask("daily", shop="a") == before


def test_a_replay_that_was_not_followed_by_a_run_is_not_lost(shop: ProjectFolder) -> None:
    text = _mended(shop)
    shop.app.replay("sales", text)
    assert shop.app.replay("sales", text) == (0, ["sales:1", "sales:2", "sales:3"])
    shop.run()
    assert shop.ask("daily", shop="a")[0]["receipts"] == 4


def test_a_record_that_is_still_wrong_is_quarantined_again_and_can_be_replayed_again(shop: ProjectFolder) -> None:
    first = shop.app.quarantine.records("sales", "too small")[0]
    still_wrong = json.dumps({"origin": first["origin"], "record": {**first["record"], "amount": "-7"}})
    shop.app.replay("sales", still_wrong)
    shop.run()
    again = shop.app.quarantine.records("sales", "too small")
    assert len(again) == 1
    assert again[0]["origin"] != first["origin"]
    shop.app.replay("sales", json.dumps({"origin": again[0]["origin"], "record": {**first["record"], "amount": "7"}}))
    shop.run()
    assert shop.ask("daily", shop="a")[0]["revenue"] == "12.0000"


def test_the_origin_stays_void_when_its_rule_is_loosened(shop: ProjectFolder) -> None:
    shop.app.replay("sales", _mended(shop))
    shop.run()
    declared = (shop.folder / "project.py").read_text()
    shop.write("project.py", declared.replace("amount >= 0", "amount >= -100"))
    shop.run()
    assert shop.ask("daily", shop="a") == [{"day": "2024-01-01", "revenue": "35.0000", "receipts": 4}]


def test_a_loosened_rule_lets_quarantined_records_in_by_itself(shop: ProjectFolder) -> None:
    declared = (shop.folder / "project.py").read_text()
    shop.write("project.py", declared.replace("amount >= 0", "amount >= -100"))
    shop.run()
    assert shop.ask("daily", shop="a") == [{"day": "2024-01-01", "revenue": "2.0000", "receipts": 2}]


@pytest.mark.parametrize(
    "line",
    [
        '{"origin": "sales:0", "record": {}}',
        '{"origin": "sales:99", "record": {}}',
        '{"origin": "other:1", "record": {}}',
        "nonsense",
        '{"record": {}}',
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(shop: ProjectFolder, line: str) -> None:
    good = _mended(shop)
    with pytest.raises(ContractError) as refused:
        shop.app.replay("sales", good + "\n" + line)
    assert refused.value.code == "HR0305"
    assert shop.run().generation is None


def test_no_digit_is_lost_on_the_way(tmp_path: Path) -> None:
    declarations = DECLARATIONS.format(format='jsonl("sales.jsonl")', least=0).replace("DECIMAL(18,4)", "DECIMAL(30,4)")
    folder = ProjectFolder(tmp_path, declarations, FILES)
    row = '{"sale_id": %d, "sold_at": "2024-01-01T00:00:00Z", "shop": null, "amount": %s}\n'
    folder.land("sales.jsonl", row % (1, '"12345678901234567.5"') + row % (2, "7"))
    folder.run()
    exported = [json.dumps(r, ensure_ascii=False) for r in folder.app.quarantine.records("sales")]
    assert len(exported) == 2
    mended = (
        "\n".join(exported).replace('"shop": null', '"shop": "a\u2028b"').replace(": 7}", ": 12345678901234567.1234}")
    )
    assert "12345678901234567.1234" in mended
    folder.app.replay("sales", mended)
    folder.run()
    assert folder.ask("daily", shop="a\u2028b") == [
        {"day": "2024-01-01", "revenue": "24691357802469134.6234", "receipts": 2}
    ]


@pytest.mark.parametrize(
    "line", ['{"origin": "sales:²", "record": {}}', '{"origin": "sales:1", "record": {"shop": "\\ud800"}}', "[" * 5000]
)
def test_a_line_that_cannot_be_is_told(shop: ProjectFolder, line: str) -> None:
    with pytest.raises(ContractError, match="HR0305"):
        shop.app.replay("sales", line)
