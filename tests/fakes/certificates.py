"""Authorities and certificates made by openssl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificates:
    """An authority's certificate, and one by it with its key."""

    ca: Path
    cert: Path
    key: Path


def certificates(folder: Path, name: str, *, days: int = 2, names: str = "DNS:etcd.local") -> Certificates:
    """Make an authority and a certificate by it for server and client; less than no days make them expired."""
    made = Certificates(folder / f"{name}-ca.crt", folder / f"{name}.crt", folder / f"{name}.key")
    ca_key, request, extensions = folder / f"{name}-ca.key", folder / f"{name}.csr", folder / "extensions"
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
    _openssl(*new, "-x509", "-days", "2", "-keyout", str(ca_key), "-out", str(made.ca))
    _openssl(*new, "-keyout", str(made.key), "-out", str(request))
    extensions.write_text(f"subjectAltName={names}")
    by = ("-CA", str(made.ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", str(days))
    _openssl("x509", "-req", "-in", str(request), *by, "-extfile", str(extensions), "-out", str(made.cert))
    return made


def _openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    command = ["openssl", *arguments]
    subprocess.run(command, check=True, capture_output=True)
