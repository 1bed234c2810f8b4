"""An S3-compatible bucket as an object store. The only file that imports `obstore`."""

import os
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import S3Store

from bettong_catalog.files import CHUNK_BYTES
from bettong_catalog.objects import ObjectInfo, missing
from bettong_kit.errors import BettongError, ConfigError, UnavailableError

_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_LONGEST_REASON = 300
_CODE = re.compile(r"<Code>(\w+)</Code>")


class S3Objects:
    """Objects below one prefix. Endpoint, region and credentials are those of the usual `AWS_…` variables."""

    def __init__(self, url: str) -> None:
        """Use `s3://bucket/prefix`; nothing is asked of it yet.

        Raises:
            ConfigError: A variable makes no sense.
        """
        self._url = url
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        try:
            self._store = S3Store(
                bucket,
                prefix=prefix.strip("/") or None,
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=5),
                    "read_timeout": timedelta(seconds=30),
                    # Of a whole request; a large file may take longer than any number that fits a small one.
                    "timeout": timedelta(hours=6),
                },
                # Short: whoever asks tries again by itself, and can be told why it takes so long.
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
            )
        except BaseError as error:
            raise ConfigError(f"{url}: {_reason(error)}") from error

    @property
    def url(self) -> str:
        """Return what people know the store by."""
        return self._url

    async def create(self) -> None:
        """Do nothing: a bucket is made by whoever pays for it."""

    async def put(self, name: str, file: Path) -> None:
        """Keep a copy of a file; see `ObjectStore.put`."""
        try:
            await obstore.put_async(self._store, name, file, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        except (BaseError, OSError) as error:
            raise self._error(error, name) from error

    async def read(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file from a position on; see `ObjectStore.read`."""
        try:
            if offset and offset >= (await self.info(name)).size_bytes:
                # A range that is empty is an error for S3.
                return
            reply = await obstore.get_async(self._store, name, options={"range": {"offset": offset}} if offset else {})
            async for chunk in reply.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (BaseError, OSError) as error:
            raise self._error(error, name) from error

    async def info(self, name: str) -> ObjectInfo:
        """Return what is known of a file; see `ObjectStore.info`."""
        try:
            return _info(await obstore.head_async(self._store, name))
        except (BaseError, OSError) as error:
            raise self._error(error, name) from error

    async def list(self) -> list[ObjectInfo]:
        """Return all files; see `ObjectStore.list`."""
        try:
            pages = obstore.list(self._store)
            return [_info(entry) async for page in pages for entry in page]
        except (BaseError, OSError) as error:
            raise self._error(error, "") from error

    async def remove(self, name: str) -> None:
        """Forget a file; see `ObjectStore.remove`."""
        try:
            await obstore.delete_async(self._store, name)
        except ObjectNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._error(error, name) from error

    def _error(self, error: Exception, name: str) -> BettongError:
        # A bucket that is not there is "not found", too; the file is not what is missing then.
        if isinstance(error, (FileNotFoundError, ObjectNotFoundError)) and "NoSuchBucket" not in str(error):
            return missing(self._url, name)
        if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            return UnavailableError(f"{self._url} refuses us: {_reason(error)}")
        return UnavailableError(f"{self._url} cannot be used: {_reason(error)}")


def _info(entry: "obstore.ObjectMeta") -> ObjectInfo:
    # A list has milliseconds with some servers (MinIO, Ceph), the head of a file whole seconds: one file must look the same in both.
    return ObjectInfo(entry["path"], entry["size"], int(entry["last_modified"].timestamp()) * 1000)


def _reason(error: Exception) -> str:
    """Return the first line of an error, which may go on for pages, and the code that the server gave."""
    text = str(error).strip() or type(error).__name__
    code = _CODE.search(text)
    line = text.splitlines()[0].partition(": <?xml")[0][:_LONGEST_REASON]
    return f"{line} ({code[1]})" if code else line
