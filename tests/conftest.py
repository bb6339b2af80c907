"""What holds for every test: no skip goes unsaid, and where HEADRACE_TEST_STRICT=1 a skip is a failure."""

import os
import random
from collections import Counter, defaultdict
from collections.abc import Generator

import pytest

import dev
from tests import services
from tests.services import (  # noqa: F401 - fixtures
    cassandra,
    cassandra3,
    cassandra3_for_all,
    cassandra_for_all,
    cassandra_secure,
    cassandra_secure_for_all,
    feeds,
    kafka,
    kafka3,
    kafka3_for_all,
    kafka_for_all,
    kafka_secure,
    kafka_secure_for_all,
    postgres,
    postgres_for_all,
    prometheus,
    sessions,
    sftp,
    sftp_for_all,
)

STRICT = os.environ.get("HEADRACE_TEST_STRICT") == "1"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser for tests marked `browser`."""
    found = dev.chromium()
    if found is None:
        pytest.skip("no Chromium: install one (Debian, Ubuntu: apt install chromium)")
    return found


@pytest.fixture
def seed() -> int:
    """Where a test that chooses at random begins: a fresh seed, or HEADRACE_TEST_SEED. It is printed, so that it stands
    beside a failure."""
    found = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"HEADRACE_TEST_SEED={found}")
    return found


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = f"skipped, which HEADRACE_TEST_STRICT=1 does not allow: {reason(report)}"
        report.outcome = "failed"


@pytest.hookimpl(tryfirst=True)  # before what selects by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    services.mark(items)
    items[:] = services.apart(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped, by reason: how many tests, of which files."""
    files: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for report in terminalreporter.stats.get("skipped", []):
        files[reason(report)][report.nodeid.split("::")[0]] += 1
    if not files:
        return
    terminalreporter.section(f"{sum(map(Counter.total, files.values()))} skipped")
    for why, where in sorted(files.items()):
        terminalreporter.line(why)
        for name, count in sorted(where.items()):
            terminalreporter.line(f"  {count:4} in {name}")
