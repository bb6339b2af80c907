"""Apache Cassandra, alone or three nodes together, from its jars."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.services.jars import Jars, certify, java, program
from tools.services.process import Server, ServiceError, Several, free_port, running

CASSANDRA, EXPORTER = "5.0.9", "1.0.1"
JARS = Jars(
    "cassandra",
    CASSANDRA,
    (
        f"org.apache.cassandra:cassandra-all:{CASSANDRA}",
        f"io.prometheus.jmx:jmx_prometheus_javaagent:{EXPORTER}",
    ),
)
# What Cassandra reaches into of Java 17's own modules.
OPEN = (
    "-Djdk.attach.allowAttachSelf=true",
    *(
        f"--add-exports={name}=ALL-UNNAMED"
        for name in (
            "java.base/jdk.internal.misc",
            "java.management.rmi/com.sun.jmx.remote.internal.rmi",
            "java.rmi/sun.rmi.registry",
            "java.rmi/sun.rmi.server",
            "java.sql/java.sql",
            "java.base/java.lang.ref",
            "jdk.unsupported/sun.misc",
            "jdk.compiler/com.sun.tools.javac.file",
            "jdk.attach/sun.tools.attach",
        )
    ),
    *(
        f"--add-opens={name}=ALL-UNNAMED"
        for name in (
            "java.base/jdk.internal.loader",
            "java.base/jdk.internal.ref",
            "java.base/jdk.internal.reflect",
            "java.base/jdk.internal.math",
            "java.base/jdk.internal.module",
            "java.base/jdk.internal.util.jar",
            "jdk.management/com.sun.management.internal",
            "java.base/sun.nio.ch",
            "java.base/java.io",
            "java.base/java.nio",
            "java.base/java.lang.reflect",
            "jdk.compiler/com.sun.tools.javac",
            "java.base/java.lang",
            "java.base/java.util",
            "java.base/java.util.concurrent",
            "java.base/java.util.concurrent.atomic",
        )
    ),
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Xss256k",
)
CONFIG = """cluster_name: headrace tests
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: 1
initial_token: {token}
auto_bootstrap: false
listen_address: {host}
rpc_address: {host}
broadcast_rpc_address: {announced}
storage_port: {storage}
native_transport_port: {port}
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "{seeds}"
data_file_directories: [{folder}/data]
commitlog_directory: {folder}/commitlog
hints_directory: {folder}/hints
saved_caches_directory: {folder}/saved_caches
cdc_raw_directory: {folder}/cdc_raw
commitlog_sync: periodic
commitlog_sync_period: 10000ms
commitlog_segment_size: 8MiB
commitlog_total_space: 256MiB
disk_failure_policy: die
commit_failure_policy: die
auto_snapshot: false
"""
# Who comes must show a certificate and a password.
SECURE = """
authenticator:
  class_name: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
credentials_validity: 1s
permissions_validity: 1s
roles_validity: 1s
client_encryption_options:
  enabled: true
  optional: false
  keystore: {folder}/server.p12
  keystore_password: {password}
  truststore: {folder}/ca.p12
  truststore_password: {password}
  store_type: PKCS12
  require_client_auth: true
"""
LOGBACK = """<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <!-- What is a warning or worse can be asked for in system_views.system_logs. -->
  <appender name="CQL" class="org.apache.cassandra.utils.logging.VirtualTableAppender">
    <filter class="ch.qos.logback.classic.filter.ThresholdFilter"><level>WARN</level></filter>
  </appender>
  <logger name="org.apache.cassandra.config.Config" level="WARN"/>
  <root level="INFO"><appender-ref ref="OUT"/><appender-ref ref="CQL"/></root>
</configuration>
"""
# A node alone, and three that each own a third of the ring.
TOKENS = {1: (0,), 3: (-(2**63), -(2**63) // 3, 2**63 // 3)}


class Node(Server):
    """A Cassandra node; ``address`` is host:port of its CQL, ``announced`` the host that it and its peers tell clients to ask
    instead, where a proxy may listen. ``settings`` are keys of cassandra.yaml, which hold from the
    next start on; ``metrics`` is where its Prometheus exporter listens, if that is wanted."""

    def __init__(
        self, name: str, folder: Path, host: str, port: int, *, number: int, size: int, storage: int, heap: str,
        settings: Mapping[str, object], metrics: int = 0, announced: str = "", **given: Any,
    ) -> None:  # fmt: skip
        super().__init__(name, folder, port, address=f"{host}:{port}", **given)
        self.host, self.heap, self.settings = host, heap, dict(settings)
        self.announced = announced or host
        self.metrics = f"{host}:{metrics}" if metrics else ""
        self.jmx = free_port()
        self.jars = JARS.fetched()
        folder.mkdir(parents=True, exist_ok=True)
        seeds = ",".join(f"127.0.0.{n}:{storage}" for n in range(1, size + 1)) if size > 1 else f"{host}:{storage}"
        text = CONFIG.format(
            token=TOKENS[size][number - 1], host=host, announced=self.announced, port=port, storage=storage, seeds=seeds,
            folder=folder,
        )  # fmt: skip
        (folder / "cassandra.yaml").write_text(text, "utf-8")
        (folder / "logback.xml").write_text(LOGBACK, "utf-8")

    def command(self) -> list[str]:
        given = [f"-Dcassandra.settings.{key}={value}" for key, value in self.settings.items()]
        if self.metrics:
            agent = self.jars / f"jmx_prometheus_javaagent-{EXPORTER}.jar"
            given.append(f"-javaagent:{agent}={self.metrics}:{self.folder / 'exporter.yaml'}")
        command = java(
            self.heap,
            "-XX:MaxDirectMemorySize=256m",
            "-XX:+PerfDisableSharedMem",
            *OPEN,
            f"-javaagent:{self.jars}/jamm-0.4.0.jar",
            f"-Dcassandra.config=file://{self.folder}/cassandra.yaml",
            "-Dcassandra.config.allow_system_properties=true",
            f"-Dcassandra.storagedir={self.folder}",
            f"-Dcassandra.logdir={self.folder}/logs",
            f"-Djava.io.tmpdir={self.folder}",
            "-Dcassandra-foreground=yes",
            f"-Dcassandra.jmx.local.port={self.jmx}",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.ring_delay_ms=1000",
            "-Dcassandra.superuser_setup_delay_ms=0",
            "-Dcassandra.shutdown_announce_in_ms=0",
            *given,
            "-cp",
            f"{self.folder}:{self.jars}/*",
            "org.apache.cassandra.service.CassandraDaemon",
            least="64m",
        )
        # As root it could pin its whole heap in memory, and would.
        drop = ["setpriv", "--bounding-set=-ipc_lock", "--"] if shutil.which("setpriv") and os.geteuid() == 0 else []
        return ["env", "MALLOC_ARENA_MAX=2", *drop, *command]

    def ready(self, log: str) -> bool:
        return "Starting listening for CQL" in log


class SecureNode(Node):
    """A node that asks for a password and a certificate: ``client.crt`` and ``client.key``, by the authority ``ca.crt``.
    ``user`` may do everything."""

    user, password = "cassandra", "cassandra"  # what a new node begins with

    def __init__(self, name: str, folder: Path, host: str, port: int, **given: Any) -> None:
        super().__init__(name, folder, port=port, host=host, **given)
        key = secrets.token_urlsafe(12)
        certify(folder, "ca", "", "")
        certify(folder, "server", f"subjectAltName=IP:{host}", "ca")
        certify(folder, "client", "extendedKeyUsage=clientAuth", "ca")
        bundle = [program("openssl", "openssl"), "pkcs12", "-export", "-in", "server.crt", "-inkey", "server.key"]
        trust = [
            program("keytool", "default-jre-headless"),
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-file",
            "ca.crt",
        ]
        for command in (
            [*bundle, "-out", "server.p12", "-passout", f"pass:{key}"],
            [*trust, "-keystore", "ca.p12", "-storetype", "PKCS12", "-storepass", key],
        ):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        with (folder / "cassandra.yaml").open("a", encoding="utf-8") as file:
            file.write(SECURE.format(folder=folder, password=key))


class Nodes(Several):
    """Nodes of one cluster."""

    def __getitem__(self, index: int) -> Node:
        node: Node = self.members[index]
        return node

    def __len__(self) -> int:
        return len(self.members)

    def start(self) -> None:
        super().start()
        until = time.monotonic() + 60
        while len(self.members) > 1 and not all(sees(node, len(self.members)) for node in self.members):
            if time.monotonic() > until:
                raise ServiceError("cassandra: the nodes do not see each other after 60 s")
            time.sleep(0.1)


def sees(node: Node, count: int) -> bool:
    """Whether a node tells of all its peers, asked without a driver: OPTIONS, STARTUP and QUERY of CQL's protocol 4."""
    try:
        with socket.create_connection((node.host, node.port), 5) as link:
            link.sendall(frame(1, struct.pack(">H", 1) + word("CQL_VERSION") + word("3.0.0")))
            kind, _ = answer(link)
            if kind == 3:  # it asks for a password; whoever set that up looks for himself
                return True
            query = b"SELECT peer FROM system.peers_v2"
            link.sendall(frame(7, struct.pack(">i", len(query)) + query + struct.pack(">HB", 1, 0)))
            kind, body = answer(link)
    except OSError:
        return False
    return kind == 8 and rows(body) == count - 1


def rows(body: bytes) -> int:
    """The number of rows in a RESULT with one column: kind, flags, columns, keyspace, table, name, type, rows."""
    at = 12
    for _ in range(3):
        at += 2 + struct.unpack_from(">H", body, at)[0]
    count: int = struct.unpack_from(">i", body, at + 2)[0]
    return count


def word(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBhBi", 4, 0, 1, kind, len(body)) + body


def answer(link: socket.socket) -> tuple[int, bytes]:
    head = exactly(link, 9)
    return head[4], exactly(link, struct.unpack_from(">i", head, 5)[0])


def exactly(link: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = link.recv(count - len(found))
        if not part:
            raise OSError("the connection ended")
        found += part
    return found


def nodes(
    name: str, size: int, folder: Path, port: int = 0, *, heap: str = "", settings: Mapping[str, object] | None = None,
    metrics: bool = False, kind: type[Node] = Node, proxied: bool = False, **given: Any,
) -> Nodes:  # fmt: skip
    """One node on 127.0.0.1, or three on 127.0.0.1 to .3 with the same ports. Where they are ``proxied``, clients are told to
    ask 127.0.1.1 to .3 instead."""
    port, storage = port or free_port(), free_port()
    exporter = free_port() if metrics else 0
    # Two of three notice within a dozen seconds that the third is gone.
    settings = {**({"phi_convict_threshold": 5} if size > 1 else {}), **(settings or {})}
    return Nodes(
        [
            kind(
                f"{name}-{number}" if size > 1 else name,
                folder / f"node-{number}" if size > 1 else folder,
                f"127.0.0.{number}",
                port,
                number=number,
                size=size,
                storage=storage,
                heap=heap or ("512m" if size == 1 else "256m"),
                settings=settings,
                metrics=exporter,
                announced=f"127.0.1.{number}" if proxied else "",
                **given,
            )
            for number in range(1, size + 1)
        ]
    )


@contextmanager
def cassandra(folder: Path | None = None, *, port: int = 0, **given: Any) -> Iterator[Node]:
    """One Cassandra node."""
    with running("cassandra", folder, lambda place, more: nodes("cassandra", 1, place, port, **given, **more)) as made:
        yield made[0]


@contextmanager
def cassandra3(folder: Path | None = None, *, port: int = 0, **given: Any) -> Iterator[Nodes]:
    """Three Cassandra nodes."""
    with running(
        "cassandra3", folder, lambda place, more: nodes("cassandra3", 3, place, port, **given, **more)
    ) as made:
        yield made


@contextmanager
def cassandra_secure(folder: Path | None = None, **given: Any) -> Iterator[SecureNode]:
    """One Cassandra node that asks for passwords and certificates."""

    def make(place: Path, more: dict[str, Any]) -> Nodes:
        return nodes("cassandra_secure", 1, place, kind=SecureNode, **given, **more)

    with running("cassandra_secure", folder, make) as made:
        yield made[0]
