"""What the gateway's engine is told to serve in a cluster: programs that others run, and names that nobody runs now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bettong_catalog.programs import compile_stored
from bettong_catalog.records import Records
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program
from bettong_kit.errors import BettongError
from bettong_kit.logging import get_logger
from bettong_serving.ports import ModelEngine

_log = get_logger("routes")


@dataclass(frozen=True, slots=True)
class Route:
    """What becomes of requests for a pipeline: a version serves, or they are refused with a reason."""

    version: int
    reason: str = ""


class Routes:
    """Tells the engine what changed. Owned by one task."""

    def __init__(self, engine: ModelEngine) -> None:
        self._engine = engine
        self._applied: dict[str, Route] = {}
        self._programs: dict[str, Program] = {}
        self._failures: dict[str, str] = {}

    def program(self, pipeline: str) -> Program | None:
        """Return what is served of a pipeline."""
        return self._programs.get(pipeline)

    def version(self, pipeline: str) -> int:
        """Return the version that is served, 0 for none."""
        program = self._programs.get(pipeline)
        return program.key.version if program else 0

    def served(self) -> list[PipelineKey]:
        """Return all that is served, ordered."""
        return sorted(program.key for program in self._programs.values())

    async def apply(self, wanted: Mapping[str, Route], records: Records) -> dict[str, str]:
        """Have all these served or refused, and nothing else known.

        Args:
            wanted: By pipeline.
            records: Has what their versions are made of.

        Returns:
            Why some cannot be served; requests for them are refused with that.
        """
        changed = {name: route for name, route in wanted.items() if self._applied.get(name) != route}
        gone = [name for name in self._applied if name not in wanted]
        if changed or gone:
            try:
                await self._tell(changed, await self._compiled(changed, records), gone)
            except BettongError:
                # One of them is at fault; the others must not suffer.
                await self._tell({}, {}, gone)
                for name, route in changed.items():
                    await self._tell_one(name, route, records)
        return dict(self._failures)

    async def _tell_one(self, name: str, route: Route, records: Records) -> None:
        """Tell the engine of one pipeline, or why requests for it are refused."""
        try:
            await self._tell({name: route}, await self._compiled({name: route}, records), ())
        except BettongError as error:
            _log.error("program_refused", pipeline=name, version=route.version, reason=error.message)
            await self._tell({name: Route(0, error.message)}, {}, ())
            # What was asked for, so that it is not tried at every look.
            self._applied[name] = route
            self._failures[name] = error.message

    async def _tell(self, changed: Mapping[str, Route], programs: Mapping[str, Program], gone: Iterable[str]) -> None:
        refused = {name: route.reason for name, route in changed.items() if not route.version}
        stopped = [*gone, *refused]
        await self._engine.route(forward=list(programs.values()), stop=stopped, unavailable=list(refused.items()))
        for name in stopped:
            self._applied.pop(name, None)
            self._programs.pop(name, None)
        for name in (*stopped, *changed):
            self._failures.pop(name, None)
        self._applied |= changed
        self._programs |= programs

    @staticmethod
    async def _compiled(changed: Mapping[str, Route], records: Records) -> dict[str, Program]:
        return {
            name: await compile_stored(records, PipelineKey(name, route.version))
            for name, route in changed.items()
            if route.version
        }
