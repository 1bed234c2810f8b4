"""Models in the engine, counted by who uses them."""

from collections import Counter
from collections.abc import Iterable

from bettong_catalog.blob_store import BlobStore, OnProgress
from bettong_domain.models import ModelId, batch_mode_of
from bettong_domain.plans import ProgramStep
from bettong_kit.tasks import finished
from bettong_serving.ports import ModelLoader


class LoadedModels:
    """Counts who uses each loaded model, so that it is loaded by the first and unloaded after the last."""

    def __init__(self, engine: ModelLoader, blobs: BlobStore) -> None:
        self._engine = engine
        self._blobs = blobs
        self._users: Counter[ModelId] = Counter()

    async def load(self, step: ProgramStep, on_progress: OnProgress | None = None) -> None:
        """Fetch and load the model of a step and count one more user, also when loading fails.

        Args:
            step: What shall run.
            on_progress: Told how many bytes of how many are here.

        Raises:
            BettongError: It cannot be loaded.

        Cancellation:
            A fetch is given up, a load is waited for: whoever releases the model must find it.
        """
        # Counted before the wait: a release by somebody else must not unload what is being loaded.
        self._users[step.model_id] += 1
        # Found out at the upload, so that it need not be tried again; what somebody asked for instead must be.
        mode = batch_mode_of(step.model.signature, step.model.config)
        checked = mode is step.model.signature.batch_mode
        path = await self._blobs.fetch(step.model.sha256, on_progress)
        await finished(self._engine.load_model(step.model_id, path, step.model.framework, mode, checked=checked))

    def release(self, model_ids: Iterable[ModelId]) -> None:
        """Count one user less of each; models without users are unloaded."""
        for model_id in model_ids:
            self._users[model_id] -= 1
            if self._users[model_id] == 0:
                del self._users[model_id]
                self._engine.unload_model(model_id)
