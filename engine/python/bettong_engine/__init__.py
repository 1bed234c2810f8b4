"""The engine: everything that an event passes through, in Rust. Typed in the stub beside this file."""

from bettong_engine.bettong_engine import (
    AddressInUseError,
    ControlReply,
    EngineError,
    Executor,
    Forwarder,
    Gateway,
    InvalidModelError,
    Local,
    build_version,
    record_crashes,
    set_log_level,
)

__all__ = [
    "AddressInUseError",
    "ControlReply",
    "EngineError",
    "Executor",
    "Forwarder",
    "Gateway",
    "InvalidModelError",
    "Local",
    "build_version",
    "record_crashes",
    "set_log_level",
]
