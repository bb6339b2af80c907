"""The settings: one table of name, type, default and help; flag > environment > file > default."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import Place, SettingError, nearest
from headrace.model.serving import PARTITION_BYTES, PARTITION_ROWS


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; ``name`` is ``section.key``. A secret is never printed and may be ``env:NAME`` or ``file:PATH``."""

    name: str
    kind: type
    default: Any
    help: str
    secret: bool = False
    low: float | None = None
    high: float | None = None
    pattern: str = ""


SETTINGS = (
    Setting("inbox.path", str, "landing", "folder of landing files, relative to the project"),
    Setting("inbox.url", str, "", "SFTP server with landing files: sftp://USER@HOST:PORT/PATH; empty: inbox.path"),
    Setting("inbox.host_key", str, "", "the SFTP server's public key, as ssh-ed25519 AAAA...; no other is trusted"),
    Setting("inbox.key", str, "", "private key for the SFTP server, as file:PATH or env:NAME", secret=True),
    Setting("inbox.passphrase", str, "", "what the private key is encrypted with", secret=True),
    Setting("inbox.password", str, "", "password for the SFTP server, as env:NAME or file:PATH", secret=True),
    Setting("inbox.quiet", float, 1.0, "seconds for which a file must have rested before it is read", low=0),
    Setting(
        "inbox.done",
        str,
        "",
        "ending of marker files, as .done: a file is read once its marker is there; empty: once it has rested",
    ),
    Setting("inbox.poll", float, 5.0, "seconds between two looks of a stream at the SFTP server", low=0),
    Setting("inbox.timeout", float, 30.0, "seconds for which the SFTP server may say nothing", low=0.1),
    Setting(
        "inbox.max_file",
        str,
        "1GB",
        "largest file that is read from an SFTP server: it is held in memory",
        pattern=r"\d+(\.\d+)? ?([KMGT]i?)?B",
    ),
    Setting("lake.path", str, ".headrace/lake", "folder of the lake's Delta tables"),
    Setting("store.path", str, ".headrace/store.db", "file of the SQLite store"),
    Setting(
        "cassandra.hosts", str, "", "nodes of Cassandra or ScyllaDB that are asked first, with commas; empty: SQLite"
    ),
    Setting("cassandra.port", int, 9042, "port of CQL", low=1, high=65535),
    Setting(
        "cassandra.keyspace", str, "headrace", "keyspace of the project, of its own", pattern="[a-z][a-z0-9_]{0,47}"
    ),
    Setting("cassandra.datacenter", str, "", "the datacenter that is read and written; empty: the first node's"),
    Setting("cassandra.replicas", int, 3, "replicas of a keyspace that Headrace makes", low=1),
    Setting(
        "cassandra.consistency", str, "LOCAL_QUORUM", "of reads and writes: LOCAL_QUORUM, QUORUM, EACH_QUORUM or ALL"
    ),
    Setting("cassandra.user", str, "", "user"),
    Setting("cassandra.password", str, "", "password, as env:NAME or file:PATH", secret=True),
    Setting("cassandra.ca", str, "", "file of the certificates that nodes are trusted by; empty: no TLS"),
    Setting("cassandra.certificate", str, "", "file of this client's certificate"),
    Setting("cassandra.key", str, "", "file of this client's key"),
    Setting("cassandra.bundle", str, "", "file of Astra's secure connect bundle, instead of hosts and certificates"),
    Setting("cassandra.timeout", float, 10.0, "seconds that a node has for an answer", low=0.1),
    Setting(
        "cassandra.patience",
        float,
        120.0,
        "seconds for which those who count try again while too few nodes answer",
        low=0,
    ),
    Setting(
        "cassandra.partition_rows",
        int,
        PARTITION_ROWS,
        "rows that a partition may have at most, as tables are planned",
        low=1,
    ),
    Setting(
        "cassandra.partition_size",
        str,
        f"{PARTITION_BYTES // 1_000_000}MB",
        "bytes that a partition may have at most, as tables are planned",
        pattern=r"\d+(\.\d+)? ?([KMGT]i?)?B",
    ),
    Setting(
        "engine.memory",
        str,
        "640MB",
        "memory that DuckDB may use before it spills to disk",
        pattern=r"\d+(\.\d+)? ?([KMGT]i?)?B",
    ),
    Setting("engine.threads", int, 0, "threads of DuckDB; 0: one a core", low=0),
    Setting(
        "stream.range", int, 100_000, "records of a lane that a stream worker counts between two checkpoints", low=1
    ),
    Setting("kafka.brokers", str, "", "addresses of Kafka brokers, with commas; empty: bronze is the log"),
    Setting("kafka.partitions", int, 4, "partitions of a topic that Headrace makes", low=1),
    Setting("kafka.replicas", int, 1, "replicas of a topic that Headrace makes", low=1),
    Setting(
        "kafka.security", str, "", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", pattern="|(SASL_)?(PLAINTEXT|SSL)"
    ),
    Setting("kafka.mechanism", str, "", "SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    Setting("kafka.user", str, "", "SASL user"),
    Setting("kafka.password", str, "", "SASL password", secret=True),
    Setting("kafka.ca", str, "", "file of the certificates that brokers are trusted by"),
    Setting("kafka.certificate", str, "", "file of this client's certificate"),
    Setting("kafka.key", str, "", "file of this client's key"),
    Setting("postgres.url", str, "", "database of the store: postgresql://USER@HOST:PORT/DATABASE; empty: SQLite"),
    Setting("postgres.password", str, "", "password for it, as env:NAME or file:PATH", secret=True),
    Setting("postgres.schema", str, "headrace", "schema of the project, of its own", pattern="[a-z_][a-z0-9_]{0,62}"),
    Setting("postgres.ca", str, "", "file of the certificates that the server is trusted by; empty: what the URL says"),
    Setting("run.on_failure", str, "", "command that a failed run calls; it gets the error as JSON on standard input"),
    Setting(
        "metrics.port",
        int,
        0,
        "port for the metrics of `stream`, `run --every` and `land --every`; 0: none",
        low=0,
        high=65535,
    ),
    Setting("metrics.host", str, "127.0.0.1", "address that they are shown at, to everybody who can reach it"),
    Setting("serve.host", str, "127.0.0.1", "address to listen on"),
    Setting("serve.port", int, 8000, "port to listen on; 0: any free one", low=0, high=65535),
    Setting(
        "serve.users", str, ".headrace/users.json", "file of users and keys: hashes, and what logins are limited to"
    ),
    Setting("serve.max_rows", int, 10_000, "rows that one answer may have", low=1),
    Setting("serve.max_scan", int, 200_000, "rows of serving tables that one answer may read", low=1),
    Setting("serve.connections", int, 1_000, "connections that may be open at once", low=1),
    Setting(
        "serve.routes", str, "", "packs of routes.py that are served too, with commas; without a name they are off"
    ),
    Setting("serve.proxies", str, "", "addresses of proxies whose X-Forwarded-For is believed, with commas"),
    Setting(
        "serve.origins",
        str,
        "",
        "origins whose pages may read answers, as https://app.example.org, with commas; empty: none but this server's",
    ),
    Setting("serve.access_log", bool, True, "whether each request is a line of JSON on standard error"),
)
BY_NAME = {s.name: s for s in SETTINGS}


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's value and where it came from."""

    setting: Setting
    value: Any
    origin: str


class Settings:
    """Resolved settings of one project."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def shown(self) -> list[tuple[str, str, str]]:
        """(name, value, origin) for people: secrets masked."""
        return [
            (v.setting.name, "********" if v.setting.secret and v.value else str(v.value), v.origin)
            for v in self.values.values()
        ]


def load(
    folder: Path, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Settings of the project in ``folder``; raises SettingError HR0601 naming the place."""
    environment = os.environ if environment is None else environment
    values = {s.name: Value(s, s.default, "default") for s in SETTINGS}
    for name, raw in _from_file(folder / "headrace.toml").items():
        values[name] = _value(name, raw, "headrace.toml")
    for variable, raw in environment.items():
        if variable.startswith("HEADRACE_") and "__" in variable:
            name = variable.removeprefix("HEADRACE_").lower().replace("__", ".", 1)
            values[name] = _value(name, raw, variable)
    for name, raw in (flags or {}).items():
        if raw is not None:
            values[name] = _value(name, raw, "flag")
    return Settings(values)


def _from_file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        tree = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingError("HR0601", f"headrace.toml cannot be read: {error}", place=Place("headrace.toml")) from None
    found = {}
    for section, keys in tree.items():
        if not isinstance(keys, dict):
            raise SettingError(
                "HR0601",
                f"'{section}' stands outside a section",
                place=Place("headrace.toml"),
                help="[section] key = value",
            )
        found.update({f"{section}.{key}": value for key, value in keys.items()})
    return found


def _value(name: str, raw: Any, origin: str) -> Value:
    setting = BY_NAME.get(name)
    if setting is None:
        raise SettingError("HR0601", f"unknown setting '{name}' ({origin})", help=nearest(name, BY_NAME))
    try:
        if setting.kind is bool and isinstance(raw, str):
            value: Any = {"true": True, "1": True, "false": False, "0": False}[raw.lower()]
        else:
            value = setting.kind(raw)
        _check(setting, value)
    except (ValueError, KeyError, TypeError):
        raise SettingError(
            "HR0601", f"{name} is '{raw}' ({origin})", help=f"{_allowed(setting)}: {setting.help}"
        ) from None
    return Value(setting, _secret(name, value) if setting.secret else value, origin)


def _check(setting: Setting, value: Any) -> None:
    if (setting.low is not None and value < setting.low) or (setting.high is not None and value > setting.high):
        raise ValueError(value)
    if setting.pattern and not re.fullmatch(setting.pattern, value, re.IGNORECASE):
        raise ValueError(value)


def _allowed(setting: Setting) -> str:
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[setting.kind]
    if setting.pattern and setting.default:
        words = f"a size as {setting.default}"
    if setting.low is not None:
        words += f", {setting.low:g} or more" if setting.high is None else f" from {setting.low:g} to {setting.high:g}"
    return words


def _secret(name: str, value: str) -> str:
    if value.startswith("env:"):
        return os.environ.get(value[4:], "")
    if not value.startswith("file:"):
        return value
    try:
        return Path(value[5:]).expanduser().read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError("HR0601", f"{name} is '{value}', which cannot be read: {why}") from None


def size(text: str) -> int:
    """Bytes of a size such as 640MB or 1.5 GiB."""
    number, prefix, binary = re.fullmatch(r"([\d.]+) ?([KMGT]?)(i?)B", text, re.IGNORECASE).groups()  # type: ignore[union-attr]  # checked by the setting
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " "))
