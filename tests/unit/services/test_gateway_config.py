"""The gateway's settings."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bettong_gateway.config import GatewayConfig, load_config
from bettong_kit.errors import AddressInUseError, ConfigError


def test_the_other_ports_follow_the_data_port() -> None:
    """One number is enough to move a server."""
    config = load_config({"data_port": 9000}, {})
    assert (config.control_port_or_next(), config.metrics_port_or_next()) == (9001, 9002)


def test_a_free_data_port_frees_the_others() -> None:
    """Port 0 means any free port, for all three."""
    config = GatewayConfig(data_port=0)
    assert (config.control_port_or_next(), config.metrics_port_or_next()) == (0, 0)


def test_ports_that_are_given_are_taken() -> None:
    """A derived port is only a default."""
    config = GatewayConfig(data_port=9000, control_port=7, metrics_port=0)
    assert (config.control_port_or_next(), config.metrics_port_or_next()) == (7, 0)


def test_the_file_is_named_by_the_environment(tmp_path: Path) -> None:
    """Flags and variables override its values."""
    file = tmp_path / "bettong.toml"
    file.write_text('host = "0.0.0.0"\ndata_port = 1000\nlog_level = "debug"')
    environment = {"BETTONG_CONFIG": str(file), "BETTONG_DATA_PORT": "2000", "BETTONG_DATA": "/data"}
    config = load_config({"log_level": "error"}, environment)
    assert (config.host, config.data_port, config.log_level, config.data) == ("0.0.0.0", 2000, "error", Path("/data"))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"data_port": 70_000}, "data_port must be between 0 and 65535, got 70000"),
        (
            {"data_port": 65_535},
            r"data_port \(--port\) must be at most 65534, since control_port is 1 higher, got 65535",
        ),
        ({"data_port": 65_534}, "must be at most 65533, since metrics_port is 2 higher, got 65534"),
        ({"control_port": -2}, "control_port must be between -1"),
        ({"data_port": 9000, "metrics_port": 9001}, "must differ, got 9000, 9001, 9001"),
        ({"log_level": "loud"}, "log_level must be one of debug, info, warning, error, got 'loud'"),
        ({"log_style": "pretty"}, "log_style must be one of auto, console, json"),
        ({"drain_timeout_s": 0.0}, "drain_timeout_s must be positive"),
        ({"load_parallelism": -1}, "load_parallelism must be positive"),
        ({"lanes": -1}, "lanes must be between 0"),
        ({"max_in_flight": 1 << 32}, "max_in_flight must be between 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(flags: dict[str, object], reason: str) -> None:
    """Before anything starts, with the name and the bounds."""
    with pytest.raises(ConfigError, match=reason):
        load_config(flags, {})


@contextmanager
def _taken_port_after_a_free_one(offset: int) -> Iterator[int]:
    while True:
        with socket.create_server(("127.0.0.1", 0)) as taken, suppress(OSError):
            port = taken.getsockname()[1]
            if offset:
                socket.create_server(("127.0.0.1", port - offset)).close()
            yield port
            return


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        (0, "choose another port with --port$"),
        (
            1,
            "the control port, which follows --port {first}: it is in use by another process; choose .* --port or --control",
        ),
        (
            2,
            "the metrics port, which follows --port {first}: it is in use by another process; choose .* --port or --metrics",
        ),
    ],
)
def test_a_taken_port_names_what_was_given(offset: int, message: str) -> None:
    """A user who gave one number reads it again, also if a port beside it is taken."""
    with _taken_port_after_a_free_one(offset) as port:
        given = {"data_port": port - offset}
        # What follows is free only by luck, and so is checked alone.
        others = {"control_port": 0} if offset != 1 else {}
        config = load_config(given | others, {})
        pattern = f"cannot listen on 127.0.0.1:{port}.*{message.format(first=port - offset)}"
        with pytest.raises(AddressInUseError, match=pattern):
            config.check_ports_free()
