"""The executor service: runs models for the other processes of a cluster."""
