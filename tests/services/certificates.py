"""An authority that issues certificates for localhost. It needs ``cryptography``."""

from __future__ import annotations

import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

VALID = (datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
"""From when to when certificates hold: whichever date Python, OpenSSL or a browser believes in."""


class Authority:
    """Issues certificates for localhost, into files."""

    def __init__(self, folder):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the tests' authority")])
        own = self._signed(self._name, self._key.public_key(), is_authority=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def _signed(self, name, public_key, *, is_authority):
        builder = x509.CertificateBuilder(self._name, name, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(VALID[0]).not_valid_after(VALID[1])
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
        )
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
        if is_authority:
            names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
            uses = dict.fromkeys((*names, "key_agreement", "encipher_only", "decipher_only"), False)
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **uses), True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, common_name="localhost", password=None):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        certificate = self._signed(name, key.public_key(), is_authority=False)
        encryption = (
            serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        )  # fmt: skip
        self._write("tls.crt", certificate.public_bytes(serialization.Encoding.PEM))
        pkcs8 = serialization.PrivateFormat.PKCS8
        self._write("tls.key", key.private_bytes(serialization.Encoding.PEM, pkcs8, encryption))
        return {"ssl_cert_path": self._folder / "tls.crt", "ssl_key_path": self._folder / "tls.key"}

    def _write(self, name, content):
        new = self._folder / f"{name}.new"
        new.write_bytes(content)
        new.replace(self._folder / name)

    def trust(self):
        return ssl.create_default_context(cafile=str(self.file))
