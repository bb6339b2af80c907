"""The inbox folder keeps what the port promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.adapters.folder_inbox import FolderInbox
from headrace.errors import OutsideError
from headrace.ports import Inbox
from headrace.testing.inbox import InboxSuite


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
