"""What every role that runs the engine shares: the engine itself, its settings, the data folder, loaded models."""
