"""The router service: passes calls of gateways on to the executors that run what they name."""
