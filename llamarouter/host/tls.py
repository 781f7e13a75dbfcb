"""The certificate of `--ssl-key-file` and `--ssl-cert-file`, read before anything is started.

OpenSSL's own words do not say which file is wrong, nor in which way: here each is looked at by itself first.
"""

from __future__ import annotations

import ssl

from llamarouter.core.errors import UsageError

# The last is what OpenSSL 3 says of a key of another kind.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class Tls:
    """TLS with a certificate that can be renewed while the router runs. Raises `UsageError` in one line."""

    def __init__(self, key_file: str, certificate_file: str) -> None:
        self._files = (key_file, certificate_file)
        self.context = server_context(key_file, certificate_file)

    def renew(self) -> None:
        """Take the files again, for connections from now on. Raises `UsageError`: then the old ones hold."""
        server_context(*self._files)  # a failure in the middle would leave the one in use without a key
        _load(self.context, *self._files)


def server_context(key_file: str, certificate_file: str) -> ssl.SSLContext:
    """What listens with this certificate: HTTP/1.1 over TLS 1.2 or newer. Raises `UsageError` in one line."""
    _check(f"--ssl-key-file {key_file}", key_file, "PRIVATE KEY-----", "key")
    _check(f"--ssl-cert-file {certificate_file}", certificate_file, "-----BEGIN CERTIFICATE-----", "certificate")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    _load(context, key_file, certificate_file)
    return context


def _load(context: ssl.SSLContext, key_file: str, certificate_file: str) -> None:
    try:
        context.load_cert_chain(certificate_file, key_file, password=lambda: _no_passphrase(key_file))
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            reason = "the key is not the one of this certificate"
        elif not error.reason:  # None, where a line in the middle is missing
            reason = "cannot be used: one of them is damaged"
        else:
            reason = f"cannot be used: {error.reason.replace('_', ' ').lower()}"
        raise UsageError(f"--ssl-key-file {key_file}, --ssl-cert-file {certificate_file}: {reason}") from error
    except OSError as error:  # it has gone since it was looked at
        raise UsageError(f"--ssl-key-file {key_file}, --ssl-cert-file {certificate_file}: {error.strerror}") from error


def _check(where: str, path: str, mark: str, what: str) -> None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror or 'cannot be read'}") from error
    if mark not in text:
        raise UsageError(f"{where}: holds no {what} in PEM form ({mark.strip('-')})")


def _no_passphrase(path: str) -> str:
    # Without this OpenSSL would ask the terminal, and a service would hang there.
    raise UsageError(f"--ssl-key-file {path}: the key has a passphrase; openssl pkey -in FILE -out NEW takes it off")
