"""Certificates for TLS tests: made here, valid for hours, never checked in."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cdc.stack import Tls


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files (PEM): what the servers show, what a client may show, and an authority that signed neither."""

    server: Tls
    """For localhost and 127.0.0.1."""
    client_cert: Path
    client_key: Path
    stranger_ca: Path

    @property
    def ca(self) -> Path:
        return self.server.ca


def make(folder: Path) -> Certificates:
    """Makes the files, or returns them if `folder` has them (another worker made them)."""
    found = Certificates(
        Tls(folder / "server.pem", folder / "server.key", folder / "ca.pem"),
        folder / "client.pem",
        folder / "client.key",
        folder / "stranger.pem",
    )
    if folder.exists():
        return found
    draft = folder.with_name(folder.name + ".new")
    draft.mkdir()
    authority = _authority("Test authority", draft / "ca.pem")
    _authority("Strange authority", draft / "stranger.pem")
    _issue(authority, "localhost", draft / "server.pem", draft / "server.key")
    _issue(authority, "cdc", draft / "client.pem", draft / "client.key")
    draft.rename(folder)
    return found


Signer = tuple[x509.Certificate, rsa.RSAPrivateKey]


def _authority(name: str, place: Path) -> Signer:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    made = (
        _started(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    place.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made, key


def _issue(signer: Signer, name: str, cert: Path, key_place: Path) -> None:
    authority, authority_key = signer
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    made = (
        _started(name, str(issuer), key)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_place.touch(mode=0o600)
    key_place.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _started(name: str, issuer: str, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=6))
    )
