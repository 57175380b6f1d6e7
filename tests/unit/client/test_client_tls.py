"""Certificates: loaded for HTTPS, and never a way around them."""

import ssl

from tanda.client.tls import verify_for


def test_an_address_with_tls_is_verified_as_ever() -> None:
    """Also where somebody writes it in capitals."""
    assert verify_for("https://tanda.example") is True
    assert verify_for("HTTPS://tanda.example") is True


def test_an_address_without_tls_is_asked_with_nobody_trusted() -> None:
    """No certificate is loaded, and none is accepted either, should TLS be spoken after all."""
    context = verify_for("http://127.0.0.1:8420")
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats()["x509_ca"] == 0
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
