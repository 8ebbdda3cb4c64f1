"""Who may come in where `require_identity=True`: a registration answers a challenge, a request is signed for its session.

Knows keys, nonces and digests; knows no tasks. No clock has to be right anywhere: freshness comes from the challenge, and
from the numbers that count a session's requests.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from umbel.errors import StoreError, WireError
from umbel.runtime.log import logger
from umbel.runtime.security.members import Members, NotAdmitted
from umbel.runtime.security.signatures import (
    KEY_SIZE,
    Signed,
    Window,
    fingerprint,
    hasher,
    parse_digest,
    signature_base,
    signed_with,
    signs,
)
from umbel.runtime.transports.http.protocol import SESSION, Refused, Register
from umbel.runtime.transports.http.requests import Request

__all__ = ["Gate", "Holder"]

FRESH = 60.0  # seconds in which a challenge can be answered
LOOK = 1.0  # seconds between two looks at who has been revoked
_JOIN = (
    "this server takes only clients that have joined: start the client with start_client(join_token=...), where `umbel "
    "server token` on the server's machine prints a token"
)


class Holder:
    """Whoever has registered with a key: the key, and the numbers of the requests that it has signed."""

    __slots__ = ("key", "window")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.window = Window()


class Gate:
    """Asks for signatures, and checks them."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._secret = secrets.token_bytes(32)
        self._answered: OrderedDict[str, float] = OrderedDict()  # challenges, within the time in which they are fresh
        self._revoked: set[bytes] = set()

    async def admit(self, request: Request, message: Register, body: bytes | bytearray) -> Holder:
        """Lets the sender of a registration in. Raises `Refused`."""
        signed = _read_signatures(request)
        mine = signed.get("umbel")
        if mine is None or not self._ours(mine.parameters.get("nonce", "")):
            asked = {"accept-signature": f'{_REGISTRATION};nonce="{self._challenge()}"'}
            raise Refused(401, _JOIN, asked, expected=bool(message.key) and mine is None)
        if len(message.key) != KEY_SIZE:
            raise Refused(403, f"a registration names the key that signs it, of {KEY_SIZE} bytes")
        _check(request, mine, message.key, {"@method", "@path", "content-digest"})
        if not hmac.compare_digest(parse_digest(request.headers.get("content-digest", "")), hasher(body).digest()):
            raise Refused(422, "the body is not the one that was signed; send it again")
        token = b""
        if message.token:
            theirs = signed.get("join")
            fresh = theirs is not None and theirs.parameters.get("nonce") == mine.parameters["nonce"]
            if theirs is None or not fresh or len(message.token) != KEY_SIZE:
                raise Refused(403, "whoever joins by a token signs the registration with it, too, under the label join")
            _check(request, theirs, message.token, {"@method", "@path", "content-digest"})
            token = message.token
        self._once(mine.parameters["nonce"])
        try:
            new = await asyncio.to_thread(self._members.admit, message.client_id, message.key, token)
        except NotAdmitted as error:
            raise Refused(403, str(error)) from None
        if new:
            logger.info("client %s has joined with the key %s", message.client_id, fingerprint(message.key))
        return Holder(message.key)

    def check(self, request: Request, holder: Holder) -> bytes | None:
        """The digest that the request's body must have; None where it has none. Raises `Refused`."""
        if holder.key in self._revoked:
            raise Refused(403, f"the key {fingerprint(holder.key)} has been revoked; ask the server's operator")
        signed = _read_signatures(request).get("umbel")
        if signed is None:
            raise Refused(403, "the request is not signed with the key of its session; only whoever has that may go on")
        required = {"@method", "@path", SESSION} | ({"range"} if "range" in request.headers else set())
        if request.method != "GET":
            required.add("content-digest")
        _check(request, signed, holder.key, required)
        number = signed.parameters.get("nonce", "")
        if not (number.isascii() and number.isdigit() and holder.window.takes(int(number))):
            raise Refused(
                425, "this request has been seen before, and a signed request counts once; sign it anew, with a higher nonce"
            )
        return None if request.method == "GET" else parse_digest(request.headers.get("content-digest", ""))

    async def watch(self, revoked: Callable[[set[bytes]], None]) -> None:
        """Tells, for ever, of every key that is revoked."""
        while True:
            try:
                now = await asyncio.to_thread(self._members.find_revoked)
            except StoreError as error:  # the journal is in the same database: its loop has the word
                logger.warning("The list of members cannot be read: %s", error)
            else:
                if now - self._revoked:
                    self._revoked = now
                    revoked(now)
            await asyncio.sleep(LOOK)

    def _challenge(self) -> str:
        """A nonce that says by itself that it is ours, and when it was made: nothing is kept for a stranger."""
        stem = f"{int(time.monotonic()):x}.{secrets.token_hex(12)}"
        return f"{stem}.{self._mac(stem)}"

    def _ours(self, nonce: str) -> bool:
        stem, _, mac = nonce.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(stem).encode()):
            return False
        return time.monotonic() - int(stem.partition(".")[0], 16) < FRESH and nonce not in self._answered

    def _once(self, nonce: str) -> None:
        now = time.monotonic()
        self._answered[nonce] = now
        while now - next(iter(self._answered.values())) > 2 * FRESH:
            self._answered.popitem(last=False)

    def _mac(self, stem: str) -> str:
        return hmac.digest(self._secret, stem.encode(), sha256).hex()


_REGISTRATION = 'umbel=("@method" "@path" "content-digest");alg="ed25519"'


def _read_signatures(request: Request) -> dict[str, Signed]:
    inputs, signatures = request.headers.get("signature-input", ""), request.headers.get("signature", "")
    try:
        return signed_with(inputs, signatures)
    except WireError as error:
        raise Refused(400, f"{error}; RFC 9421 says how it is written") from None


def _check(request: Request, signed: Signed, key: bytes, required: set[str]) -> None:
    """Raises `Refused` where the signature is not this key's, or does not cover what it must."""
    missing = required - set(signed.components)
    if missing:
        raise Refused(403, f"the signature does not cover {', '.join(sorted(missing))}")
    if signed.parameters.get("alg", "ed25519") != "ed25519":
        raise Refused(403, "the signature is of another algorithm than ed25519")
    components = []
    for name in signed.components:
        values = [_DERIVED[name](request)] if name in _DERIVED else request.headers.getlist(name)
        if len(values) != 1 or (name.startswith("@") and name not in _DERIVED):
            raise Refused(403, f"the signature covers {name!r}, which this request does not have exactly once")
        components.append((name, values[0].strip()))
    if not signs(key, signed.signature, signature_base(components, signed.text)):
        raise Refused(
            403, "the signature is not this request's: it is by another key, or somebody has changed the request on its way"
        )


_DERIVED: dict[str, Callable[[Request], str]] = {
    "@method": lambda request: request.method,
    "@path": lambda request: request.raw_path.decode("ascii", "replace"),
}
