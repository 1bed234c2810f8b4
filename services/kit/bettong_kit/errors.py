"""Every error that the product raises on purpose.

::

    BettongError
    ├── InvalidArgumentError        the caller must change the request
    │   ├── InvalidNameError
    │   ├── InvalidModelError       not a model, damaged, needs a newer runtime
    │   └── IncompatibleStepsError  the columns of two steps do not fit
    ├── NotFoundError               no such model, pipeline, version or deployment
    ├── InUseError                  something else depends on it
    ├── ConflictError               somebody else changed it first
    ├── OverloadedError             a bound is reached; has a time after which to try again
    ├── NoSpaceError                the disk or a size limit is reached
    ├── UnavailableError            not ready, or draining
    │   └── CoordinationLostError   etcd does not answer; a change may have happened
    ├── CorruptDataError            what is stored is not what was written
    └── StartError                  the process cannot start
        ├── ConfigError             a setting is wrong
        ├── CoordinationRefusedError  etcd does not let us in, or has no such cluster
        ├── DataFolderError         the data folder is unusable, or another process holds it
        ├── MemberReplacedError     another member has our name
        └── AddressInUseError       a port is taken

Messages are shown to strangers: they name what was given and what was expected, never paths of the server or stack frames.
One table (`bettong_kit.rpc.STATUS_BY_CODE`) maps codes to gRPC statuses.
"""

import enum
from collections.abc import Mapping


class ErrorCode(enum.Enum):
    """What kind of error it is, independent of any protocol."""

    INTERNAL = "internal"
    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    IN_USE = "in_use"
    CONFLICT = "conflict"
    OVERLOADED = "overloaded"
    NO_SPACE = "no_space"
    UNAVAILABLE = "unavailable"
    CORRUPT_DATA = "corrupt_data"
    CANNOT_START = "cannot_start"


class BettongError(Exception):
    """Base of all errors that are raised on purpose.

    Attributes:
        code: Kind of the error.
        message: Text for people.
        fields: What is wrong with which field of the request.
        retry_after_s: Time after which the same request may succeed, if that is known.
    """

    code = ErrorCode.INTERNAL

    def __init__(
        self, message: str, *, fields: Mapping[str, str] | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields: Mapping[str, str] = fields or {}
        self.retry_after_s = retry_after_s


class InvalidArgumentError(BettongError):
    """The request is wrong and will be wrong again."""

    code = ErrorCode.INVALID_ARGUMENT


class InvalidNameError(InvalidArgumentError):
    """A name does not follow the rule."""


class InvalidModelError(InvalidArgumentError):
    """The file is not a model that the runtime can load."""


class IncompatibleStepsError(InvalidArgumentError):
    """A step asks for columns that the steps before it do not give."""


class NotFoundError(BettongError):
    """What was asked for is not there."""

    code = ErrorCode.NOT_FOUND


class InUseError(BettongError):
    """It cannot be removed while something depends on it."""

    code = ErrorCode.IN_USE


class ConflictError(BettongError):
    """Somebody else changed it between reading and writing."""

    code = ErrorCode.CONFLICT


class OverloadedError(BettongError):
    """A bound is reached for the moment."""

    code = ErrorCode.OVERLOADED


class NoSpaceError(BettongError):
    """A disk or size limit is reached."""

    code = ErrorCode.NO_SPACE


class UnavailableError(BettongError):
    """Not now: starting or draining."""

    code = ErrorCode.UNAVAILABLE


class CoordinationLostError(UnavailableError):
    """The coordination service does not answer. A change that was under way may have happened."""


class CorruptDataError(BettongError):
    """Stored bytes are not the ones that were written."""

    code = ErrorCode.CORRUPT_DATA


class StartError(BettongError):
    """The process cannot start; the message says what to do."""

    code = ErrorCode.CANNOT_START


class ConfigError(StartError):
    """A setting is unknown or has a value that makes no sense."""


class CoordinationRefusedError(StartError):
    """The coordination service does not let us in, or is not the one of our cluster."""


class MemberReplacedError(StartError):
    """Another live member has the name that this one wants or had."""


class DataFolderError(StartError):
    """The data folder cannot be used."""


class AddressInUseError(StartError):
    """Another process listens on an address."""
