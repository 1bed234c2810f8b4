"""What every test may use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def fixtures_path() -> Path:
    """Return the folder of outside models and golden replies; skip where it is not."""
    folder = Path(os.environ.get("BETTONG_FIXTURES", ROOT.parent / "shared/fixtures"))
    if not folder.is_dir():
        pytest.skip("the fixtures folder is not here (BETTONG_FIXTURES)")
    return folder
