"""`bettong pipeline …`: chains of steps and what is deployed of them."""

from typing import TYPE_CHECKING

import click

from bettong._cli.names import model_names, pipeline_names
from bettong._cli.session import Session, pass_global_options

if TYPE_CHECKING:
    from bettong._client import Client
    from bettong._models import ModelVersion
    from bettong._steps import ModelStep


@click.group()
def pipeline() -> None:
    """Create, list, show, deploy, undeploy and delete pipelines."""


@pipeline.command()
@click.argument("name")
@click.argument("models", nargs=-1, required=True, metavar="MODEL[:VERSION]...", shell_complete=model_names)
@pass_global_options
def create(session: Session, name: str, models: tuple[str, ...]) -> None:
    """Make a version of pipeline NAME that runs MODELs one after the other."""
    with session.connect() as client:
        draft = client.build_pipeline(name)
        for reference in models:
            draft.add_model_step(_model(client, reference))
        version = draft.create_version()
        details = {"name": name, "version": version.version(), "signature": str(version.signature)}
        session.show(details, f"{name} version {version.version()}: {version.signature}")


@pipeline.command("list")
@pass_global_options
def list_pipelines(session: Session) -> None:
    """List all pipelines with what serves."""
    with session.connect() as client:
        states = {deployment.pipeline: deployment for deployment in client.list_deployments()}
        rows = []
        for found in client.list_pipelines():
            newest, state = found.versions()[-1], states.get(found.name())
            serving = state.serving_version if state else None
            rows.append(
                (found.name(), newest.version(), serving, state.state if state else "-", _steps(newest.steps()))
            )
        session.show_rows(("name", "newest", "serving", "state", "steps"), rows)


@pipeline.command()
@click.argument("name", shell_complete=pipeline_names)
@pass_global_options
def show(session: Session, name: str) -> None:
    """Show the versions of pipeline NAME and its state."""
    with session.connect() as client:
        found = client.get_pipeline(name)
        status = found.status()
        versions = [
            {
                "version": version.version(),
                "steps": _steps(version.steps()),
                "signature": str(version.signature),
                "created": version.created.isoformat(timespec="seconds"),
            }
            for version in found.versions()
        ]
        details = {"name": name, "status": status["status"], "reasons": status["details"], "url": found.url()}
        lines = [f"{key:<10}{value}" for key, value in details.items()]
        lines += [f"version {v['version']}: {v['steps']}  {v['signature']}  {v['created']}" for v in versions]
        session.show(details | {"versions": versions}, "\n".join(lines))


@pipeline.command()
@click.argument("name", shell_complete=pipeline_names)
@click.option("--version", type=click.IntRange(1), help="Version; the newest if it is not given.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=600.0, help="Seconds to wait until it serves."
)
@click.option("--no-wait", is_flag=True, help="Return at once.")
@pass_global_options
def deploy(session: Session, name: str, version: int | None, *, timeout: float, no_wait: bool) -> None:
    """Let a version of pipeline NAME serve."""
    with session.connect() as client:
        found = client.get_pipeline(name, version).deploy(timeout=timeout, wait_for_status=not no_wait)
        status = found.status()
        word = str(status["status"])
        session.show({"name": name, "status": word, "url": found.url()}, f"{name} is {word.lower()}: {found.url()}")


@pipeline.command()
@click.argument("name", shell_complete=pipeline_names)
@pass_global_options
def undeploy(session: Session, name: str) -> None:
    """Stop serving pipeline NAME when requests in flight are answered."""
    with session.connect() as client:
        client.build_pipeline(name).undeploy()
        session.show({"name": name, "status": "Stopped"}, f"{name} is stopped")


@pipeline.command()
@click.argument("name", shell_complete=pipeline_names)
@click.option("--version", type=click.IntRange(1), help="Version; all if it is not given.")
@pass_global_options
def delete(session: Session, name: str, version: int | None) -> None:
    """Delete pipeline NAME, or one version of it."""
    with session.connect() as client:
        client.build_pipeline(name).delete(version)
        session.show({"name": name, "version": version}, f"deleted {name}{f' version {version}' if version else ''}")


def _model(client: "Client", reference: str) -> "ModelVersion":
    name, _, version = reference.partition(":")
    if version and not version.isdecimal():
        raise click.UsageError(f"'{reference}' is no model; expected NAME or NAME:VERSION")
    return client.get_model(name, int(version) if version else None)


def _steps(steps: "list[ModelStep]") -> str:
    return " → ".join(f"{step.name}:{step.version}" for step in steps)
