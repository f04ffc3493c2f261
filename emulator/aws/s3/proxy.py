"""S3 on the emulator's port: every request goes through to the object store, byte for byte.

The store checks signatures itself, so nothing that is signed changes on the way. Some requests
have to change, because the embedded store refuses them (measured with SeaweedFS 4.48):

- encryption with KMS, which it does not have and SDK v2 asks for in every upload;
- session tokens, which AssumeRole hands out;
- a bucket in the host instead of the path (see addressing.py).

Their signature is checked here, with the same credentials, and they are signed anew. A request
of another account (see accounts.py) is signed anew with the store's credentials.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from emulator.aws.accounts import is_account
from emulator.aws.s3.addressing import path_style
from emulator.aws.s3.control import UNREACHABLE, Control, Disturbance, Undisturbed
from emulator.aws.s3.exchange import Client, Exchange, Refusal
from emulator.aws.s3.keys import (
    KeyProblem,
    check_body,
    check_body_size,
    check_keys,
    key_of,
    names_keys_in_body,
    payload_size,
)
from emulator.aws.s3.store import StorePool
from emulator.aws.signatures import Headers, SignedRequest, Signer, signer_of

_ENCRYPTION = b"x-amz-server-side-encryption"
_KMS = (
    _ENCRYPTION,
    b"x-amz-server-side-encryption-aws-kms-key-id",
    b"x-amz-server-side-encryption-context",
    b"x-amz-server-side-encryption-bucket-key-enabled",
)
_TOKEN = b"x-amz-security-token"
_REGION = b"x-amz-bucket-region"
_DEFAULT_REGION = "us-east-1"


class S3Proxy:
    """In front of one object store: what requests become on their way there."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        control: Control | None = None,
        patience: float = 0,
        key_problem: KeyProblem | None = None,
        no_space: Callable[[int], str] | None = None,
    ):
        """`endpoint` is the store's base URL; the credentials are those of the store.

        `control` knows the faults that a user seeds. A store that cannot be reached is tried
        again for `patience` seconds; then `control` is asked why. `no_space` says whose disk has
        no room for so many bytes more ("" if it has).
        """
        self._key_problem = key_problem
        self._no_space = no_space
        self._control = control or Undisturbed()
        self._access_key = access_key
        self._secret_key = secret_key
        self._pool = StorePool(endpoint, patience)

    def close(self) -> None:
        """Break off what goes on and close the connections to the store.

        To be called in the event loop of the exchanges.
        """
        self._pool.close()

    def exchange(
        self,
        request: SignedRequest,
        client: Client,
        *,
        expects_continue: bool,
        keep_alive: bool,
        http_10: bool,
    ) -> Exchange:
        """Pass one request through, once that is started."""
        return Exchange(
            request,
            client,
            self,
            self._pool,
            expects_continue=expects_continue,
            keep_alive=keep_alive,
            http_10=http_10,
        )

    def disturbance(self, request: SignedRequest) -> Awaitable[Disturbance] | None:
        """What seeded faults do to the request; None where none is seeded."""
        if not self._control.seeded:  # the common case: cheap for every request
            return None
        return self._control.disturbance(_bucket(request))

    def admit(self, request: SignedRequest) -> SignedRequest:
        """The request as the store can take it.

        Raises Refusal for a wrong signature, if that is checked here, for a key that the store
        does not keep, and for content that the store's disk has no room for.
        """
        if request.header(b"transfer-encoding").lower() not in ("", "chunked"):
            # A body that is compressed on the way only: neither S3 nor the store unpacks it.
            raise Refusal(
                501,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented.",
            )
        moved = path_style(request)
        if self._key_problem is not None:
            check_keys(moved, self._key_problem)
            if names_keys_in_body(moved):
                check_body_size(moved)
        if self._no_space is not None and request.method == "PUT":
            self._check_space(moved, self._no_space)
        return self._acceptable(request, moved)

    def reads_body(self, admitted: SignedRequest) -> bool:
        """Is the body of an admitted request to be checked before the store gets it?"""
        return self._key_problem is not None and names_keys_in_body(admitted)

    def check_body(self, body: bytes) -> None:
        """Raises Refusal where a body names a key that the store does not keep."""
        if self._key_problem is not None:
            check_body(body, self._key_problem)

    def _check_space(self, request: SignedRequest, no_space: Callable[[int], str]) -> None:
        size = payload_size(request)
        if not key_of(request) or not (size or request.header(b"x-amz-copy-source")):
            return
        # The store would answer InternalError, on some disks after half a minute.
        if problem := no_space(size):
            raise Refusal(503, "ServiceUnavailable", problem)

    def added_headers(self, request: SignedRequest, status: int) -> Headers:
        """`HeadBucket` says where the bucket is: in the region it was asked for in.

        Source: HeadBucket in the S3 API reference; every region here has all buckets.
        """
        if request.method != "HEAD" or status >= HTTPStatus.BAD_REQUEST:
            return []
        path = path_style(request).path.strip("/")
        if not path or "/" in path:
            return []
        signer = _signer(request)
        region = signer.region if signer else ""
        return [(_REGION, (region or _DEFAULT_REGION).encode("latin-1"))]

    async def store_away(self) -> Refusal:
        """503, which every SDK tries again, with what is known of the store."""
        reason = await self._control.store_problem()
        return Refusal(503, "ServiceUnavailable", f"{UNREACHABLE} {reason}".rstrip())

    def _acceptable(self, request: SignedRequest, moved: SignedRequest) -> SignedRequest:
        """The request as the store can take it; raises Refusal for a wrong signature.

        `moved` is the request with its bucket in the path.
        """
        dropped: list[bytes] = []
        if request.header(_ENCRYPTION).startswith("aws:kms"):
            dropped += _KMS
        if request.header(_TOKEN) or "X-Amz-Security-Token=" in request.query:
            dropped.append(_TOKEN)
        signer = _signer(request)
        if signer is None:
            return moved
        # The store knows one account only; buckets have one name for all accounts anyway.
        foreign = signer.access_key != self._access_key and is_account(signer.access_key)
        if not dropped and not foreign and moved is request:
            return request
        if not request.says_how_it_is_signed:
            raise Refusal(
                400,
                "AuthorizationHeaderMalformed",
                "The authorization header that you provided is not valid.",
            )
        if not foreign and signer.access_key != self._access_key:
            raise Refusal(
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            )
        if not foreign and not request.is_signed_by(self._access_key, self._secret_key):
            raise Refusal(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
            )
        if request.header(b"x-amz-content-sha256").startswith("STREAMING-AWS4"):
            # Each chunk is signed with the signature of the one before it and so, in the end,
            # with the one of the headers.
            raise Refusal(
                501,
                "NotImplemented",
                "Signed chunks together with aws:kms, a session token, a bucket in the host or the "
                "credentials of another account are not built into sagemaker-emulator yet; send "
                "the payload unsigned or in one piece.",
            )
        if foreign:
            moved = moved.in_the_name_of(self._access_key)
        return moved.without(dropped, self._secret_key)


def _signer(request: SignedRequest) -> Signer | None:
    return signer_of({"authorization": request.header(b"authorization")}, request.query)


def _bucket(request: SignedRequest) -> str:
    return path_style(request).path.lstrip("/").partition("/")[0]
