"""Requests to S3 over s3fs, with the checks that its own reading lacks: the version asked for, and the answer's."""

from __future__ import annotations

from typing import Any

from mmflow.mapping import FileIdentity
from mmflow.remote.responses import Answer, AnswerMismatchError, Part, judge, strong_tag
from mmflow.storage.object_store import FsspecStore
from mmflow.storage.url import redact_url

__all__ = ["read"]


def read(store: FsspecStore, url: str, begin: int, end: int, identity: FileIdentity) -> Part:
    """Return the bytes `[begin, end)` of an object, or fewer where the connection ends before.

    Raises:
        AnswerMismatchError: The object is another version, or the answer is of another range.
        OSError: As s3fs judges what went wrong.
    """
    part: Part = store.run(_read, store.fs, url, store.path(url), begin, end, identity)
    return part


async def _read(fs: Any, url: str, path: str, begin: int, end: int, identity: FileIdentity) -> Part:
    bucket, key, version = fs.split_path(path)
    wanted: dict[str, Any] = {"Bucket": bucket, "Key": key, "Range": f"bytes={begin}-{end - 1}"}
    if version:
        wanted["VersionId"] = version
    if strong_tag(identity):
        wanted["IfMatch"] = identity.tag
    try:
        answer = await fs._call_s3("get_object", **wanted)
    except OSError as error:
        code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
        if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
            raise AnswerMismatchError(
                f"{redact_url(url)} can't be read as one version: its store has another one now ({code})",
                path=redact_url(url),
            ) from error
        raise
    body = answer["Body"]
    try:
        http = answer["ResponseMetadata"]
        headers = {name.lower(): str(value) for name, value in http["HTTPHeaders"].items()}
        proven = judge(Answer.of(http["HTTPStatusCode"], headers), begin, end, identity, url)
        return Part(bytes(await body.read()), proven)
    finally:
        body.close()
