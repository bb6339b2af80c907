"""OpenSSH's sshd for one user."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.services.jars import program
from tools.services.process import MissingError, Server, free_port, running

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


@contextmanager
def sftp(folder: Path | None = None, *, port: int = 0) -> Iterator[Sftp]:
    """An SFTP server; files that lie in ``upload`` are in its ``/upload``."""
    with running("sftp", folder, lambda place, given: Sftp(place, port or free_port(), **given)) as server:
        yield server
