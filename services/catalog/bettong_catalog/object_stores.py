"""From the address of an object store to the store."""

from pathlib import Path

from bettong_catalog.folder_objects import FolderObjects
from bettong_catalog.objects import ObjectStore
from bettong_kit.errors import ConfigError


def open_objects(url: str) -> ObjectStore:
    """Return the store of `file:///folder` or `s3://bucket/prefix`; nothing is asked of it yet.

    Raises:
        ConfigError: The address is unknown, or what it needs is not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file" and Path(rest).is_absolute():
        return FolderObjects(Path(rest))
    if scheme == "s3":
        try:
            from bettong_catalog.s3_objects import S3Objects  # noqa: PLC0415 - an extra that few need
        except ImportError as error:
            raise ConfigError(f"{url} needs a client that is not installed; run `pip install 'bettong[s3]'`") from error
        return S3Objects(url)
    raise ConfigError(f"'{url}' names no object store; expected file:///folder or s3://bucket/prefix")
