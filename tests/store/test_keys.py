"""Public keys: which may log in, and what is said about the others."""

from __future__ import annotations

import base64

import asyncssh
import pytest
from asyncssh.packet import MPInt, String
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipe.errors import UsageError
from pipe.ssh.login.signatures import check_key
from pipe.store import check_key_type, read_public_key
from pipe.store.keys import MAX_COMMENT, MAX_TEXT, describe_key

SK_ED25519 = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9"
    "eUO2170QduohPURkQnbLa/dczAAAABHNzaDo= user@host"
)


def line(algorithm: str, **options: int) -> str:
    """Make a new key's public line."""
    key = asyncssh.generate_private_key(algorithm, comment="me@here", **options)
    return key.export_public_key().decode()


def rsa_line(bits: int, exponent: int = 65537) -> str:
    """Make the public line of an RSA key that is only as real as it must be to be parsed."""
    modulus = (1 << (bits - 1)) | (1 << (bits // 2)) | 1
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def negative_rsa_line(*, exponent: int = 65537, modulus: int = 1 << 2047 | 1) -> str:
    """Make the public line of an RSA key of any two numbers."""
    blob = String("ssh-rsa") + MPInt(exponent) + MPInt(modulus)
    return f"ssh-rsa {base64.b64encode(blob).decode()}"


def complaint(text: str) -> str:
    """Read a key that is refused, and return the one line that says why."""
    with pytest.raises(UsageError) as caught:
        read_public_key(text)
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize(
    "algorithm",
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"],
)
def test_accepted(algorithm: str) -> None:
    """Ed25519 and ECDSA keys are read into type, fingerprint, line and comment."""
    text = line(algorithm)
    key = read_public_key(text)
    assert (key.key_type, key.comment) == (algorithm, "me@here")
    assert key.public == " ".join(text.split()[:2])
    assert key.fingerprint == asyncssh.import_public_key(text).get_fingerprint()
    assert key.fingerprint.startswith("SHA256:")


def test_security_key() -> None:
    """A key that lives on a security key is accepted."""
    assert read_public_key(SK_ED25519).key_type == "sk-ssh-ed25519@openssh.com"


@pytest.mark.parametrize("bits", [2048, 3072, 8192])
def test_rsa_accepted(bits: int) -> None:
    """RSA is accepted from 2048 to 8192 bits."""
    assert read_public_key(rsa_line(bits)).key_type == "ssh-rsa"


@pytest.mark.parametrize("bits", [1024, 2047, 8193, 16384])
def test_rsa_of_another_length(bits: int) -> None:
    """RSA outside these bounds is refused, and the line says how long the key is."""
    assert f"this one has {bits}: make a new key with: ssh-keygen" in complaint(rsa_line(bits))


def test_rsa_with_a_huge_exponent() -> None:
    """An exponent beyond 32 bits, which makes each login slow, is refused."""
    assert read_public_key(rsa_line(2048, (1 << 32) - 1))
    assert "exponent" in complaint(rsa_line(2048, (1 << 32) + 1))


def test_other_types() -> None:
    """Keys of types outside the list are refused, in a file and at a login."""
    for algorithm in ("ssh-dss", "ssh-ed448"):
        try:
            text = line(algorithm)
        except (asyncssh.KeyGenerationError, ValueError):
            continue  # this machine's OpenSSL cannot make one
        assert complaint(text) == (
            f"keys of type '{algorithm}' are not accepted: "
            "make a new key with: ssh-keygen -t ed25519"
        )
        with pytest.raises(UsageError):
            check_key_type(asyncssh.import_public_key(text))


@pytest.mark.parametrize("format_name", ["openssh", "pkcs8-pem", "pkcs1-pem"])
def test_private_key(format_name: str) -> None:
    """A private key pasted by mistake is refused, and not repeated."""
    secret = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_private_key(format_name)
    message = complaint(secret.decode())
    assert message == "this is a private key, keep it secret: give the file that ends in .pub"


def test_certificate() -> None:
    """A certificate is refused: whose it is says the CA, and that is another setting."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    text = key.generate_user_certificate(key, "id", principals=["me"]).export_certificate().decode()
    assert "certificate" in complaint(text)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 !!!!",
        "é ü",
        "\x1b]52;x",
        "\ud800 x",
    ],
)
def test_garbage(text: str) -> None:
    """Text that is no key is refused with one line that says what to do."""
    assert complaint(text).endswith("ssh-keygen -t ed25519")


def test_type_that_does_not_match() -> None:
    """A line that says another type than its key has is refused."""
    complaint("ssh-rsa " + line("ssh-ed25519").split()[1])


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n"])
def test_nothing(text: str) -> None:
    """Text without a key says so."""
    assert complaint(text).startswith("there is no public key")


def test_several_keys() -> None:
    """Two keys at once are refused, so that none is left out in silence."""
    assert "more than one" in complaint(line("ssh-ed25519") + line("ssh-ed25519"))


def test_other_formats() -> None:
    """A public key in another format is refused with the way to convert it."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    assert "ssh-keygen -i" in complaint(key.export_public_key("rfc4716").decode())


def test_too_long() -> None:
    """The size of what is parsed is bounded."""
    assert "too long" in complaint("x" * (MAX_TEXT + 1))


def test_comment() -> None:
    """A comment may be any text of any length: it is kept as it is, and cut."""
    bare = " ".join(line("ssh-ed25519").split()[:2])
    assert read_public_key(bare).comment == ""
    assert (
        read_public_key(f"# mine\n\n{bare}  Zoë's  \x1b[31mkey \n").comment == "Zoë's  \x1b[31mkey"
    )
    assert read_public_key(f"{bare} {'x' * 1000}").comment == "x" * MAX_COMMENT


def test_the_key_of_a_login() -> None:
    """A key that a client logged in with is described as the same key in a file is."""
    text = line("ssh-ed25519")
    key = asyncssh.import_public_key(text)
    assert describe_key(key, "me@here") == read_public_key(text)


@pytest.mark.parametrize("numbers", [{"exponent": -65537}, {"modulus": -5}, {"modulus": 0}])
def test_numbers_that_no_key_has(numbers: dict[str, int]) -> None:
    """A key of a negative number, which cannot even be converted, is refused like any other."""
    text = negative_rsa_line(**numbers)
    assert "is not a public key that works here" in complaint(text)
    with pytest.raises(UsageError, match="damaged"):
        check_key(base64.b64decode(text.split()[1]))
