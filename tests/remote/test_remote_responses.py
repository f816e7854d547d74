"""Servers whose answers contradict the request, each other, or what the file was: an error, never other rows."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import SourceUnreachableError
from mmflow.mapping import FileIdentity
from mmflow.remote import failures
from mmflow.remote.http import as_given
from mmflow.remote.responses import Answer, AnswerMismatchError, NoRanges, Part, judge
from tests.remote.web import Web, serving

ROWS = 40_000
Headers = dict[str, str]


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(failures, "_FIRST_PAUSE", 0.001)
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.csv").write_text("n\n" + "".join(f"{n:07}\n" for n in range(ROWS)))
    with serving(folder) as web:
        yield web


def _total(web: Web, name: str = "a.csv") -> int:
    with mf.Session(cache_size=0) as session:
        return session.read_csv(f"{web.url}/{name}", schema={"n": "int64"}).count()


def _in_gets(**changed: str) -> Callable[[str, str, Headers], Headers]:
    return lambda method, _path, headers: headers | (changed if method == "GET" else {})


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (_in_gets(**{"Content-Range": "bytes 8-9/99"}), "its server now sends one of 99"),
        (_in_gets(ETag='"other"'), "its ETag was"),
        (_in_gets(status="412"), "another version"),
        (_in_gets(status="416"), "has no byte"),
    ],
)  # fmt: skip
def test_an_answer_that_contradicts_the_file_is_a_change(
    web: Web, lie: Callable[[str, str, Headers], Headers], said: str
) -> None:
    web.lie = lie
    with pytest.raises(mf.SourceChangedError, match=said):
        _total(web)


def test_an_answer_of_another_range_is_a_change(web: Web) -> None:
    size = (web.folder / "a.csv").stat().st_size

    def shifted(method: str, _path: str, headers: Headers) -> Headers:
        if method == "GET" and "Content-Range" in headers:
            begin, end = headers["Content-Range"].split()[1].split("/")[0].split("-")
            headers["Content-Range"] = f"bytes {int(begin) + 8}-{int(end) + 8}/{size}"
        return headers

    web.lie = shifted
    with pytest.raises(mf.SourceChangedError, match="were asked for, its server sent"):
        _total(web)


@pytest.mark.parametrize("said", ["0", "8"])
def test_a_size_that_head_gets_wrong_never_hides_rows(web: Web, said: str) -> None:
    def short(method: str, _path: str, headers: Headers) -> Headers:
        return headers | ({"Content-Length": said} if method == "HEAD" else {})

    web.lie = short
    if said == "0":  # then the server is asked once more, by a part
        assert _total(web) == ROWS
    else:
        with pytest.raises(mf.SourceChangedError, match="its server now sends one of"):
            _total(web)


def test_a_mismatch_that_passes_is_asked_again(web: Web) -> None:
    seen: list[str] = []

    def once(method: str, path: str, headers: Headers) -> Headers:
        if method == "GET":
            seen.append(path)
            if len(seen) == 2:
                headers["ETag"] = '"stale"'
        return headers

    web.lie = once
    assert _total(web) == ROWS
    assert len(seen) > 2


def test_an_empty_file_has_no_rows(web: Web) -> None:
    (web.folder / "e.csv").write_text("")
    assert _total(web, "e.csv") == 0


def test_a_file_without_etag_and_time_is_read_with_one_warning(web: Web) -> None:
    web.tags = web.times = False
    with pytest.warns(mf.UnverifiableSourceWarning, match="neither ETag nor Last-Modified") as caught:
        assert _total(web) == ROWS
    assert len(caught) == 1


def test_bytes_come_as_they_are_stored_whatever_content_encoding_says(web: Web) -> None:
    plain = (web.folder / "a.csv").read_bytes()
    (web.folder / "a.csv.gz").write_bytes(gzip.compress(plain))
    (web.folder / "b.csv").write_bytes(gzip.compress(plain))
    web.lie = lambda _method, _path, headers: headers | {"Content-Encoding": "gzip"}
    assert _total(web, "a.csv.gz") == ROWS
    assert _total(web, "b.csv") == ROWS


def test_first_bytes_say_whether_a_file_is_compressed(web: Web) -> None:
    plain = (web.folder / "a.csv").read_bytes()
    (web.folder / "b.csv").write_bytes(gzip.compress(plain))
    (web.folder / "c.csv.gz").write_bytes(plain)
    assert _total(web, "b.csv") == _total(web, "c.csv.gz") == ROWS


def test_a_look_at_the_first_bytes_costs_no_request(web: Web) -> None:
    text = (web.folder / "a.csv").read_bytes()
    (web.folder / "a.log").write_bytes(text)
    assert mf.read_text(f"{web.url}/a.log").count() == text.count(b"\n")
    assert [(begin, end) for path, begin, end in web.gets if path == "/a.log"] == [(0, len(text))]


def test_objects_that_are_stored_compressed(s3: Callable[[], str]) -> None:
    import fsspec

    fs, bucket = fsspec.filesystem("s3"), s3()
    data = b"k\n" + b"".join(b"%d\n" % i for i in range(5000))
    fs.pipe(f"{bucket}/n/a.csv", gzip.compress(data))
    fs.call_s3(
        "put_object", Bucket=bucket.removeprefix("s3://"), Key="n/b.csv", Body=gzip.compress(data),
        ContentEncoding="gzip",
    )  # fmt: skip
    fs.pipe(f"{bucket}/n/c.csv.gz", data)
    fs.pipe(f"{bucket}/n/d.csv", data)
    session = mf.Session(shard_size=4096, workers=2)
    assert session.read_csv(f"{bucket}/n/*").to_arrow()["k"].to_pylist() == list(range(5000)) * 4


def test_a_server_that_refuses_head_is_asked_by_a_part(web: Web) -> None:
    web.lie = lambda method, _path, headers: headers | ({"status": "403"} if method == "HEAD" else {})
    assert _total(web) == ROWS


def test_a_refused_signed_url_says_access_denied(web: Web) -> None:
    web.status = 403
    with pytest.raises(mf.SourceError, match=r"access denied") as caught:
        _total(web, "a.csv?X-Amz-Signature=hush")
    assert "hush" not in str(caught.value)


def test_signed_urls_are_sent_as_they_were_given(web: Web) -> None:
    seen: list[str] = []

    def note(_method: str, path: str, headers: Headers) -> Headers:
        seen.append(path)
        return headers

    web.lie = note
    given = "a.csv?X-Amz-Credential=k%2F20261130%2Fs3&sig=a%2Bb%3D&x=%7E"
    assert _total(web, given) == ROWS
    assert set(seen) == {f"/{given}"}


@given(st.text(st.sampled_from("abc/%2F?&=+ ~é'\"<>{}|"), max_size=20))
def test_only_what_can_not_stand_in_a_url_is_escaped(text: str) -> None:
    sent = as_given(f"http://h/{text}")
    assert sent.isascii()
    assert as_given(sent) == sent
    kept = [c for c in text if c in "abc/%2F?&=+~'"]
    assert sent == "http://h/" + "".join(c if c in kept else quote(c) for c in text)


def test_proxies_of_the_environment_are_used(web: Web, tmp_path: Path) -> None:
    """The server here is a proxy, too: it serves the path of whatever address it is asked for."""
    code = "import sys, mmflow as mf; print(mf.read_csv(sys.argv[1]).count())"
    environment = os.environ | {
        "http_proxy": web.url,
        "no_proxy": "",
        "MMFLOW_CACHE_DIR": str(tmp_path / "pages"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, "http://nowhere.invalid/a.csv"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(ROWS), done.stderr


# ---- the judgement -------------------------------------------------------------------------------------------------

_SIZES = st.integers(1, 40)


@given(
    size=_SIZES, total=st.none() | _SIZES, asked=st.tuples(_SIZES, _SIZES), sent=st.tuples(_SIZES, _SIZES),
    tags=st.tuples(*[st.sampled_from(["", '"a"', 'W/"a"', '"b"'])] * 2), status=st.sampled_from([200, 206]),
)  # fmt: skip
def test_only_the_asked_bytes_of_the_known_version_are_taken(
    size: int,
    total: int | None,
    asked: tuple[int, int],
    sent: tuple[int, int],
    tags: tuple[str, str],
    status: int,
) -> None:
    begin, end = min(asked) - 1, max(asked)
    identity = FileIdentity(0, 0, size, 0, tags[0])
    headers = {"etag": tags[1]} if tags[1] else {}
    if status == 206:
        headers["content-range"] = f"bytes {min(sent) - 1}-{max(sent) - 1}/{'*' if total is None else total}"
    elif total is not None:
        headers["content-length"] = str(total)
    same = (total in (None, size)) and not (all(tags) and tags[0].strip('W/"') != tags[1].strip('W/"'))
    taken: object = None
    try:
        proven = judge(Answer.of(status, headers), begin, end, identity, "http://h/a")
        assert proven == (tags[0] == tags[1] and tags[0].startswith('"'))
    except (NoRanges, AnswerMismatchError) as error:
        taken = type(error)
    if not same:
        assert taken is AnswerMismatchError
    elif status == 200:
        assert taken is NoRanges
    else:
        assert (taken is None) == (sent[0] != 0 and (min(sent) - 1, max(sent)) == (begin, end))


# ---- S3 ----------------------------------------------------------------------------------------------------------


def test_requests_to_s3_name_the_version_that_is_wanted(s3: Callable[[], str]) -> None:
    """Otherwise an object that is replaced between two requests could be taken for the old one."""
    import fsspec

    from mmflow.remote.filesystem import open_store

    fs, bucket = fsspec.filesystem("s3"), s3()
    fs.pipe(f"{bucket}/a", b"old")
    store = open_store(f"{bucket}/a", "")
    identity = store.look(f"{bucket}/a").identity
    assert store.read(f"{bucket}/a", 1, 3, identity) == Part(b"ld", proven=True)
    fs.pipe(f"{bucket}/a", b"new")
    with pytest.raises(AnswerMismatchError, match="another one now"):
        store.read(f"{bucket}/a", 1, 3, identity)


def test_an_empty_object_beside_a_folder_of_its_name_hides_nothing(s3: Callable[[], str]) -> None:
    import fsspec

    fs, bucket = fsspec.filesystem("s3"), s3()
    fs.pipe(f"{bucket}/n/a.csv", b"k\n1\n2\n")
    fs.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key="n", Body=b"")
    fs.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key="n/", Body=b"")
    for name in ("n", "n/", "n/*.csv"):
        assert mf.read_csv(f"{bucket}/{name}").count() == 2


def test_schemes_in_capitals_are_those_in_small_letters(s3: Callable[[], str]) -> None:
    import fsspec

    bucket = s3()
    fsspec.filesystem("s3").pipe(f"{bucket}/a.csv", b"k\n1\n")
    assert mf.read_csv(f"S3{bucket[2:]}/a.csv").count() == 1
    assert mf.read_csv(f"S3{bucket[2:]}/*.csv").count() == 1


def test_a_missing_bucket_is_missing_at_once(s3: Callable[[], str]) -> None:
    s3()
    with pytest.raises(mf.SourceError, match="no such file or folder") as caught:
        mf.read_csv("s3://no-such-bucket-here/a.csv")
    assert not isinstance(caught.value, SourceUnreachableError)
