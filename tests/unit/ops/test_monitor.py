"""What `monitor export` writes: files that promtool passes, links that lead somewhere, JSON that Grafana takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.app import App
from headrace.ops import dashboards
from headrace.ops.monitor import KINDS, export
from headrace.ops.rules import Pace, alerts, duration
from headrace.ops.yaml import dumped
from tests.kit import ProjectFolder
from tools.services import MissingError, promtool

ROOT = Path(__file__).parents[3]
PROJECTS = ("blank", "cloud", "telecom")
TARGETS = {kind: [f"10.0.0.{i}:9000"] for i, kind in enumerate(KINDS)}
MARTS = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, count(*) AS sales FROM sales GROUP BY ALL",
    "marts/shop_list.sql": "SELECT shop, count(*) AS shops FROM shops GROUP BY ALL",
}
DECLARED = """
project = Project("till")
sales = project.source("sales", csv("sales_*.csv"), id="id", event_time="sold_at",
    columns="id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL")
shops = project.reference("shops", csv("shops.csv"), key="shop", columns="shop VARCHAR NOT NULL")
"""


def check(*words: str) -> None:
    try:
        done = promtool(*words)
    except MissingError as missing:
        pytest.skip(str(missing))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=PROJECTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[App, Path]:
    app = App(ROOT / "src/headrace/projects" / request.param)
    folder = tmp_path_factory.mktemp("monitor")
    export(app.project, folder, TARGETS, Pace())
    (folder / "prometheus/serve.key").write_text("hr_x_y")  # promtool wants it to be there
    return app, folder


@pytest.mark.slow
@pytest.mark.prometheus
def test_promtool_passes_the_configuration_and_the_rules_tests(exported: tuple[App, Path]) -> None:
    _, folder = exported
    check("check", "config", str(folder / "prometheus/prometheus.yml"))
    check("check", "rules", "--lint-fatal", str(folder / "prometheus/rules.yml"))
    check("test", "rules", str(folder / "prometheus/rules_test.yml"))


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.parametrize("interval", [1, 60])
def test_the_rules_hold_at_other_intervals(interval: int, tmp_path: Path) -> None:
    export(App(ROOT / "src/headrace/projects/telecom").project, tmp_path, TARGETS, Pace(interval))
    check("test", "rules", str(tmp_path / "prometheus/rules_test.yml"))


def test_the_rules_tests_have_a_story_for_each_alert_and_one_for_its_absence(exported: tuple[App, Path]) -> None:
    app, folder = exported
    tests = yaml.safe_load((folder / "prometheus/rules_test.yml").read_text())["tests"]
    told = [case["alert_rule_test"][0] for case in tests]
    quiet = {one["alertname"] for one in told if not one["exp_alerts"]}
    fired = {(one["alertname"], each["exp_labels"]["severity"]) for one in told for each in one["exp_alerts"]}
    known = list(alerts(app.project, Pace()))
    assert fired == {(alert.name, alert.severity) for alert in known}
    assert quiet == {alert.name for alert in known}


def test_every_alert_says_what_it_is_and_where_to_read_on(exported: tuple[App, Path]) -> None:
    _, folder = exported
    headings = re.findall(r"^### (.+)$", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    groups = yaml.safe_load((folder / "prometheus/rules.yml").read_text())["groups"]
    found = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    for rule in found:
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"]
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/monitoring.md"
        assert anchor in anchors
        assert rule["keep_firing_for"] == "5m"


def test_a_goal_makes_its_alerts_and_none_makes_none(tmp_path: Path) -> None:
    def named(declared: str) -> list[str]:
        project = ProjectFolder(tmp_path, DECLARED + declared, MARTS).app.project
        return [f"{alert.name} {alert.expr}" for alert in alerts(project, Pace()) if alert.name in ("Stale", "Absent")]

    assert named("") == []
    stale, absent = named('project.fresh("daily", "2 hours")')
    assert stale == 'Stale mart:headrace_behind:seconds{project="till", mart="daily"} > 7200'
    assert absent == 'Absent absent(headrace_as_of_timestamp_seconds{project="till", mart="daily"})'


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ('project.fresh("shop_list", "5 minutes")', "counts no source of facts"),
        ('project.fresh("daily", "5 minutes"); project.fresh("daily", "1 hour")', "two goals"),
    ],
)
def test_goals_that_cannot_be_told_are_refused(declared: str, said: str, tmp_path: Path) -> None:
    project = ProjectFolder(tmp_path, DECLARED + declared, MARTS)
    done = project.command("check")
    assert done.returncode == 2
    assert "HR0110" in done.stderr
    assert said in done.stderr


@pytest.mark.slow
def test_the_command_takes_targets_from_settings_and_from_the_command_line(tmp_path: Path) -> None:
    project = ProjectFolder(tmp_path, DECLARED, MARTS | {"headrace.toml": "[metrics]\nport = 9471\n"})

    def targets(*words: str) -> dict[str, list[str]]:
        done = project.command("monitor", "export", str(tmp_path / "out"), *words)
        assert done.returncode == 0, done.stderr
        config = yaml.safe_load((tmp_path / "out/prometheus/prometheus.yml").read_text())
        return {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}

    assert targets() == {"serve": ["127.0.0.1:8000"], "stream": ["127.0.0.1:9471"]}
    assert targets("--targets", "run=a:1,[::1]:2", "--targets", "run=b:3") == {"run": ["a:1", "[::1]:2", "b:3"]}
    for wrong in ("nothing=a:1", "run=a", "run=a:b", 'run=a"b:1', "run"):
        refused = project.command("monitor", "export", str(tmp_path / "out"), "--targets", wrong)
        assert (refused.returncode, "HR0601" in refused.stderr) == (2, True), wrong


VALUES: tuple[Any, ...] = (
    {"a": [], "b": {}, "c": [{"d": 1, "e": ["x: y", "- z", "#"]}, {"f": None}], "on": True, "g h": 1.5},
    ["yes", "no", "null", "1", "", " ", 'a "quoted" one', "ünïcode", "two\nlines", "{{ $labels.x }}", "5m", "~"],
)


@pytest.mark.parametrize("value", VALUES)
def test_what_is_written_as_yaml_is_read_as_it_was(value: Any) -> None:
    assert yaml.safe_load(dumped(value, "a comment\nof two lines")) == value


@pytest.mark.parametrize(
    ("seconds", "text"), [(15, "15s"), (300, "5m"), (3600, "1h"), (90, "90s"), (0.25, "250ms"), (1.5, "1500ms")]
)
def test_durations_are_written_as_prometheus_reads_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# Dashboards


UNITS = {"none", "short", "s", "µs", "ops", "reqps", "wps", "rps", "Bps", "bytes", "percent", "percentunit"}
"""Of https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts"""


def panels(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((folder / "grafana/provisioning/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            yield file.name, panel


def test_dashboards_are_what_grafana_can_lay_out(exported: tuple[App, Path]) -> None:
    app, folder = exported
    files = sorted((folder / "grafana/provisioning/dashboards").glob("*.json"))
    assert [f.stem for f in files] == [f"{app.project.name}-{name}" for name in ("flow", "overview", "skew", "store")]
    uids = set()
    for file in files:
        board = json.loads(file.read_text())
        uids.add(board["uid"])
        assert len(board["uid"]) <= 40
        taken: set[tuple[int, int]] = set()
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert cells, panel["title"]
            assert max(x for x, _ in cells) < 24, panel["title"]
            assert not cells & taken, panel["title"]
            taken |= cells
    assert len(uids) == 4


def test_each_panel_has_a_unit_a_datasource_that_is_provisioned_and_expressions(exported: tuple[App, Path]) -> None:
    app, folder = exported
    sources = yaml.safe_load((folder / "grafana/provisioning/datasources/headrace.yaml").read_text())["datasources"]
    for name, panel in panels(folder):
        if panel["type"] == "row":
            continue
        said = f"{name}: {panel['title']}"
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, said
        assert panel["targets"], said
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"]), said
        for target in [panel, *panel["targets"]]:
            assert target["datasource"]["uid"] in [source["uid"] for source in sources], said
        for target in panel["targets"]:
            # Whatever is drawn is of this project, also where several share a Prometheus.
            selected = re.findall(r"[A-Za-z_:0-9]+\{[^}]*\}", target["expr"])
            assert selected, said
            assert all(f'{{project="{app.project.name}"' in one for one in selected), said
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        values = [step["value"] for step in steps]
        assert values[:1] in ([], [None]), said
        assert values[1:] == sorted(values[1:]), said


def test_skew_is_of_counters_and_no_rate_is_of_a_gauge() -> None:
    gauges = ("utilization", "_ratio", "_records{", "_seconds{", "_value{", "partition_rows", "generation{")
    for board in dashboards.DASHBOARDS:
        for row in board.rows:
            for panel in row.panels:
                for expr, _ in panel.lines:
                    for counter in re.findall(r"rate\(([^\[]+)\[", expr):
                        assert not any(gauge in counter for gauge in gauges), f"{panel.title}: {counter}"


def test_panels_that_no_server_ever_filled_say_so() -> None:
    for board in dashboards.DASHBOARDS:
        for row in board.rows:
            if any("scylla_" in expr for panel in row.panels for expr, _ in panel.lines):
                assert "made-up" in row.title
