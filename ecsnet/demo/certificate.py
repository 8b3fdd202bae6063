"""A certificate authority of the moment, and a node's certificate by it: for `ecsnet demo --tls` and for tests. The
extra `tls-demo`.

Nobody believes such an authority but who is given its certificate. Its key is thrown away at once: nothing else is ever
signed by it.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from ecsnet.errors import MissingExtraError

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName, KeyUsage

__all__ = ["Certificate", "files_in", "make_certificate"]

_DAY = datetime.timedelta(days=1)


class Certificate(NamedTuple):
    """Files in PEM."""

    ca: Path
    """For clients: whom to believe."""
    certificate: Path
    """For the node: with its private key in it, readable by its owner alone."""


def make_certificate(
    folder: Path,
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
    *,
    name: str = "node",
    begins: datetime.timedelta = -_DAY,
    ends: datetime.timedelta = _DAY,
) -> Certificate:
    """Make both in `folder`, good for `hosts` from `begins` to `ends`, counted from now.

    Raises:
        MissingExtraError: the package `cryptography` is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise MissingExtraError("certificates of the moment", "cryptography", "tls-demo") from None
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(named("ecsnet demo authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    authority = (
        builder(named("ecsnet demo authority"), authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(x509, signs=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        builder(named(name), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(x509, signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(x509, host) for host in hosts]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    made = files_in(folder, name)
    made.ca.write_bytes(authority.public_bytes(pem))
    made.certificate.touch(mode=0o600)
    made.certificate.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return made


def files_in(folder: Path, name: str = "node") -> Certificate:
    """Where `make_certificate` puts them."""
    return Certificate(folder / f"{name}-ca.pem", folder / f"{name}.pem")


def _usage(x509: ModuleType, *, signs: bool) -> "KeyUsage":
    usage: KeyUsage = x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
    return usage


def _host(x509: ModuleType, host: str) -> "GeneralName":
    found: GeneralName
    try:
        found = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        found = x509.DNSName(host)
    return found
