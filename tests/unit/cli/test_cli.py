"""The command line as a person meets it: exit codes, the form of errors, JSON, help that costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli import COMMANDS
from headrace.errors import CODES

ROOT = Path(__file__).parents[3]


def headrace(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        cwd=cwd,
        env=everything,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blank project, run once."""
    folder = tmp_path_factory.mktemp("cli") / "shop"
    for arguments in (["init", str(folder)], ["--project", str(folder), "gen"], ["--project", str(folder), "run"]):
        done = headrace(*arguments, cwd=folder.parent)
        assert done.returncode == 0, done.stderr
    return folder


FAILURES = [
    (["run"], "..", 2, "HR0101", "headrace init DIR"),
    (["query", "saless", "shop=cpt1"], ".", 2, "HR0501", "did you mean 'sales'?"),
    (["query", "sales", "shop=cpt1"], ".", 2, "HR0502", "from="),
    (["query", "sales", "shop=cpt1", "from=yesterday", "to=2024-01-01"], ".", 2, "HR0502", "DATE"),
    (["query", "sales", "shp=cpt1"], ".", 2, "HR0502", "did you mean 'shop'?"),
    (["query", "sales", "--shopp", "cpt1"], ".", 2, "HR0502", "did you mean '--shop'?"),
    (["query", "sales", "--shop=cpt1", "--outpu", "csv"], ".", 2, "HR0502", "did you mean '--output'?"),
    (["query", "sales", "--shop", "cpt1", "--jsn"], ".", 2, "HR0502", "did you mean '--json'?"),
    (["query", "sales", "--shop", "--to", "2024-01-01"], ".", 2, "HR0502", "--shop VALUE"),
    (["query", "sales", "--from"], ".", 2, "HR0502", "--from VALUE"),
    (["query", "--shop", "cpt1", "sales"], ".", 2, "HR0502", "headrace query NAME --shop VALUE"),
    (["query", "sales", "-s", "cpt1"], ".", 2, "HR0502", "one of --cursor, --from, "),
    (["query", "sales", "--from", "2024-01-01", "10:00:00"], ".", 2, "HR0502", "quotes"),
    (["why", "sales", "--recods", "3"], ".", 2, "HR0502", "did you mean '--records'?"),
    (["gen", "--only", "generat"], ".", 2, "HR0601", "did you mean 'generate'?"),
    (["explain", "HR9999"], ".", 2, "HR0605", ""),
    (["init", "."], ".", 2, "HR0601", "new folder"),
    (["run", "--every", "often"], ".", 2, "HR0601", "5m"),
    (["quarantine", "show", "sale"], ".", 2, "HR0203", "did you mean 'sales'?"),
    (["export", "nothing"], ".", 2, "HR0501", ""),
    (["test", "nothing"], ".", 2, "HR0306", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "where", "exit_code", "code", "help"), FAILURES, ids=[" ".join(f[0]) for f in FAILURES]
)
def test_a_failure_has_a_code_a_message_and_what_to_do(
    shop: Path, arguments: list[str], where: str, exit_code: int, code: str, help: str
) -> None:
    done = headrace(*arguments, cwd=shop / where)
    assert done.returncode == exit_code, done.stderr
    assert done.stderr.startswith(f"error[{code}]: ")
    assert help in done.stderr
    assert f"docs: headrace explain {code}" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_error_in_a_file_shows_the_line_and_a_caret(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    headrace("init", str(folder), cwd=tmp_path)
    (folder / "queries" / "bad.sql").write_text("-- Bad.\nSELECT day, revenu FROM daily_sales WHERE shop = $shop\n")
    done = headrace("check", cwd=folder)
    assert done.returncode == 2
    assert (
        "  --> queries/bad.sql:2:13\n  2 | SELECT day, revenu FROM daily_sales WHERE shop = $shop\n    |             ^^^^^^\n  help: did you mean 'revenue'?"
        in done.stderr
    )
    found = json.loads(headrace("check", "--json", cwd=folder).stdout)
    assert [(e["code"], e["file"], e["line"], e["column"]) for e in found["errors"]] == [
        ("HR0204", "queries/bad.sql", 2, 13)
    ]


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_explained(shop: Path, code: str) -> None:
    explanation = CODES[code]
    assert explanation.title
    assert explanation.means.endswith(".")
    assert explanation.do


def test_every_code_that_is_raised_is_explained_and_the_other_way_round() -> None:
    text = "".join(f.read_text() for f in (ROOT / "src" / "headrace").rglob("*.py") if f.name != "errors.py")
    text += (ROOT / "src/headrace/errors.py").read_text().split("_code(")[0]
    raised = {
        word
        for word in text.replace("'", '"').replace("(", '"').split('"')
        if len(word) == 6 and word.startswith("HR0") and word[2:].isdigit()
    }
    assert raised - set(CODES) == set()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]])
def test_help_and_version_import_neither_the_engine_nor_arrow(tmp_path: Path, arguments: list[str]) -> None:
    program = f"import sys; from headrace.cli import main\ntry: main({arguments!r})\nexcept SystemExit: print(sorted(m for m in sys.modules if m in ('duckdb', 'pyarrow', 'sqlglot', 'deltalake')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_verb_has_help(shop: Path, verb: str) -> None:
    done = headrace(verb, "--help", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_an_unknown_verb_is_a_usage_error_with_the_nearest_name(tmp_path: Path) -> None:
    done = headrace("quary", cwd=tmp_path)
    assert done.returncode == 2
    assert "query" in done.stderr


@pytest.mark.slow
def test_answers_come_as_table_json_ndjson_and_csv(shop: Path) -> None:
    asked = ["query", "sales", "--shop", "cpt1", "from=2024-01-01", "--to=2024-01-02"]
    document = json.loads(headrace(*asked, "--json", cwd=shop).stdout)
    assert document["schema_version"] == 1
    assert document["generation"] == 1
    assert [r["day"] for r in document["rows"]] == ["2024-01-01", "2024-01-02"]
    lines = headrace(*asked, "-o", "ndjson", cwd=shop).stdout.splitlines()
    assert [json.loads(line) for line in lines] == document["rows"]
    assert headrace(*asked, "-o", "csv", cwd=shop).stdout.splitlines()[0] == "day,revenue,receipts,basket"
    assert headrace(*asked, cwd=shop).stdout.splitlines()[0].split() == ["day", "revenue", "receipts", "basket"]


def test_a_querys_help_names_its_options_whatever_else_is_said(shop: Path) -> None:
    asked = ["query", "sales", "--shop", "cpt1", "--help"]
    done = headrace(*asked, cwd=shop)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["shop", "--shop", "VARCHAR", "yes"] in rows


def test_why_tells_the_records_behind_an_answer(shop: Path) -> None:
    asked = ["shop=cpt1", "from=2024-01-01", "to=2024-01-02"]
    answer = json.loads(headrace("query", "sales", *asked, "--json", cwd=shop).stdout)
    found = json.loads(headrace("why", "sales", *asked, "--records", "3", "--json", cwd=shop).stdout)
    (source,) = found["sources"]
    assert source["records"] == sum(r["receipts"] for r in answer["rows"]) > 3
    assert len(source["first"]) == 3
    assert all(r["record"]["shop"] == "cpt1" for r in source["first"])
    assert found["generation"] == 1
    assert found["rows"] == answer["rows"]


def test_a_failed_run_calls_the_command(shop: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    done = headrace(
        "run", cwd=shop, HEADRACE_INBOX__PATH=str(tmp_path / "nowhere"), HEADRACE_RUN__ON_FAILURE=f"cat > {note}"
    )
    assert done.returncode == 3
    assert json.loads(note.read_text())["code"] == "HR0407"


def test_settings_say_where_they_come_from(shop: Path) -> None:
    shown = json.loads(headrace("config", "show", "--json", cwd=shop, HEADRACE_SERVE__PORT="9000").stdout)["settings"]
    by_name = {s["name"]: (s["value"], s["origin"]) for s in shown}
    assert by_name["serve.port"] == ("9000", "HEADRACE_SERVE__PORT")
    assert by_name["inbox.path"] == ("landing", "default")
    wrong = headrace("config", "show", cwd=shop, HEADRACE_SERVE__PROT="1")
    assert (wrong.returncode, "did you mean 'serve.port'?" in wrong.stderr) == (2, True)


@pytest.mark.slow
def test_standard_error_is_empty_where_only_data_is_asked_for(shop: Path) -> None:
    for arguments in (
        ["query", "sales", "shop=cpt1", "from=2024-01-01", "to=2024-01-02", "--json"],
        ["status", "--json"],
        ["lake", "ls", "--json"],
        ["doctor", "--json"],
    ):
        done = headrace(*arguments, cwd=shop)
        assert (done.returncode, done.stderr) == (0, "")
        json.loads(done.stdout)


@pytest.mark.slow
def test_a_rollback_gives_the_earlier_answers(shop: Path, tmp_path: Path) -> None:
    assert "blank is a new project" in headrace("gen", "blank", cwd=tmp_path).stderr
    folder = tmp_path / "blank"
    assert "new project" not in headrace("gen", "blank", cwd=tmp_path).stderr
    headrace("run", cwd=folder)
    asked = ["query", "sales", "shop=cpt1", "from=2024-01-01", "to=2024-01-07", "-o", "csv"]
    before = headrace(*asked, cwd=folder).stdout
    (folder / "landing" / "sales_more.csv").write_text(
        "sale_id,sold_at,shop,amount\nx,2024-01-02T10:00:00Z,cpt1,1000\n"
    )
    headrace("run", cwd=folder)
    assert headrace(*asked, cwd=folder).stdout != before
    assert headrace("rollback", "--yes", cwd=folder).returncode == 0
    assert headrace(*asked, cwd=folder).stdout == before
    again = headrace("rollback", "--yes", cwd=folder)
    assert (again.returncode, "HR0405" in again.stderr) == (4, True)
