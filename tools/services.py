"""Real servers for tests and trials, on loopback, without containers: `./dev services up kafka sftp`.

Tests take them as fixtures (`tests/services.py`), other programs as `with services.kafka(folder) as broker:`. Every
process has a record on disk, written as it starts: so `down` finds what any `up` started, and what a killed program left
behind is ended by whoever comes next.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

KAFKA = "4.3.1"
# Kafka logs through slf4j 1.7, and not at all without a binding to it.
POM = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace.services</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version>
    </dependency>
  </dependencies>
</project>
"""
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
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
JAVA = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxDirectMemorySize=64m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)
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
SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
PasswordAuthentication yes
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM no
UseDNS no
AllowUsers {user}
AllowTcpForwarding no
AllowAgentForwarding no
PermitTTY no
MaxStartups 100
MaxSessions 50
Subsystem sftp internal-sftp
ChrootDirectory {root}
ForceCommand internal-sftp
"""
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096  # Windows only imports this
SFTP_USER = "headrace"
SFTP_UID = 64_321  # of nobody: it is looked up in a list that only this sshd sees
# sshd wants its users in /etc/passwd and its chroot below folders that only root can write, which /tmp is not. In a mount
# namespace of its own it gets both, the machine's users stay as they are, and all of it ends with the process.
SFTP_START = """set -e
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shadow" /etc/shadow
mount --bind "$1/root" /mnt
exec "$2" -D -e -f "$1/sshd_config"
"""


class ServiceError(Exception):
    """A server cannot be started here; the text says why and what would help."""


class MissingError(ServiceError):
    """A program that the server needs is not on this machine."""


# ── processes and their records ──────────────────────────────────────────────────────────────────────────────────────


def home() -> Path:
    """Where downloads and records are kept."""
    return Path(os.environ.get("HEADRACE_SERVICES") or "~/.cache/headrace/services").expanduser()


@dataclass(frozen=True)
class Process:
    parent: int
    memory: int  # in bytes
    born: str  # when it started: tells it from a later one of the same number


def processes() -> dict[int, Process]:
    """What runs on this machine, by number."""
    found = {}
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,rss=,lstart="], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            pid, parent, memory, *when = line.split()
            found[int(pid)] = Process(int(parent), int(memory) * 1024, " ".join(when))
        return found
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state = file.read_text("utf-8", "replace").rpartition(")")[2].split()
            if state[0] not in {"Z", "X"}:  # ended, and not yet asked about
                found[int(file.parent.name)] = Process(int(state[1]), int(state[21]) * PAGE, state[19])
    return found


def born(pid: int) -> str:
    """When a process started; empty where there is none."""
    process = processes().get(pid)
    return process.born if process else ""


def family(pid: int) -> dict[int, Process]:
    """A process and all that it started, the eldest first."""
    every = processes()
    found = {pid: every[pid]} if pid in every else {}
    waiting = list(found)
    while waiting:
        parent = waiting.pop(0)
        children = {child: process for child, process in every.items() if process.parent == parent}
        found |= children
        waiting += children
    return found


def send(pid: int, which: signal.Signals) -> None:
    """Signals a process and its children: sshd's sessions outlive a sshd that is killed."""
    for one in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, which)


@dataclass
class Record:
    """What is known of a running server; ``owner`` is the process that it must not outlive, 0 for none, and ``scrap`` a
    folder that goes with it."""

    name: str
    address: str
    folder: str
    scrap: str = ""
    pid: int = 0
    born: str = ""
    owner: int = 0
    owner_born: str = ""

    @property
    def file(self) -> Path:
        return home() / "running" / f"{self.name}{f'-{self.owner}-{Path(self.folder).name}' if self.owner else ''}.json"

    @property
    def alive(self) -> bool:
        return bool(self.pid and self.born and born(self.pid) == self.born)

    @property
    def left_over(self) -> bool:
        return bool(self.owner) and born(self.owner) != self.owner_born

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(asdict(self)), "utf-8")
        new.replace(self.file)


FIELDS = {field.name for field in fields(Record)}  # a record may be of another version of this file


def records() -> list[Record]:
    found = []
    for file in sorted((home() / "running").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # another process may be taking it away
            known = {key: value for key, value in json.loads(file.read_text("utf-8")).items() if key in FIELDS}
            found.append(Record(**known))
    return found


def end(running: Sequence[Record], patience: float = 15.0) -> None:
    """Ends servers, all at once: asks, waits, kills; then takes away their records and temporary folders."""
    alive = [r for r in running if r.alive]
    for record in alive:
        send(record.pid, signal.SIGCONT)
        send(record.pid, signal.SIGTERM)
    until = time.monotonic() + patience
    while any(r.alive for r in alive) and time.monotonic() < until:
        time.sleep(0.02)
    for record in [r for r in alive if r.alive]:
        send(record.pid, signal.SIGKILL)
    for record in running:
        record.file.unlink(missing_ok=True)
        if record.scrap:
            shutil.rmtree(record.scrap, ignore_errors=True)


def sweep() -> None:
    """Ends servers whose owner was killed before it could."""
    end([r for r in records() if r.left_over], patience=0)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    import fcntl

    home().mkdir(parents=True, exist_ok=True)
    with (home() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A port that is free, and below those which the system gives to clients, so that it is still free at a restart."""
    for _ in range(1000):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError("no free port between 15000 and 32000")


class Server:
    """One process: started, killed, paused and resumed at will, always with the same port and data."""

    def __init__(self, name: str, folder: Path, port: int, *, address: str, owner: int, scrap: str) -> None:
        self.folder = folder
        self.port = port
        self.address = address
        self.record = Record(name, address, str(folder), scrap, owner=owner, owner_born=born(owner) if owner else "")
        self.started: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self, log: str) -> bool:
        """Whether it serves, told from its log of this start."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def alive(self) -> bool:
        return self.record.alive

    def start(self, *, wait: bool = True) -> None:
        """Starts the server, unless it runs, and returns once it serves."""
        if not self.alive:
            with self.log.open("wb") as log:
                self.started = subprocess.Popen(
                    self.command(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C at the starter is not for the server
                )
            self.record.pid = self.started.pid
            self.record.born = born(self.started.pid)
            self.record.write()
        if wait:
            self.wait()

    def wait(self, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not self.ready(self.log.read_text("utf-8", "replace")):
            if self.started is not None and self.started.poll() is not None:
                raise ServiceError(f"{self.record.name} ended at once: {self.tail()}")
            if time.monotonic() > until:
                raise ServiceError(f"{self.record.name} does not serve after {seconds:.0f} s: {self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])

    def signal(self, which: signal.Signals) -> None:
        if self.alive:
            send(self.pid, which)

    def kill(self) -> None:
        """Ends it as a power cut would: SIGKILL, with all its sessions."""
        self.signal(signal.SIGKILL)
        self.reap()

    def stop(self) -> None:
        """Asks it to end, and returns once it has."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self.reap()

    def reap(self) -> None:
        if self.started is not None:
            try:
                self.started.wait(20)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.started.wait(20)

    def pause(self) -> None:
        """Stops it without closing its connections, as a host that hangs."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def heal(self) -> None:
        """Running and not paused, whatever was done to it."""
        self.resume()
        self.start()

    def close(self) -> None:
        end([self.record])
        self.reap()


# ── Kafka ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def program(name: str, package: str, *others: str) -> str:
    found = next((path for place in (name, *others) if (path := shutil.which(place))), None)
    if found is None:
        raise MissingError(f"no {name}: install it (Debian, Ubuntu: apt install {package})")
    return found


def jars_missing() -> bool:
    """Whether there is something to fetch, and what fetches it."""
    return not (home() / f"kafka-{KAFKA}").exists() and bool(shutil.which("java") and shutil.which("mvn"))


def jars() -> Path:
    """The folder with Kafka's jars; fetches them once, by Maven, which checks their sums."""
    folder = home() / f"kafka-{KAFKA}"
    program("java", "default-jre-headless")
    if not folder.exists():
        maven = program("mvn", "maven")
        with one_at_a_time("jars"):
            if not folder.exists():
                new = home() / f"kafka-{KAFKA}.new"
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir(parents=True)
                (new / "pom.xml").write_text(POM, "utf-8")
                (new / "log4j2.properties").write_text(LOGGING, "utf-8")
                command = [maven, "-q", "-B", "-C", "-f", str(new / "pom.xml"), COPY_JARS]
                done = subprocess.run(
                    [*command, f"-DoutputDirectory={new}"], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise ServiceError(f"Maven could not fetch Kafka {KAFKA}: {(done.stdout + done.stderr)[-1500:]}")
                new.rename(folder)
    return folder


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
        self.jars = jars()
        values = {"node": node, "voters": voters, "port": port, "controller": controller, "data": folder / "data"}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.properties").write_text(
            BROKER.format(**values, copies=size, insync=max(1, size - 1)), "utf-8"
        )

    def java(self, heap: str, *what: str) -> list[str]:
        extra = shlex.split(os.environ.get("HEADRACE_SERVICES_JAVA", ""))
        logging = f"-Dlog4j2.configurationFile={self.jars}/log4j2.properties"
        return ["java", f"-Xms{heap}", f"-Xmx{heap}", *JAVA, logging, *extra, "-cp", f"{self.jars}/*", *what]

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
        self.certify("ca", "", "")
        self.certify("server", "subjectAltName=IP:127.0.0.1", "ca")
        self.certify("client", "extendedKeyUsage=clientAuth", "ca")
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

    def certify(self, name: str, extension: str, authority: str) -> None:
        """Makes a key and a certificate, its own authority or signed by another."""
        openssl = program("openssl", "openssl")
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        command += ["-days", "2", "-subj", f"/CN={self.user if name == 'client' else name}"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        if authority:
            command += ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-addext", extension]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


class Cluster:
    """Several brokers; ``brokers[0]`` is the first, ``address`` names them all."""

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self.brokers = list(brokers)
        self.address = ",".join(b.address for b in brokers)

    def __getitem__(self, index: int) -> Broker:
        return self.brokers[index]

    def __len__(self) -> int:
        return len(self.brokers)

    def start(self) -> None:
        cluster = secrets.token_urlsafe(16)
        for done in [made for b in self.brokers if (made := b.format(cluster))]:
            said = done.communicate(timeout=60)[0]
            if done.returncode:
                raise ServiceError(
                    f"kafka: the data folder could not be laid out: {said.decode(errors='replace')[-1500:]}"
                )
        for broker in self.brokers:
            broker.start(wait=False)
        for broker in self.brokers:
            broker.wait()

    def heal(self) -> None:
        for broker in self.brokers:
            broker.resume()
            broker.start(wait=False)
        for broker in self.brokers:
            broker.wait()

    def close(self) -> None:
        end([b.record for b in self.brokers])
        for broker in self.brokers:
            broker.reap()


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


# ── SFTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Sftp(Server):
    """OpenSSH's sshd for one user by key or password, who sees only ``upload`` of it, as ``/upload``."""

    user = SFTP_USER

    def __init__(self, folder: Path, port: int, **given: Any) -> None:
        super().__init__("sftp", folder, port, address=f"sftp://{SFTP_USER}@127.0.0.1:{port}/upload", **given)
        self.sshd = program("sshd", "openssh-server", "/usr/sbin/sshd")
        program("ssh-keygen", "openssh-client")
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        if not root or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
            raise MissingError("an SFTP server for tests needs Linux, root, and mount namespaces (unshare)")
        self.upload = folder / "root" / "upload"
        self.key = folder / "client_key"
        self.upload.mkdir(parents=True, exist_ok=True)
        os.chown(self.upload, SFTP_UID, SFTP_UID)
        for key in ("host_key", "client_key"):
            if not (folder / key).exists():
                keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / key)]
                subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        self.host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        password = folder / "password"
        if not password.exists():
            password.touch(0o600)
            password.write_text(secrets.token_urlsafe(12))
        self.password = password.read_text()
        line = f"{SFTP_USER}:x:{SFTP_UID}:{SFTP_UID}::/upload:/usr/sbin/nologin\n"
        (folder / "passwd").write_text(Path("/etc/passwd").read_text() + line)
        (folder / "shadow").touch(0o600)
        (folder / "shadow").write_text(f"{SFTP_USER}:{hashed(self.password)}:20000:0:99999:7:::\n")
        (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder, user=SFTP_USER, root="/mnt"), "utf-8")

    def clear(self) -> None:
        """Takes away all that was uploaded."""
        for entry in self.upload.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def command(self) -> list[str]:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks its unprivileged half in
        return ["unshare", "--mount", "/bin/sh", "-c", SFTP_START, "sftp", str(self.folder), self.sshd]

    def ready(self, log: str) -> bool:
        return "Server listening on" in log


def hashed(password: str) -> str:
    """A password as /etc/shadow holds it; Python 3.13 has no crypt module."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    made: bytes = crypt(password.encode(), f"$6${secrets.token_hex(8)}$".encode())
    return made.decode()


# ── the library ──────────────────────────────────────────────────────────────────────────────────────────────────────


def new_folder(folder: Path | None, name: str) -> tuple[Path, str]:
    """A folder for data, and it again where it is to go with the server."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve(), ""
    made = Path(tempfile.mkdtemp(prefix=f"headrace-{name}-"))
    made.chmod(0o755)  # an SFTP user goes through it
    return made, str(made)


@contextmanager
def running(name: str, folder: Path | None, make: Callable[[Path, dict[str, Any]], Cluster | Sftp]) -> Iterator[Any]:
    sweep()
    place, scrap = new_folder(folder, name)
    server = None
    try:
        server = make(place, {"owner": os.getpid(), "scrap": scrap})
        server.start()
        yield server
    finally:
        if server is not None:
            server.close()
        if scrap:  # also where no server came to be
            shutil.rmtree(scrap, ignore_errors=True)


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


@contextmanager
def sftp(folder: Path | None = None, *, port: int = 0) -> Iterator[Sftp]:
    """An SFTP server; files that lie in ``upload`` are in its ``/upload``."""
    with running("sftp", folder, lambda place, given: Sftp(place, port or free_port(), **given)) as server:
        yield server


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("kafka", "kafka3", "sftp")


def of(name: str) -> list[Record]:
    """Records of a service that some `up` started."""
    return [r for r in records() if not r.owner and r.name.split("-")[0] == name]


def up(name: str, folder: Path | None, port: int) -> None:
    have = of(name)
    if have and all(r.alive for r in have):
        return
    end(have)  # what is left of one that died
    place, scrap = new_folder(folder, name)
    given: dict[str, Any] = {"owner": 0, "scrap": scrap}
    ports = [port and port + i for i in range(3 if name == "kafka3" else 1)]
    made = (
        Sftp(place, port or free_port(), **given)
        if name == "sftp"
        else brokers(name, len(ports), place, ports, "160m", **given)
    )
    try:
        made.start()
    except BaseException:
        made.close()
        raise


def show() -> None:
    rows = [("name", "pid", "memory", "address", "folder")]
    for r in records():
        note = "  (left over)" if r.left_over else "  (of a test)" if r.owner else ""
        memory = f"{sum(p.memory for p in family(r.pid).values()) / 1e6:.0f} MB" if r.alive else "-"
        rows.append((r.name, str(r.pid) if r.alive else "dead", memory, r.address, r.folder + note))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev services", description="Real servers on loopback, for tests and trials."
    )
    parser.add_argument("what", choices=("up", "down", "status", "fetch"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; none: all of them")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, of the first broker; 0: any free one")
    parser.add_argument("--folder", type=Path, help="where data is kept; without: a temporary folder, gone with `down`")
    parser.add_argument("--dry", action="store_true", help="of fetch: only say, by the exit code, whether it is done")
    given = parser.parse_args(args)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no service {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    names = given.names or NAMES
    if len(names) > 1 and (given.port or given.folder):
        parser.error("--port and --folder are for one service")
    try:
        if given.what == "fetch":
            if given.dry:
                return jars_missing()
            jars()
            return 0
        with one_at_a_time("services"):
            sweep()
            if given.what == "up":
                for name in names:
                    up(name, given.folder, given.port)
            elif given.what == "down":
                end([r for name in names for r in of(name)])
    except ServiceError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    show()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
