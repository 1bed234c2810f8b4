"""Settings and tables as the messages that the engine takes."""

from collections.abc import Iterable

from bettong.internal.v1 import snapshot_pb2
from bettong_catalog import converters
from bettong_domain.forwarding import ForwardingTable, Peer
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program
from bettong_serving.config import ForwardingConfig, ServingConfig
from bettong_serving.ports import Links, Place

_LINKS = {
    Links.NONE: snapshot_pb2.LINK_SERVICE_NONE,
    Links.EXECUTOR: snapshot_pb2.LINK_SERVICE_EXECUTOR,
    Links.ROUTER: snapshot_pb2.LINK_SERVICE_ROUTER,
}


def executor_config(config: ServingConfig, library: str) -> snapshot_pb2.ExecutorConfig:
    """Return what the lanes are started with."""
    return snapshot_pb2.ExecutorConfig(
        onnxruntime_library=library,
        lanes=config.lanes,
        compute_threads=config.compute_threads,
        slow_model_us=config.slow_model_us,
        spin_us=config.spin_us,
        max_batch_rows=config.max_batch_rows,
        max_queue_rows=config.max_queue_rows,
    )


def gateway_config(
    config: ServingConfig, *, control_address: str, version: str, links: Links, place: Place | None
) -> snapshot_pb2.GatewayConfig:
    """Return what the ports are started with."""
    return snapshot_pb2.GatewayConfig(
        data_host=config.host,
        data_port=config.data_port,
        metrics_host=config.host,
        metrics_port=config.metrics_port_or_next(),
        control_address=control_address,
        version=version,
        max_request_bytes=config.max_request_bytes,
        max_in_flight_bytes=config.max_in_flight_bytes,
        max_in_flight=config.max_in_flight,
        max_connections=config.max_connections,
        keep_alive_s=config.keep_alive_s,
        read_timeout_s=config.read_timeout_s,
        links=_LINKS[links],
        identity=_identity(place, version) if place else None,
        link_tls=_link_tls(place),
    )


def forwarder_config(config: ForwardingConfig, place: Place, version: str) -> snapshot_pb2.ForwarderConfig:
    """Return what the forwarder is started with."""
    return snapshot_pb2.ForwarderConfig(
        identity=_identity(place, version), tls=_link_tls(place), hedge_after_ms=config.hedge_after_ms
    )


def _identity(place: Place, version: str) -> snapshot_pb2.Identity:
    return snapshot_pb2.Identity(cluster=place.cluster, role=place.role, member=place.member, version=version)


def _link_tls(place: Place | None) -> snapshot_pb2.LinkTls | None:
    proof = place.proof if place else None
    if proof is None:
        return None
    return snapshot_pb2.LinkTls(ca_file=str(proof.ca), cert_file=str(proof.cert), key_file=str(proof.key))


def forwarding_table(revision: int, table: ForwardingTable) -> snapshot_pb2.ForwardingTable:
    """Return a table with each peer once, named by its position everywhere else."""
    positions: dict[Peer, int] = {}

    def of(peers: Iterable[Peer]) -> list[int]:
        return [positions.setdefault(peer, len(positions)) for peer in peers]

    replicas = [
        snapshot_pb2.Replicas(pipeline=key.name, version=key.version, peers=of(peers))
        for key, peers in table.replicas.items()
    ]
    routers = of(table.routers)
    peers = (snapshot_pb2.Peer(name=peer.name, address=peer.address, epoch=peer.epoch) for peer in positions)
    return snapshot_pb2.ForwardingTable(revision=revision, peers=peers, replicas=replicas, any=routers)


def host_update(serve: Iterable[Program], stop: Iterable[PipelineKey]) -> snapshot_pb2.HostUpdate:
    """Return a change of what is run for other processes."""
    keys = (snapshot_pb2.ProgramKey(pipeline=key.name, version=key.version) for key in stop)
    return snapshot_pb2.HostUpdate(serve=map(converters.program_to_pb, serve), stop=keys)
