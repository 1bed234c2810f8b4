"""The public wire contract, generated from protos/bettong/v1."""
