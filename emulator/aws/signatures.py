"""AWS Signature Version 4 as a server sees it: who signed, is it right, and signing anew.

Source of the algorithm: "AWS Signature Version 4 for API requests" (IAM user guide).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from urllib.parse import quote, unquote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
_END = "aws4_request"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/_.~-]*")

Headers = list[tuple[bytes, bytes]]
"""Header lines as they came, names in lower case."""


@dataclass(frozen=True)
class Signer:
    """Who signed a request, for which service, in which region ("" if not said)."""

    access_key: str
    region: str
    service: str


def signer_of(headers: Mapping[str, str], query: str) -> Signer | None:
    """Read the credential scope of a signed or presigned request; None if there is none."""
    for word in headers.get("authorization", "").replace(",", " ").split():
        if word.startswith("Credential="):
            return _signer(word.removeprefix("Credential="))
    if "X-Amz-Credential=" not in query:
        return None
    for name, value in _pairs(query):
        if name == "X-Amz-Credential":
            return _signer(value)
    return None


def _signer(credential: str) -> Signer | None:
    # An access key may hold slashes; the scope has no region where the algorithm is SigV4A.
    parts = credential.split("/")
    if len(parts) >= 5 and parts[-1] == _END:
        return Signer("/".join(parts[:-4]), parts[-3], parts[-2])
    if len(parts) == 4 and parts[-1] == _END:
        return Signer(parts[0], "", parts[-2])
    return None


@dataclass(frozen=True)
class SignedRequest:
    """All of a request that its signature covers."""

    method: str
    path: str
    """Still percent-encoded."""
    query: str
    headers: Headers

    @property
    def presigned(self) -> bool:
        return "X-Amz-Signature=" in self.query

    @property
    def says_how_it_is_signed(self) -> bool:
        """Are all parts there that its signature can be checked with?"""
        return self._parts.keys() >= {"Credential", "SignedHeaders", "Signature"}

    def header(self, name: bytes) -> str:
        """The value of a header ("" if it is not there)."""
        return self._first.get(name, b"").decode("latin-1")

    def is_signed_by(self, access_key: str, secret_key: str) -> bool:
        """Whether the signature is the one these credentials give."""
        parts = self._parts
        credential = parts.get("Credential", "")
        if credential.rpartition("/")[2] != _END or _owner(credential) != access_key:
            return False
        right = self._signature(secret_key, parts.get("SignedHeaders", ""))
        given = parts.get("Signature", "")
        return hmac.compare_digest(_bytes(given), right.encode())

    def in_the_name_of(self, access_key: str) -> SignedRequest:
        """The same request with another access key id; its signature is then wrong."""
        credential = self._parts["Credential"]
        own = "/".join([access_key, *credential.split("/")[-4:]])
        if self.presigned:
            pairs = (
                f"X-Amz-Credential={_encoded(own)}"
                if _decoded(pair.partition("=")[0]) == "X-Amz-Credential"
                else pair
                for pair in self.query.split("&")
            )
            return replace(self, query="&".join(pairs))
        old, new = (f"Credential={one}".encode("latin-1") for one in (credential, own))
        changed = [
            (name, value.replace(old, new) if name == b"authorization" else value)
            for name, value in self.headers
        ]
        return replace(self, headers=changed)

    def without(self, names: Iterable[bytes], secret_key: str) -> SignedRequest:
        """The same request less some headers or query parameters, signed anew.

        Time, scope and payload hash stay, so the store still checks age and content.
        """
        dropped = {name.lower() for name in names}
        before = self._parts["SignedHeaders"].split(";")
        signed = ";".join(name for name in before if _bytes(name) not in dropped)
        if self.presigned:
            return self._with_query_signature(secret_key, signed, dropped)
        line = (
            f"{ALGORITHM} Credential={self._parts['Credential']}, "
            f"SignedHeaders={signed}, Signature={self._signature(secret_key, signed)}"
        )
        dropped.add(b"authorization")
        kept = [each for each in self.headers if each[0] not in dropped]
        kept.append((b"authorization", line.encode("latin-1")))
        return SignedRequest(self.method, self.path, self.query, kept)

    def _with_query_signature(
        self, secret_key: str, signed: str, dropped: set[bytes]
    ) -> SignedRequest:
        kept = []
        for pair in self.query.split("&"):
            name = unquote(pair.partition("=")[0])
            if name in ("X-Amz-Signature", "X-Amz-SignedHeaders"):
                continue
            if name.lower().encode() not in dropped:
                kept.append(pair)
        query = "&".join([*kept, f"X-Amz-SignedHeaders={_encoded(signed)}"])
        headers = [each for each in self.headers if each[0] not in dropped]
        unsigned = SignedRequest(self.method, self.path, f"{query}&X-Amz-Signature=", headers)
        signature = unsigned._signature(secret_key, signed)
        return replace(unsigned, query=f"{query}&X-Amz-Signature={signature}")

    @cached_property
    def _first(self) -> Mapping[bytes, bytes]:
        """The first value of each header."""
        return dict(reversed(self.headers))

    @cached_property
    def _parts(self) -> Mapping[str, str]:
        """Credential, SignedHeaders, Signature and Date, wherever the request has them."""
        if self.presigned:
            fields = dict(_pairs(self.query))
            return {name.removeprefix("X-Amz-"): value for name, value in fields.items()}
        line = self.header(b"authorization").removeprefix(ALGORITHM)
        words = (word.strip().partition("=") for word in line.split(","))
        return {
            "Date": self.header(b"x-amz-date"),
            **{name: value for name, _, value in words},
        }

    @cached_property
    def _signed_lines(self) -> Mapping[bytes, bytes]:
        """The lines of the headers that are signed, as they are signed."""
        values = self._first
        if len(values) < len(self.headers):
            lists: dict[bytes, list[bytes]] = {}
            for name, value in self.headers:
                lists.setdefault(name, []).append(value.strip())
            values = {name: b",".join(several) for name, several in lists.items()}
        names = _bytes(self._parts.get("SignedHeaders", "")).split(b";")
        return {
            name: b"%b:%b\n" % (name, b" ".join(values.get(name, b"").split())) for name in names
        }

    def _signature(self, secret_key: str, signed_headers: str) -> str:
        """With all of the headers that were signed, or some of them."""
        parts = self._parts
        scope = tuple(parts["Credential"].split("/")[-4:])
        digest = hashlib.sha256(self._canonical(_bytes(signed_headers))).hexdigest()
        text = f"{ALGORITHM}\n{parts.get('Date', '')}\n{'/'.join(scope)}\n{digest}"
        return hmac.digest(_signing_key(secret_key, scope), _bytes(text), "sha256").hex()

    def _canonical(self, signed_headers: bytes) -> bytes:
        lines = self._signed_lines
        return b"\n".join(
            [
                self.method.encode(),
                _canonical_path(self.path),
                _canonical_query(self.query) if self.query else b"",
                b"".join([lines[name] for name in signed_headers.split(b";")]),
                signed_headers,
                self._first.get(b"x-amz-content-sha256") or b"UNSIGNED-PAYLOAD",
            ]
        )


def _canonical_path(path: str) -> bytes:
    if _PLAIN_PATH.fullmatch(path):
        return path.encode()
    return quote(unquote_to_bytes(path), safe="/~").encode()


def _canonical_query(query: str) -> bytes:
    pairs = sorted(
        (_encoded(name), _encoded(value))
        for name, value in _pairs(query)
        if name != "X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in pairs).encode()


@lru_cache(maxsize=64)
def _signing_key(secret_key: str, scope: tuple[str, ...]) -> bytes:
    """The key of a day, a region and a service."""
    key = f"AWS4{secret_key}".encode()
    for part in scope:
        key = hmac.digest(key, _bytes(part), "sha256")
    return key


def _owner(credential: str) -> str:
    return "/".join(credential.split("/")[:-4])


def _pairs(query: str) -> list[tuple[str, str]]:
    words = (word.partition("=") for word in query.split("&") if word)
    return [(_decoded(name), _decoded(value)) for name, _, value in words]


def _decoded(text: str) -> str:
    # Keys need not be UTF-8: what cannot be decoded goes through as it came.
    return unquote(text.replace("+", " "), errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encoded(text: str) -> str:
    return quote(text, safe="~", errors="surrogateescape")
