"""HTTP/2 frames, written by hand: for clients that do what no library does."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
ACK = 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Write a header without compression and without an index (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


# Indexed fields of the static table: POST and http.
POST_HTTP = b"\x83\x86"
INFER = POST_HTTP + b"".join(
    [
        literal(b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        literal(b":authority", b"h"),
        literal(b"content-type", b"application/grpc"),
        literal(b"te", b"trailers"),
    ]
)
REST = POST_HTTP + literal(b":path", b"/v2/models/identity/infer") + literal(b":authority", b"h")
