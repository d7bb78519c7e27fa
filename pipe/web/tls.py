"""The certificate for HTTPS, read again when its files have changed."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import structlog

from pipe.errors import StartError
from pipe.language.names import escape

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()


class Certificate:
    """A certificate and its key.

    Args:
        certificate: PEM file with the chain.
        key: PEM file of the private key; None: it is in the same file.

    Raises:
        StartError: they cannot be used.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = (certificate, key or certificate)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_alpn_protocols(["http/1.1"])
        self._stamp = self._look()
        try:
            self._context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            names = " and ".join(dict.fromkeys(escape(str(file)) for file in self._files))
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"cannot use the certificate in {names}: {reason}") from error

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context.load_cert_chain(*self._files)
            except (OSError, ssl.SSLError) as error:
                log.warning("certificate not renewed", error=str(error))
            else:
                log.info("certificate renewed")
        return self._context

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_stamp, self._files))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
