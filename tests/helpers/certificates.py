"""Certificates of our own making: an authority, a server at 127.0.0.1 and a client, by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """`ca` is what others check its certificates by."""

    folder: Path
    ca: Certificate

    def certify(self, name: str) -> Certificate:
        """A key, and a certificate for 127.0.0.1."""
        made = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth, clientAuth\n")
        _openssl("req", *_NEW_KEY, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        signed_by = ("-CA", self.ca.certificate, "-CAkey", self.ca.key, "-CAcreateserial")
        _openssl(
            "x509",
            "-req",
            "-in",
            request,
            *signed_by,
            "-days",
            "1",
            "-extfile",
            extensions,
            "-out",
            made.certificate,
        )
        return made


def authority(folder: Path, name: str = "ca") -> Authority:
    ca = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", *_NEW_KEY, "-keyout", ca.key, "-out", ca.certificate, "-days", "1", "-subj", f"/CN={name}"
    )
    return Authority(folder, ca)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
