"""Settings of the executor service."""

from dataclasses import dataclass
from pathlib import Path

from bettong_kit.errors import ConfigError
from bettong_serving.config import ServingConfig, check_positive


@dataclass(frozen=True, slots=True)
class ExecutorConfig(ServingConfig):
    """What every role has, and how models come here; the data port takes links of routers and gateways."""

    load_parallelism: int = 2
    """Pipeline versions that are brought up at once; models are loaded on that many threads."""
    memory_bytes: int = 0
    """Memory that pipelines may ask for here; 0 is what the machine or the container has."""
    cache: Path | None = None
    """Folder for fetched model files, which executors of one host may share; none is one in the data folder."""

    def __post_init__(self) -> None:
        """Check every value against the others.

        Raises:
            ConfigError: Names the setting and what was expected.
        """
        # `super()` does not find the class that `slots` made anew.
        ServingConfig.__post_init__(self)
        check_positive(self, "load_parallelism")
        if self.memory_bytes < 0:
            raise ConfigError(f"memory_bytes must not be negative, got {self.memory_bytes}")

    def cache_folder(self) -> Path:
        """Return where fetched model files are."""
        return self.cache or self.data / "models"
