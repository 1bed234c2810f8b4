"""A pipeline without its server."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bettong
from bettong._local import cached_file

Deploy = Callable[..., bettong.Pipeline]
VECTORS = np.arange(20, dtype=np.float32).reshape(5, 4)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    "frame",
    [
        {"tensor": VECTORS},
        {"tensor": VECTORS.astype("f8")},
        {"tensor": np.asfortranarray(VECTORS)},
        pd.DataFrame({"tensor": VECTORS.tolist()}),
        pa.table({"tensor": pa.array(VECTORS.tolist())}),
        [{"tensor": row} for row in VECTORS.tolist()],
    ],
    ids=["arrays", "doubles", "columns first", "pandas", "arrow", "records"],
)
def test_local_answers_as_the_server_does(deployed: Deploy, frame: Any) -> None:
    """The same frame gives the same columns, types and values with and without the server."""
    pipeline = deployed()
    remote, local = pipeline.infer(frame), pipeline.local().infer(frame)
    assert type(remote) is type(local)
    names = remote[0] if isinstance(remote, list) else remote.column_names if isinstance(remote, pa.Table) else remote
    for name in names:
        if name != "time":
            ours, theirs = _column(local, name), _column(remote, name)
            assert np.asarray(ours.tolist()).tolist() == np.asarray(theirs.tolist()).tolist()
            assert ours.dtype == theirs.dtype


def _column(reply: Any, name: str) -> Any:
    if isinstance(reply, list):
        return np.array([record[name] for record in reply])
    return np.array(reply.column(name).to_pylist()) if isinstance(reply, pa.Table) else np.asarray(reply[name])


def test_columns_can_be_chosen(deployed: Deploy) -> None:
    """`dataset` works without the server, too."""
    assert list(deployed().local().infer({"tensor": VECTORS}, dataset=["out"])) == ["out.y"]


def test_mistakes_are_the_same_errors(deployed: Deploy) -> None:
    """A frame that does not fit is refused with the same class of error."""
    with pytest.raises(bettong.InvalidInputError):
        deployed().local().infer({"tensor": VECTORS[:, :3]})


@pytest.mark.slow
def test_pickle_works_in_another_process_without_server(deployed: Deploy, tmp_path: Path) -> None:
    """A worker that never saw the server unpickles the pipeline and runs it."""
    local = deployed().local()
    assert local.infer({"tensor": VECTORS})["out.y"].shape == (5, 1)
    path = tmp_path / "pipeline.pickle"
    path.write_bytes(pickle.dumps(local))
    code = (
        "import pickle, sys, numpy as np; local = pickle.load(open(sys.argv[1], 'rb')); "
        "print(local.infer({'tensor': np.ones((1, 4), 'f4')})['out.y'][0, 0])"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BETTONG")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "4.0"


def test_local_keeps_the_version_that_was_fetched(client: bettong.Client, name: str, deployed: Deploy) -> None:
    """A later version on the server does not change what was fetched; an older one can be asked for."""
    first = deployed().local()
    deployed(weight=2.0)
    assert first.infer({"tensor": VECTORS})["out.y"][1, 0] == 22.0
    assert (first.name(), first.version()) == (name, 1)
    pipeline = client.get_pipeline(name)
    assert pipeline.local().infer({"tensor": VECTORS})["out.y"][1, 0] == 44.0
    assert pipeline.local(version=1).infer({"tensor": VECTORS})["out.y"][1, 0] == 22.0


def test_damaged_cache_is_replaced() -> None:
    """A file in the cache that is not what its name says is written anew."""
    content, sha = b"content", "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    path = cached_file(sha, content)
    path.write_bytes(b"damaged")
    assert cached_file(sha, content).read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_golden_row_without_server(ccfraud: bettong.Pipeline, fixtures_path: Path) -> None:
    """The smoke row of the fixtures gives its number."""
    frame = pd.read_json(fixtures_path / "ccfraud/smoke_test.df.json")
    assert ccfraud.local().infer(frame)["out.dense_1"][0][0] == pytest.approx(0.0014974177, rel=1e-6)
