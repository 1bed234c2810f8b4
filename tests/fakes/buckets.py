"""A bucket of an S3-compatible server in this process."""

import contextlib
import itertools
import urllib.request
from collections.abc import Iterator

import pytest

_numbers = itertools.count(1)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run a server on a free port and return its address; skip where it is not installed."""
    pytest.importorskip("obstore", reason="the extra 's3' is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextlib.contextmanager
def s3_bucket(address: str) -> Iterator[str]:
    """Make an empty bucket, tell clients of this process how to reach it, and return a place in it as `s3://…`."""
    bucket = f"bucket-{next(_numbers)}"
    with urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT")):  # noqa: S310 - ours
        pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        yield f"s3://{bucket}/models"
