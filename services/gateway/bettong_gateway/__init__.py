"""The gateway service: the control plane of a process that serves."""
