"""Inboxes keep what the port promises: a folder, and a real SFTP server."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.adapters.folder_inbox import FolderInbox
from headrace.errors import OutsideError
from headrace.ports import Inbox
from headrace.testing.inbox import InboxSuite
from tests.sftp import inbox_at
from tools import services


class TestFolder(InboxSuite):
    def open(self, place: Path) -> Inbox:
        return FolderInbox(place)

    def deliver(self, place: Path, name: str, data: bytes) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)

    def withdraw(self, place: Path, name: str) -> None:
        (place / name).unlink()

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"x")
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.csv").symlink_to(secret)
        assert self.names(tmp_path / "in", "*.csv") == []

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(OutsideError, match="HR0407.*nowhere"):
            FolderInbox(tmp_path / "nowhere").list("*.csv")


class TestSftp(InboxSuite):
    @pytest.fixture(autouse=True)
    def take(self, sftp: services.Sftp) -> None:
        self.server = sftp

    def open(self, place: Path) -> Inbox:
        self.folder(place).mkdir(exist_ok=True)
        return inbox_at(self.server, path=f"/upload/{place.name}")

    def deliver(self, place: Path, name: str, data: bytes) -> None:
        path = self.folder(place) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def withdraw(self, place: Path, name: str) -> None:
        (self.folder(place) / name).unlink()

    def folder(self, place: Path) -> Path:
        return self.server.upload / place.name

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        self.deliver(tmp_path, "_secret/a.csv", b"x")
        (self.folder(tmp_path) / "a.csv").symlink_to("_secret/a.csv")
        (self.folder(tmp_path) / "b").symlink_to("_secret")
        assert self.names(tmp_path, "**") == []
        assert self.names(tmp_path, "b/*.csv") == []

    def test_a_missing_folder_is_named(self) -> None:
        with pytest.raises(OutsideError, match="HR0407.*/upload/nowhere"):
            inbox_at(self.server, path="/upload/nowhere").list("*.csv")
