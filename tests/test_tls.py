"""The certificate: what cannot be used is one line that names the file, before anything is bound."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from llamarouter.core.errors import UsageError
from llamarouter.host.tls import Tls, server_context
from tests.certificates import Certificate, certificate, new_certificate


def refusal(key: str, cert: str) -> str:
    with pytest.raises(UsageError) as caught:
        server_context(key, cert)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_pair_speaks_http_1_1_and_no_old_tls(tmp_path: Path) -> None:
    context = server_context(*certificate().write(tmp_path))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


def test_each_wrong_file_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    key, cert = certificate().write(tmp_path)
    other_key, _ = new_certificate().write(tmp_path, "other")
    locked_key, locked_cert = new_certificate(password=b"secret").write(tmp_path, "locked")
    rsa_key = tmp_path / "rsa.key"
    rsa_key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    gone = str(tmp_path / "gone")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    bad_key = tmp_path / "garbage.key"
    bad_key.write_bytes(b"-----BEGIN PRIVATE KEY-----\n\xff\xfe\n-----END PRIVATE KEY-----\n")
    assert refusal(gone, cert) == f"--ssl-key-file {gone}: No such file or directory"
    assert refusal(key, gone) == f"--ssl-cert-file {gone}: No such file or directory"
    assert refusal(str(tmp_path), cert) == f"--ssl-key-file {tmp_path}: Is a directory"
    assert refusal(cert, cert) == f"--ssl-key-file {cert}: holds no key in PEM form (PRIVATE KEY)"
    assert refusal(key, key) == f"--ssl-cert-file {key}: holds no certificate in PEM form (BEGIN CERTIFICATE)"
    both = f"--ssl-key-file {other_key}, --ssl-cert-file {cert}"
    assert refusal(other_key, cert) == f"{both}: the key is not the one of this certificate"
    assert refusal(str(rsa_key), cert).endswith("the key is not the one of this certificate")
    half = tmp_path / "half.pem"
    half.write_bytes(Path(cert).read_bytes()[:200])
    assert refusal(key, str(half)).endswith("cannot be used: one of them is damaged")
    assert f"--ssl-cert-file {garbage}: cannot be used" in refusal(key, str(garbage))
    assert f"--ssl-key-file {bad_key}, " in refusal(str(bad_key), cert)
    passphrase = refusal(locked_key, locked_cert)
    assert passphrase.startswith(f"--ssl-key-file {locked_key}: the key has a passphrase")


def shown_by(context: ssl.SSLContext, trusted: Certificate) -> bytes | None:
    """The certificate that a client sees, which trusts only this one; None where it refuses it."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusted.client().wrap_bio(to_client, to_server, server_hostname="localhost")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return None
    return client.getpeercert(binary_form=True)


def test_a_renewed_certificate_is_shown_from_then_on_and_a_bad_one_never(tmp_path: Path) -> None:
    old, new = new_certificate(), new_certificate()
    key, cert = old.write(tmp_path)
    tls = Tls(key, cert)
    assert shown_by(tls.context, old) is not None
    Path(cert).write_bytes(new.certificate)  # its key has not come yet
    with pytest.raises(UsageError, match="the key is not the one of this certificate"):
        tls.renew()
    assert shown_by(tls.context, old) is not None
    Path(key).write_bytes(new.key)
    tls.renew()
    assert shown_by(tls.context, new) is not None
    assert shown_by(tls.context, old) is None
