"""Roles of a cluster put together from the engine itself, in the process of the test.

Each role has lanes and a data port of its own, so that they meet over sockets as they do in a cluster; nothing here needs etcd.
"""

import contextlib
import importlib.util
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import bettong_engine
from bettong.internal.v1 import snapshot_pb2 as pb
from bettong.v1 import models_pb2

CLUSTER = "tested"

Address: TypeAlias = str

NAMES: dict[Address, str] = {}
"""Role and name that whoever listens there says in its hello; tables must name the same."""

Places: TypeAlias = Sequence[int]


def onnxruntime_library() -> str:
    """Return the path of the library inside the installed wheel."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None
    folder = Path(next(iter(spec.submodule_search_locations or ())))
    return str(next((folder / "capi").glob("libonnxruntime.so.*")))


def program(name: str, signature: models_pb2.Signature, *, version: int = 1, delay_us: int = 0) -> pb.Program:
    """Return a pipeline of one model; *delay_us* is how long a batch waits, which keeps calls open for so long."""
    source = [pb.Source(step=0, index=at) for at in range(len(signature.inputs))]
    return pb.Program(
        pipeline=name,
        version=version,
        inputs=[pb.ProgramInput(spec=spec) for spec in signature.inputs],
        steps=[pb.ProgramStep(model_id=name, inputs=source, model_name=name, model_version=version)],
        outputs=[
            pb.ProgramOutput(spec=spec, source=pb.Source(step=1, index=at)) for at, spec in enumerate(signature.outputs)
        ],
        batch_mode=signature.batch_mode,
        max_batch_delay_us=delay_us,
    )


@dataclass
class Role:
    """One running role."""

    name: str
    executor: bettong_engine.Executor
    gateway: bettong_engine.Gateway
    forwarder: bettong_engine.Forwarder | None = None
    _revision: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def status(self) -> pb.GatewayStatus:
        return pb.GatewayStatus.FromString(self.gateway.status())

    @property
    def address(self) -> Address:
        return self.status.data_address

    @property
    def links(self) -> pb.ForwarderStatus:
        """What the forwarder counted."""
        assert self.forwarder is not None
        return pb.ForwarderStatus.FromString(self.forwarder.status())

    def host(self, name: str, file: Path, *, version: int = 1, delay_us: int = 0, whole: bool = False) -> pb.Program:
        """Load a file and run it for others; return the program."""
        mode = models_pb2.BATCH_MODE_WHOLE if whole else models_pb2.BATCH_MODE_UNSPECIFIED
        spec = pb.ModelSpec(id=name, path=str(file), framework=models_pb2.FRAMEWORK_ONNX, batch_mode=mode)
        signature = models_pb2.Signature.FromString(self.executor.load_model(spec.SerializeToString()))
        made = program(name, signature, version=version, delay_us=delay_us)
        self.executor.host(pb.HostUpdate(serve=[made]).SerializeToString())
        return made

    def unhost(self, name: str, *, version: int = 1) -> None:
        """Run it for others no more."""
        key = pb.ProgramKey(pipeline=name, version=version)
        self.executor.host(pb.HostUpdate(stop=[key]).SerializeToString())

    def serve(self, *programs: pb.Program) -> None:
        """Accept requests for programs that others run."""
        update = pb.RoutingUpdate(revision=next(self._revision), forward=programs)
        self.gateway.apply(update.SerializeToString())

    def table(self, peers: Sequence[Address], *, all_of: Sequence[pb.Program] = (), any_of: bool = False) -> None:
        """Forward to *peers*: what is in *all_of* to each, with *any_of* everything else as to routers."""
        places = range(len(peers))
        table = pb.ForwardingTable(
            revision=next(self._revision),
            peers=[
                pb.Peer(name=NAMES.get(address, f"peer/{at}"), address=address, epoch=1)
                for at, address in enumerate(peers)
            ],
            replicas=[pb.Replicas(pipeline=one.pipeline, version=one.version, peers=places) for one in all_of],
            any=places if any_of else (),
        )
        assert self.forwarder is not None
        self.forwarder.apply(table.SerializeToString())

    def close(self) -> None:
        """End at once."""
        self.gateway.close()
        self.executor.close()


class Roles:
    """Starts roles, and ends what is left of them, those that accept requests first."""

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._count: Counter[str] = Counter()

    def executor(self, *, lanes: int = 1, cluster: str = CLUSTER, **config: int) -> Role:
        identity = self._identity("executor", cluster)
        return self._start(identity, pb.LINK_SERVICE_EXECUTOR, self._lanes(lanes, **config))

    def router(self, *, silence_ms: int = 0, hedge_after_ms: int = 0) -> Role:
        executor, identity = self._lanes(1), self._identity("router")
        config = pb.ForwarderConfig(identity=identity, silence_ms=silence_ms, hedge_after_ms=hedge_after_ms)
        forwarder = bettong_engine.Forwarder(executor, config.SerializeToString())
        return self._start(identity, pb.LINK_SERVICE_ROUTER, executor, forwarder)

    def gateway(self, *, lanes: int = 1, silence_ms: int = 0, hedge_after_ms: int = 0) -> Role:
        executor, identity = self._lanes(lanes), self._identity("gateway")
        config = pb.ForwarderConfig(identity=identity, silence_ms=silence_ms, hedge_after_ms=hedge_after_ms)
        forwarder = bettong_engine.Forwarder(executor, config.SerializeToString())
        return self._start(identity, pb.LINK_SERVICE_NONE, executor, forwarder)

    def close(self) -> None:
        """End everything."""
        self._running.close()

    def _identity(self, role: str, cluster: str = CLUSTER) -> pb.Identity:
        self._count[role] += 1
        member = f"{role}-{self._count[role]}"
        return pb.Identity(cluster=cluster, role=role, member=member, epoch=7, version="1.2.3")

    def _lanes(self, lanes: int, **config: int) -> bettong_engine.Executor:
        settings = pb.ExecutorConfig(onnxruntime_library=onnxruntime_library(), lanes=lanes, **config)
        executor = bettong_engine.Executor(settings.SerializeToString())
        self._running.callback(executor.close)
        return executor

    def _start(
        self,
        identity: pb.Identity,
        links: "pb.LinkService.ValueType",
        executor: bettong_engine.Executor,
        forwarder: bettong_engine.Forwarder | None = None,
    ) -> Role:
        config = pb.GatewayConfig(links=links, identity=identity)
        gateway = bettong_engine.Gateway(executor, config.SerializeToString(), lambda *_: None, forwarder)
        gateway.bind()
        gateway.set_ready(True)
        self._running.callback(gateway.close)
        started = Role(identity.role, executor, gateway, forwarder)
        NAMES[started.address] = f"{identity.role}/{identity.member}"
        return started


@contextlib.contextmanager
def running_roles() -> Iterator[Roles]:
    """Run roles inside the block."""
    roles = Roles()
    try:
        yield roles
    finally:
        roles.close()


def plain(name: str = "p", *, version: int = 1, datatype: str = "FP32", outputs: int = 1) -> pb.Program:
    """Return a program of which the gateway knows no more than the signature: `x` [rows, 1] gives `y0`, `y1`, …."""
    return program(
        name,
        models_pb2.Signature(
            inputs=[models_pb2.TensorSpec(name="x", datatype=datatype, shape=[-1, 1])],
            outputs=[models_pb2.TensorSpec(name=f"y{at}", datatype=datatype, shape=[-1, 1]) for at in range(outputs)],
            batch_mode=models_pb2.BATCH_MODE_ROWS,
        ),
        version=version,
    )
