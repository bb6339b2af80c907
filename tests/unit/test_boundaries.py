"""The boundary check sees each kind of fault in a tree that was sound before."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.boundaries import FLOORS, LIBRARIES, faults, main

ROOT = Path(__file__).resolve().parents[2]

SOUND = {
    "__init__.py": "from headrace.declare.builder import Project\n__version__ = '1'\n",
    "__main__.py": "from headrace.cli import main\n",
    "errors.py": "import json\n",
    "model/__init__.py": "",
    "model/mart.py": "from headrace.errors import HeadraceError\nfrom headrace.model import source\n",
    "model/source.py": "",
    "sql/__init__.py": "from headrace.sql.parse import parse\n",
    "sql/parse.py": "import sqlglot\nfrom .lineage import inputs\n",
    "sql/lineage.py": "import sqlglot.expressions\nfrom headrace.model.mart import Mart\n",
    "settings.py": "import tomllib\n",
    "ports.py": "from headrace.model import mart\n",
    "declare/builder.py": "from headrace import sql\n",
    "flow/land.py": "import pyarrow.parquet\nfrom headrace.ports import Lake\n",
    "adapters/duckdb.py": "import duckdb\nimport pyarrow as pa\n",
    "adapters/delta/table.py": "import deltalake\n",
    "adapters/sqlite.py": "import apsw\n",
    "wiring.py": "def lake():\n    return importlib.import_module('headrace.adapters.delta.table')\n",
    "app.py": "from headrace import wiring\nfrom headrace.flow import land\n",
    "http/api.py": "import starlette.routing, msgspec\nfrom headrace.app import App\n",
    "ops/metrics.py": "import prometheus_client\n",
    "cli/__init__.py": "from headrace import __version__\ndef f():\n    import click, headrace.http.api\n",
    "projects/cloud/project.py": "from headrace import Project\nfrom headrace.projects.cloud import samples\n",
    "projects/cloud/samples.py": "import random\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "headrace"
    for name, text in SOUND.items():
        write(root / name, text)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def add(package: Path, name: str, text: str) -> int:
    """Append to a file of the tree; return the number of the last line."""
    path = package / name
    before = path.read_text("utf-8") if path.exists() else ""
    write(path, f"{before}{text}\n")
    return len(path.read_text("utf-8").splitlines())


def test_a_sound_tree_has_no_faults(package: Path) -> None:
    assert faults(package) == []


@pytest.mark.parametrize(
    ("name", "statement", "rule"),
    [
        pytest.param("errors.py", "from headrace.model import mart", "floor", id="up within floor 1"),
        pytest.param("sql/parse.py", "from headrace.ports import Lake", "floor", id="a higher floor"),
        pytest.param("ports.py", "import headrace.declare.builder", "floor", id="the same floor"),
        pytest.param("flow/land.py", "from headrace import wiring", "floor", id="a module from the package"),
        pytest.param("sql/parse.py", "from ..app import App", "floor", id="relative"),
        pytest.param("sql/parse.py", "from .. import app", "floor", id="relative, by the package"),
        pytest.param("flow/land.py", "def f():\n    import headrace.app", "floor", id="inside a function"),
        pytest.param("ops/metrics.py", "from headrace.http.api import App", "floor", id="two of floor 8"),
        pytest.param(
            "flow/land.py", "if TYPE_CHECKING:\n    from headrace.app import App", "floor", id="for types only"
        ),
        pytest.param("flow/land.py", "import_module('headrace.app')", "floor", id="by name, at run time"),
        pytest.param("shed.py", "import json", "floor", id="a file on no floor"),
        pytest.param("app.py", "from headrace.adapters import duckdb", "door", id="adapters past wiring"),
        pytest.param("flow/land.py", "from headrace.adapters import duckdb", "door", id="adapters from beside them"),
        pytest.param("sql/lineage.py", "import duckdb", "library", id="duckdb outside its adapter"),
        pytest.param("adapters/sqlite.py", "import duckdb", "library", id="another adapter's driver"),
        pytest.param("app.py", "import apsw", "library", id="apsw outside its adapter"),
        pytest.param("flow/land.py", "def f():\n    from rich.table import Table", "library", id="rich outside cli"),
        pytest.param("formats/csv.py", "import pandas as pd", "library", id="a library with no place"),
        pytest.param("projects/cloud/samples.py", "import pyarrow", "library", id="a library in a project"),
        pytest.param("cli/__init__.py", "import headrace.projects.cloud.samples", "projects", id="a project by name"),
        pytest.param("cli/__init__.py", "from headrace import Project", "public names", id="public name inside"),
        pytest.param("app.py", "import headrace", "public names", id="the package itself inside"),
        pytest.param("projects/cloud/project.py", "import headrace.sql", "public names", id="inside from a project"),
        pytest.param(
            "projects/cloud/project.py", "from headrace.projects import campus", "public names", id="project to project"
        ),
    ],
)
def test_each_fault_is_seen_where_it_is(package: Path, name: str, statement: str, rule: str) -> None:
    line = add(package, name, statement)
    assert [(f.path, f.line, f.rule) for f in faults(package)] == [(package / name, line, rule)]


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_no_library_may_be_imported_by_the_app(package: Path, library: str) -> None:
    add(package, "app.py", f"import {library}")
    assert [f.rule for f in faults(package)] == ["library"]


def test_a_circle_in_one_folder_is_named_with_its_way(package: Path) -> None:
    add(package, "sql/lineage.py", "from headrace.sql.parse import parse")
    (found,) = faults(package)
    assert found.rule == "circle"
    assert found.what == "sql.lineage → sql.parse → sql.lineage"


def test_a_circle_through_the_init_of_a_folder_is_seen(package: Path) -> None:
    add(package, "sql/lineage.py", "from headrace.sql import parse_all")
    assert [f.rule for f in faults(package)] == ["circle"]


@pytest.mark.parametrize(
    "late", ["def f():\n    {}", "if TYPE_CHECKING:\n    {}", "class C:\n    def f(self):\n        {}"]
)
def test_an_import_that_runs_later_closes_no_circle(package: Path, late: str) -> None:
    add(package, "sql/lineage.py", late.format("from headrace.sql.parse import parse"))
    assert faults(package) == []


@pytest.mark.parametrize("early", ["class C:\n    {}", "try:\n    {}\nexcept ImportError:\n    raise", "if 1:\n    {}"])
def test_an_import_nested_at_the_top_does(package: Path, early: str) -> None:
    add(package, "sql/lineage.py", early.format("from headrace.sql.parse import parse"))
    assert [f.rule for f in faults(package)] == ["circle"]


def test_an_opt_out_needs_a_reason(package: Path) -> None:
    add(package, "ports.py", "import pyarrow  # boundary:")
    assert [f.rule for f in faults(package)] == ["library"]


def test_an_opt_out_with_a_reason_holds_for_its_line_only(package: Path) -> None:
    add(package, "ports.py", "import pyarrow  # boundary: the type of every exchange")
    assert faults(package) == []
    line = add(package, "ports.py", "import duckdb")
    assert [(f.line, f.rule) for f in faults(package)] == [(line, "library")]


def test_an_opt_out_may_stand_anywhere_in_a_long_import(package: Path) -> None:
    add(
        package,
        "sql/parse.py",
        "from headrace.ports import (\n    Lake,\n    Store,  # boundary: until ports are split\n)",
    )
    assert faults(package) == []


def test_an_opt_out_that_excuses_nothing_is_a_fault(package: Path) -> None:
    line = add(package, "ports.py", "import json  # boundary: not needed")
    assert [(f.line, f.rule) for f in faults(package)] == [(line, "opt-out")]


def test_the_report_names_place_rule_and_fix(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = add(package, "flow/land.py", "import headrace.app")
    assert main(package) == 1
    said = capsys.readouterr().out
    assert f"{package / 'flow/land.py'}:{line}: floor: flow ({FLOORS['flow']}) imports app ({FLOORS['app']})" in said
    assert "take it as a parameter" in said
    assert "1 broken" in said


def test_the_program_fails_where_the_tree_does(package: Path) -> None:
    check = [sys.executable, str(ROOT / "tools/boundaries.py"), str(package)]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    add(package, "errors.py", "import rich")
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1


def test_this_package_keeps_its_boundaries() -> None:
    assert [str(fault) for fault in faults(ROOT / "src/headrace")] == []
