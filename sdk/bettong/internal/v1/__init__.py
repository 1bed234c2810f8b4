"""What the control plane hands to the engine, generated from protos/bettong/internal/v1."""
