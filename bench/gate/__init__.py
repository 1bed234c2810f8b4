"""Count the engine's instructions a request and compare them with `bench/budgets.toml`."""
