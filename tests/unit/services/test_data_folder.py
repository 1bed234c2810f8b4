"""One process for each data folder."""

import os
from pathlib import Path

import pytest

from bettong_kit.errors import DataFolderError
from bettong_serving.data_folder import locked_data_folder


def test_a_second_server_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    """The message names the process and what to do."""
    with locked_data_folder(tmp_path / "new"):
        refused = pytest.raises(DataFolderError, match=rf"used by another server \(pid {os.getpid()}\).*--data")
        with refused, locked_data_folder(tmp_path / "new"):
            pass


def test_the_folder_is_free_after_use(tmp_path: Path) -> None:
    """A server that ended does not stand in the way of the next."""
    with locked_data_folder(tmp_path):
        pass
    with locked_data_folder(tmp_path) as folder:
        assert folder == tmp_path


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in its place is the usual reason."""
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match="cannot be used"), locked_data_folder(tmp_path / "file"):
        pass
