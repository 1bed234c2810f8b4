"""The builder of deployment configs."""

import inspect

import pytest

import bettong
from bettong._connection import Connection
from bettong._deployment_config import parse_bytes
from bettong._http import parse_endpoint
from bettong.v1 import models_pb2


def test_builder_keeps_what_was_given() -> None:
    """Each method puts its value where the server looks for it."""
    config = (
        bettong.DeploymentConfigBuilder()
        .replica_count(2)
        .replica_autoscale_min_max(minimum=1, maximum=5)
        .autoscale_cpu_utilization(75)
        .scale_up_queue_depth(10)
        .scale_down_queue_depth()
        .autoscaling_window()
        .cpus(0.25)
        .memory("1Gi")
        .gpus(1)
        .deployment_label("zone:a")
        .arch(bettong.Architecture.ARM)
        .accel(bettong.Acceleration.CUDA)
        .lb_cpus(1)
        .lb_memory("512Mi")
        .image("x")
        .python_load_timeout_secs(30)
        .build()
        .to_pb()
    )
    assert (config.replicas, config.replicas_min, config.replicas_max) == (2, 1, 5)
    assert (config.autoscale_cpu_utilization, config.scale_up_queue_depth) == (75, 10)
    assert (config.scale_down_queue_depth, config.autoscaling_window_s) == (1, 300)
    assert (config.cpus, config.memory_bytes, config.gpus) == (0.25, 1 << 30, 1)
    assert dict(config.labels) == {"zone": "a"}
    assert dict(config.other) == {
        "arch": "arm",
        "accel": "cuda",
        "lb_cpus": "1",
        "lb_memory": str(512 << 20),
        "image": "x",
        "python_load_timeout_secs": "30",
    }


def test_every_method_returns_the_builder() -> None:
    """Calls can be chained in any order."""
    returning = [
        name
        for name, method in inspect.getmembers(bettong.DeploymentConfigBuilder, inspect.isfunction)
        if not name.startswith("_") and name != "build"
    ]
    assert len(returning) == 23
    for name in returning:
        assert inspect.signature(getattr(bettong.DeploymentConfigBuilder, name)).return_annotation.__name__ == "Self"


def test_sidekick_settings_are_kept_under_the_model() -> None:
    """What is asked for the container of a model says which model."""
    message = models_pb2.Model(name="m", version=1)
    model = bettong.ModelVersion(Connection(parse_endpoint("http://127.0.0.1:9"), 1.0), message)
    config = (
        bettong.DeploymentConfigBuilder()
        .sidekick_cpus(model, 0.5)
        .sidekick_memory(model, "1Gi")
        .sidekick_gpus(model, 1)
        .sidekick_env(model, {"B": "2", "A": "1"})
        .sidekick_arch(model, bettong.Architecture.X86)
        .sidekick_accel(model, bettong.Acceleration.CUDA)
        .build()
    )
    assert dict(config.to_pb().other) == {
        "sidekick_cpus:m": "0.5",
        "sidekick_memory:m": str(1 << 30),
        "sidekick_gpus:m": "1",
        "sidekick_env:m": '{"A": "1", "B": "2"}',
        "sidekick_arch:m": "x86",
        "sidekick_accel:m": "cuda",
    }
    assert len({config, bettong.DeploymentConfigBuilder().build()}) == 2
    assert "sidekick_cpus:m" in repr(config)


def test_build_is_a_snapshot() -> None:
    """A config does not change when the builder goes on."""
    builder = bettong.DeploymentConfigBuilder().cpus(1)
    config = builder.build()
    builder.cpus(2)
    assert config.to_pb().cpus == 1
    assert config != builder.build()


def test_autoscaling_can_be_taken_back() -> None:
    """`disable_autoscale` forgets what was asked before."""
    builder = bettong.DeploymentConfigBuilder().replica_autoscale_min_max(5).autoscale_cpu_utilization(50)
    assert builder.disable_autoscale().build() == bettong.DeploymentConfigBuilder().build()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512Mi", 512 << 20), ("1Gi", 1 << 30), ("1.5G", 1_500_000_000), ("100", 100), ("2 Ki", 2048)],
)
def test_amounts_of_memory(text: str, expected: int) -> None:
    """Binary and decimal units are understood."""
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "Gi", "-1Gi", "1Xi", "1GiB", "0", "1e9"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(bettong.InvalidInputError, match="512Mi"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "call",
    [
        lambda builder: builder.replica_count(0),
        lambda builder: builder.replica_autoscale_min_max(1, 2),
        lambda builder: builder.cpus(0),
        lambda builder: builder.cpus(float("nan")),
        lambda builder: builder.deployment_label("zone"),
        lambda builder: builder.scale_up_queue_depth(0),
    ],
)
def test_values_without_sense_are_refused(call: object) -> None:
    """A value that no server could honour is refused when it is given."""
    assert callable(call)
    with pytest.raises(bettong.InvalidInputError):
        call(bettong.DeploymentConfigBuilder())
