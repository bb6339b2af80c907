"""Kafka brokers, alone, three together, or asking for names and passwords."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.services.jars import Jars, certify, java
from tools.services.process import Server, ServiceError, Several, free_port, running

# Kafka logs through slf4j 1.7, and not at all without a binding to it.
JARS = Jars("kafka", "4.3.1", ("org.apache.kafka:kafka_2.13:4.3.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"))
LOGGING = """status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} - %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server
logger.server.level = info
"""
# One compiler and one collector thread: a broker that starts in two seconds and stays small. For figures of throughput
# append -XX:TieredStopAtLevel=4 by HEADRACE_SERVICES_JAVA.
BROKER = """process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={insync}
unclean.leader.election.enable=false
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={insync}
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# Replayed history has old timestamps and must stay.
log.retention.ms=-1
# A deleted topic is gone within a second, not a minute.
log.segment.delete.delay.ms=1000
# The default is 128 MiB, out of the heap.
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.io.buffer.size=131072
num.network.threads=2
num.io.threads=4
# A dead broker is noticed within three seconds, not nine.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
"""
# Beside the open listener, which is for who sets things up, those that ask who comes, and allow nothing by themselves.
SECURE = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL_PLAINTEXT://127.0.0.1:{sasl},SASL_SSL://127.0.0.1:{sasl_tls},SSL://127.0.0.1:{tls}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},SASL_SSL://127.0.0.1:{sasl_tls},SSL://127.0.0.1:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config={plain}
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config={scram}
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={scram}
listener.name.sasl_ssl.plain.sasl.jaas.config={plain}
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.crt
listener.name.ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class Broker(Server):
    """A Kafka broker that is its own controller, or one of several; ``address`` is its bootstrap server."""

    def __init__(
        self,
        name: str,
        folder: Path,
        port: int,
        *,
        node: int,
        voters: str,
        controller: int,
        size: int,
        heap: str,
        **given: Any,
    ) -> None:
        super().__init__(name, folder, port, address=f"127.0.0.1:{port}", **given)
        self.heap = heap
        self.jars = JARS.fetched()
        values = {"node": node, "voters": voters, "port": port, "controller": controller, "data": folder / "data"}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log4j2.properties").write_text(LOGGING, "utf-8")
        (folder / "server.properties").write_text(
            BROKER.format(**values, copies=size, insync=max(1, size - 1)), "utf-8"
        )

    def java(self, heap: str, *what: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties"
        return java(heap, "-XX:MaxDirectMemorySize=64m", logging, "-cp", f"{self.jars}/*", *what)

    def format(self, cluster: str) -> subprocess.Popen[bytes] | None:
        """Begins to lay out an empty data folder; None where there is one already."""
        if (self.folder / "data" / "meta.properties").exists():
            return None
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config"]  # an id may begin with -
        command = self.java("48m", *tool, str(self.folder / "server.properties"))
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def command(self) -> list[str]:
        return self.java(self.heap, "kafka.Kafka", str(self.folder / "server.properties"))

    def ready(self, log: str) -> bool:
        return "Kafka Server started" in log


class SecureBroker(Broker):
    """A broker that also listens where users must name themselves: ``sasl``, ``sasl_tls`` and ``tls`` are the addresses.

    ``user`` has ``password`` by PLAIN, and the certificate ``client.crt``; the authority is ``ca.crt``. Nobody but who
    comes by ``address`` may do anything before an access rule allows it.
    """

    user = "headrace"

    def __init__(self, name: str, folder: Path, port: int, *, controller: int, **given: Any) -> None:
        super().__init__(name, folder, port, controller=controller, **given)
        self.password = secrets.token_urlsafe(12)
        sasl, sasl_tls, tls = free_port(), free_port(), free_port()
        self.sasl, self.sasl_tls, self.tls = (f"127.0.0.1:{number}" for number in (sasl, sasl_tls, tls))
        certify(folder, "ca", "", "")
        certify(folder, "server", "subjectAltName=IP:127.0.0.1", "ca")
        certify(folder, "client", "extendedKeyUsage=clientAuth", "ca", self.user)
        (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
        values = {
            "plain": f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{self.user}="{self.password}";',
            "scram": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            "sasl": sasl,
            "sasl_tls": sasl_tls,
            "tls": tls,
        }
        with (folder / "server.properties").open("a") as file:
            file.write(SECURE.format(port=port, controller=controller, folder=folder, **values))


class Cluster(Several):
    """Several brokers of one Kafka."""

    def __getitem__(self, index: int) -> Broker:
        broker: Broker = self.members[index]
        return broker

    def __len__(self) -> int:
        return len(self.members)

    @property
    def brokers(self) -> list[Broker]:
        return self.members

    def start(self) -> None:
        cluster = secrets.token_urlsafe(16)
        for done in [made for b in self.members if (made := b.format(cluster))]:
            said = done.communicate(timeout=60)[0]
            if done.returncode:
                raise ServiceError(
                    f"kafka: the data folder could not be laid out: {said.decode(errors='replace')[-1500:]}"
                )
        super().start()


def brokers(
    name: str,
    size: int,
    folder: Path,
    ports: Sequence[int],
    heap: str,
    *,
    kind: Callable[..., Broker] = Broker,
    **given: Any,
) -> Cluster:
    ports = [port or free_port() for port in ports] or [free_port() for _ in range(size)]
    controllers = [free_port() for _ in range(size)]
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
    return Cluster(
        [
            kind(
                f"{name}-{node}" if size > 1 else name,
                folder / f"broker-{node}" if size > 1 else folder,
                ports[node - 1],
                node=node,
                voters=voters,
                controller=controllers[node - 1],
                size=size,
                heap=heap,
                **given,
            )
            for node in range(1, size + 1)
        ]
    )


@contextmanager
def kafka(folder: Path | None = None, *, port: int = 0, heap: str = "160m") -> Iterator[Broker]:
    """One Kafka broker."""
    with running("kafka", folder, lambda place, given: brokers("kafka", 1, place, [port], heap, **given)) as cluster:
        yield cluster[0]


@contextmanager
def kafka_secure(folder: Path | None = None, *, heap: str = "160m") -> Iterator[SecureBroker]:
    """One Kafka broker that asks for names, passwords and certificates."""

    def make(place: Path, given: dict[str, Any]) -> Cluster:
        return brokers("kafka_secure", 1, place, [0], heap, kind=SecureBroker, **given)

    with running("kafka_secure", folder, make) as cluster:
        yield cluster[0]


@contextmanager
def kafka3(folder: Path | None = None, *, ports: Sequence[int] = (), heap: str = "160m") -> Iterator[Cluster]:
    """Three Kafka brokers: every record three times, acknowledged once two have it."""
    with running("kafka3", folder, lambda place, given: brokers("kafka3", 3, place, ports, heap, **given)) as cluster:
        yield cluster
