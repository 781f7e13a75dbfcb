"""A certificate of one's own, signed by itself, for a test's duration."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """Key and certificate as PEM, valid for localhost and 127.0.0.1."""

    key: bytes
    certificate: bytes

    def write(self, folder: Path, name: str = "tls") -> tuple[str, str]:
        """Put them into files: the paths of key and certificate."""
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        key.write_bytes(self.key)
        certificate.write_bytes(self.certificate)
        return str(key), str(certificate)

    def client(self) -> ssl.SSLContext:
        """For a client that trusts nobody else."""
        return ssl.create_default_context(cadata=self.certificate.decode())

    def server(self) -> ssl.SSLContext:
        with tempfile.TemporaryDirectory(prefix="lr-tls-") as folder:
            key, certificate = self.write(Path(folder))
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
            return context


def new_certificate(*, password: bytes | None = None) -> Certificate:
    """A new one each time. `password`: the key is encrypted with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llamarouter test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return Certificate(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


@functools.cache
def certificate() -> Certificate:
    """One for all tests of a run."""
    return new_certificate()
