"""Credentials of S3 that expire while a run goes on.

    request    signed with the credentials that the client was made with
    answer     they have expired, are not known (any more), or a HEAD is refused without a reason
    here       environment, profile, files and provider are asked anew; if they give others, the request is sent again

botocore renews by itself what its providers say the end of (roles, instances, processes). Keys and tokens that another
program writes into a file have no such end: they are read once, and refused after some hours.

Invariant: a request is only repeated with other credentials than those that were refused.
"""

from __future__ import annotations

from typing import Any

__all__ = ["renewing"]

#: Codes of S3 and its like for credentials that are no (longer) good ones.
_CODES = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "RequestExpired",
     "TokenRefreshRequired"}
)  # fmt: skip
#: An answer to HEAD has no body that could say more.
_BARE_CODES = frozenset({"400", "401", "403"})
_SENT_AGAIN = 3
_NOTED = "mmflow-credentials"


def renewing(fs: Any) -> Any:
    """Return a file system that asks for its credentials anew once they are refused; of others than S3 as it is."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if "s3" not in protocols or not hasattr(fs, "set_session") or getattr(fs, "mmflow_renews", False):
        return fs
    made = fs.set_session

    async def set_session(*given: Any, **named: Any) -> Any:
        client = await made(*given, **named)
        renewal = _Renewal(fs, client)
        # A client of s3fs is kept; what has the same id is registered once.
        client.meta.events.register_first("request-created.s3", renewal.note, unique_id="mmflow-note")
        client.meta.events.register("needs-retry.s3", renewal.renew, unique_id="mmflow-renew")
        return client

    fs.set_session = set_session
    fs.mmflow_renews = True
    return fs


class _Renewal:
    """Handlers of botocore's events for one client."""

    def __init__(self, fs: Any, client: Any) -> None:
        self._fs = fs
        self._client = client

    def note(self, request: Any, **_: Any) -> None:
        """Remember the credentials that a request is signed with: other requests may renew them meanwhile."""
        request.context[_NOTED] = self._client._request_signer._credentials

    async def renew(self, response: Any, attempts: int, request_dict: Any, **_: Any) -> int | None:
        """Return 0, which means to send the request again at once, where there are other credentials; or None."""
        if response is None or attempts > _SENT_AGAIN:
            return None
        code = str(response[1].get("Error", {}).get("Code", ""))
        if code not in _CODES and code not in _BARE_CODES:
            return None
        used = request_dict["context"].get(_NOTED)
        return 0 if used is not None and await self._renewed(used) else None

    async def _renewed(self, used: Any) -> bool:
        """Return whether other credentials than the used ones are in use now."""
        signer = self._client._request_signer
        if signer._credentials is not used:
            return True
        if self._fs.key is not None:  # given by fsspec's configuration
            return False
        found = await type(self._fs.session)(**self._fs.kwargs).get_credentials()
        if found is None:
            return False
        before, now = await used.get_frozen_credentials(), await found.get_frozen_credentials()
        if (before.access_key, before.secret_key, before.token) == (
            now.access_key,
            now.secret_key,
            now.token,
        ):
            return False
        signer._credentials = found
        return True
