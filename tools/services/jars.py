"""Programs and jars that servers run on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.services.process import MissingError, ServiceError, home, one_at_a_time

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
POM = """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace.services</groupId>
  <artifactId>{name}</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
DEPENDENCY = "    <dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
# One compiler and one collector thread: a server that starts in two seconds and stays small. For figures of throughput
# append -XX:TieredStopAtLevel=4 by HEADRACE_SERVICES_JAVA.
JAVA = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)


def program(name: str, package: str, *others: str) -> str:
    found = next((path for place in (name, *others) if (path := shutil.which(place))), None)
    if found is None:
        raise MissingError(f"no {name}: install it (Debian, Ubuntu: apt install {package})")
    return found


@dataclass(frozen=True)
class Jars:
    """What a server is made of, as Maven names it: group:artifact:version."""

    name: str
    version: str
    of: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return home() / f"{self.name}-{self.version}"

    @property
    def missing(self) -> bool:
        """Whether there is something to fetch, and what fetches it."""
        return not self.folder.exists() and bool(shutil.which("java") and shutil.which("mvn"))

    def fetched(self) -> Path:
        """The folder with the jars; fetches them once, by Maven, which checks their sums."""
        program("java", "default-jre-headless")
        if not self.folder.exists():
            maven = program("mvn", "maven")
            with one_at_a_time("jars"):
                if not self.folder.exists():
                    self._fetch(maven)
        return self.folder

    def _fetch(self, maven: str) -> None:
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        dependencies = "\n".join(DEPENDENCY.format(*one.split(":")) for one in self.of)
        (new / "pom.xml").write_text(POM.format(name=self.name, dependencies=dependencies), "utf-8")
        command = [maven, "-q", "-B", "-C", "-f", str(new / "pom.xml"), COPY, f"-DoutputDirectory={new}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError(
                f"Maven could not fetch {self.name} {self.version}: {(done.stdout + done.stderr)[-1500:]}"
            )
        new.rename(self.folder)


def java(most: str, *what: str, least: str = "") -> list[str]:
    """The command that starts a Java program, with what HEADRACE_SERVICES_JAVA adds."""
    extra = shlex.split(os.environ.get("HEADRACE_SERVICES_JAVA", ""))
    return ["java", f"-Xms{least or most}", f"-Xmx{most}", *JAVA, *extra, *what]


def certify(folder: Path, name: str, extension: str, authority: str, subject: str = "") -> None:
    """Makes NAME.key and NAME.crt, its own authority or signed by another."""
    command = [
        program("openssl", "openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    command += [
        "-noenc",
        "-days",
        "2",
        "-subj",
        f"/CN={subject or name}",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.crt",
    ]
    if authority:
        command += ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key"]
        command += ["-addext", extension] if extension else []
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
