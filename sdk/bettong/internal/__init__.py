"""Contracts between our own processes; not for users."""
