"""Frames: what a user hands to `infer`, as an Arrow table and back.

Each kind of frame is one module with the same two functions: `to_table` gives the columns for the wire, and `from_reply` joins
the reply with the columns that were given, which never travel back.
"""
