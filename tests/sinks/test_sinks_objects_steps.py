"""Steps of a commit to an object store, one by one: names, intents, what is known of a store, and what errors name."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from mmflow.errors import ConfigError, SinkError
from mmflow.sinks import CommitResult, IfExists, SinkAttempt, StagedFile, open_commit, sink_spec
from mmflow.sinks.commit import object_commit, protocol
from mmflow.sinks.commit.destination_store import DestinationStore, store_errors
from mmflow.sinks.commit.object_commit import ObjectCommit, staged_sizes
from mmflow.sinks.commit.object_destination import content_hash, destination_objects, is_published
from mmflow.sinks.commit.object_paths import ObjectPaths
from mmflow.storage.object_store import FsspecStore
from tests.sinks.object_rows import MANIFEST, manifest, objects, rows, state, tidy
from tests.sinks.sink_rows import write, write_all

BASE = "memory://bucket"
#: Commits whose locks are released at the end of a test.
_begun: list[ObjectCommit] = []


@pytest.fixture(autouse=True)
def bucket() -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    yield BASE
    while _begun:
        _begun.pop().abort()
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store says the hash of an object, as S3 does."""
    info = FsspecStore.info

    def with_hash(store: FsspecStore, url: str) -> Any:
        found = dict(info(store, url))
        if found["type"] == "file":
            found["ETag"] = f'"{hashlib.md5(store.read(url)).hexdigest()}"'
        return found

    monkeypatch.setattr(FsspecStore, "info", with_hash)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for module in (object_commit, protocol):
        monkeypatch.setattr(module, "failpoint", found.append)
    return found


def put(url: str, data: str) -> None:
    with fsspec.open(url, "w") as file:
        file.write(data)


def interrupt(done: CommitResult) -> None:
    raise ZeroDivisionError


def begin(url: str, run: str = "r1", if_exists: IfExists = "error") -> ObjectCommit:
    made = open_commit(sink_spec(url, "csv", if_exists=if_exists), run, resumable=True)
    assert isinstance(made, ObjectCommit)
    _begun.append(made)
    made.prepare()
    return made


def published_and_died(url: str) -> Sequence[StagedFile]:
    """Publish a file of two rows in a run that dies before it notes that; return what it had staged."""
    commit = begin(url)
    files = write(commit.spec, [rows("a", "b")], rows("").schema)
    with pytest.raises(ZeroDivisionError):
        commit.commit(files, rows("").schema, interrupt)
    commit.abort()
    return files


# ---- names ---------------------------------------------------------------------------------------------------------


def test_names_of_objects() -> None:
    folder, file = (ObjectPaths.of(sink_spec(f"s3://b/deep/{name}", "csv")) for name in ("out", "out.csv"))
    assert (folder.base, folder.file) == ("s3://b/deep/out", "")
    assert (file.base, file.file) == ("s3://b/deep", "out.csv")
    assert (folder.lock, file.lock) == ("_mmflow_lock.json", "_mmflow_lock-out.csv.json")
    assert (folder.runs, file.runs) == ("_mmflow", "_mmflow-out.csv")
    assert (folder.manifest, file.manifest) == (MANIFEST, MANIFEST)
    assert (folder.open("r"), file.open("r")) == ("_mmflow/r/open.json", "_mmflow-out.csv/r/open.json")
    assert folder.intent("r.1+a_B-2", 3) == "_mmflow/r.1+a_B-2/intent-3.json"
    attempt = SinkAttempt("r", 2, 7, 0)
    assert re.fullmatch(rf"_mmflow/r/{attempt.name}-[0-9a-f]{{8}}", folder.attempt(attempt))
    assert folder.attempt(attempt) != folder.attempt(attempt)
    names = ["_mmflow_lock.json", "_mmflow/r", "_mmflow", "_mmflowx/r", "out.csv", "a/_mmflow/r"]
    assert [folder.is_internal(name) for name in names] == [True, True, False, False, False, False]
    assert ObjectPaths.of(sink_spec("s3://b/outX/", "csv")).base == "s3://b/outX"
    top = ObjectPaths.of(sink_spec("memory://out.csv", "csv"))
    assert (top.base, top.file) == ("memory://", "out.csv")
    for name in ("", "-r", "a/b", "é"):
        with pytest.raises(AssertionError, match=f"^{name!r} can't be part of an object's name$"):
            folder.staging(name)


# ---- the protocol --------------------------------------------------------------------------------------------------


def test_the_steps_of_a_folder_in_order(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_commit, "_COPIES", 2)
    write_all(f"{BASE}/out", [[rows("a")]] * 3, format="csv")
    published = ["intended", "copied", "copied", "checked", "published", "noted"]
    assert steps == ["locked", "opened", *published, "cleared", "settled", "cleaned"]


def test_the_steps_of_a_file_in_order(steps: list[str]) -> None:
    write_all(f"{BASE}/out.csv", [[rows("a")]])
    assert steps == [*("locked", "opened", "intended", "checked", "published", "noted", "settled", "cleaned")]


def test_staging_says_since_when_it_is_open() -> None:
    before = time.time()
    commit = begin(f"{BASE}/out")
    found = json.loads(commit._store.read("_mmflow/r1/open.json") or b"")
    assert found.keys() == {"run", "since"}
    assert found["run"] == "r1"
    assert before <= found["since"] <= time.time()
    commit.abort()


def test_an_intent_names_what_comes_and_what_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{BASE}/out"
    write_all(url, [[rows("old")], [rows("old")]], format="csv", run="r0")
    found = manifest(url)
    assert found is not None
    old = sorted(f["path"] for f in found["files"])
    commit = begin(url, if_exists="replace")
    intents: list[Any] = []

    def step(name: str) -> None:
        if name == "intended":
            intents.append(commit._store.read("_mmflow/r1/intent-0.json"))

    monkeypatch.setattr(object_commit, "failpoint", step)
    files = [write(commit.spec, [rows("é")], rows("").schema, number=number)[0] for number in (1, 0)]
    nonce = commit._held.nonce
    commit.commit(files, rows("").schema)
    new = sorted(f"part-r1-0000{number}-{nonce[:8]}.csv" for number in (0, 1))
    assert intents == [json.dumps({"new": new, "old": old, "lock": nonce}).encode()]
    assert objects(url) == {MANIFEST, *new}


def test_an_intent_of_a_file_says_its_size_and_hash(hashes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = begin(f"{BASE}/out.csv")
    intents: list[Any] = []

    def step(name: str) -> None:
        if name == "intended":
            intents.append(commit._store.read("_mmflow-out.csv/r1/intent-0.json"))

    monkeypatch.setattr(object_commit, "failpoint", step)
    nonce = commit._held.nonce
    commit.commit(write(commit.spec, [rows("a", "b")], rows("").schema), rows("").schema)
    etag = hashlib.md5(b"v\na\nb\n").hexdigest()
    assert [json.loads(i) for i in intents] == [
        {"new": [], "old": [], "lock": nonce, "rows": 2, "bytes": 6, "etag": etag}
    ]


def test_a_driver_whose_intent_exists_already_takes_the_next_number(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{BASE}/out"
    commit = begin(url)
    files = write(commit.spec, [rows("a")], rows("").schema)
    theirs = json.dumps({"new": ["theirs.csv"], "old": [], "lock": "another"}).encode()
    commit._store.put("_mmflow/r1/intent-0.json", theirs)
    create = DestinationStore.create
    asked: list[str] = []

    def late(store: DestinationStore, name: str, data: bytes) -> bool:
        """A driver that hung writes its intents after the look."""
        asked.append(name)
        if len(asked) <= 2:
            store.put(name, theirs)
        return create(store, name, data)

    monkeypatch.setattr(DestinationStore, "create", late)
    put(f"{url}/theirs.csv", "v\nx\n")
    commit.commit(files, rows("").schema)
    assert asked == [f"_mmflow/r1/intent-{number}.json" for number in (1, 2, 3)]
    assert (state(url), tidy(url)) == (["a"], True)


def test_who_lost_its_lock_takes_no_further_number(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = begin(f"{BASE}/out")
    files = write(commit.spec, [rows("a")], rows("").schema)

    def create(store: DestinationStore, name: str, data: bytes) -> bool:
        store.delete(["_mmflow_lock.json"])
        return False

    monkeypatch.setattr(DestinationStore, "create", create)
    with pytest.raises(SinkError, match=r"the lock of .*out was deleted while this run computed"):
        commit.commit(files, rows("").schema)


def test_only_the_folders_with_new_files_lose_their_old_ones() -> None:
    url = f"{BASE}/out"

    def batch(**columns: list[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict(columns)

    write_all(url, [[batch(k=["a", "b"], v=["1", "2"])]], format="csv", partition_by="k")
    keys: dict[str, Any] = {"format": "csv", "partition_by": "k", "if_exists": "replace-partitions"}
    write_all(url, [[batch(k=["b", "c"], v=["3", "4"])]], run="r2", **keys)
    assert (state(url), tidy(url)) == (["1", "3", "4"], True)
    # Where files have no manifest, too.
    other = f"{BASE}/other"
    for name in ("k=a", "k=b"):
        put(f"{other}/{name}/theirs.csv", f"v\n{name}\n")
    write_all(other, [[batch(k=["b"], v=["5"])]], **keys)
    assert (state(other), tidy(other)) == (["5", "k=a"], True)


@pytest.mark.usefixtures("hashes")
def test_a_run_that_goes_on_knows_the_file_that_it_published() -> None:
    url = f"{BASE}/out.csv"
    published_and_died(url)
    commit = begin(url)
    assert commit.done
    put(url, "v\nx\ny\n")
    with pytest.raises(
        SinkError, match=f"^{url} was replaced by another process after this run published it$"
    ) as raised:
        commit.commit((), rows("").schema)
    assert raised.value.context == {"path": url}
    put(url, "v\na\nb\n")
    assert commit.commit((), rows("").schema) == CommitResult(url, 1, 2, 6)
    assert objects(BASE) == {"out.csv"}


@pytest.mark.usefixtures("hashes")
def test_a_file_of_others_is_not_taken_for_ours() -> None:
    url = f"{BASE}/out.csv"
    published_and_died(url)
    put(url, "v\nx\ny\n")  # as long as ours
    with pytest.raises(SinkError, match="exists; choose another output"):
        begin(url)


def test_without_hashes_a_file_of_the_same_size_is_published_once_more() -> None:
    url = f"{BASE}/out.csv"
    files = published_and_died(url)
    commit = begin(url)
    assert not commit.done
    assert commit.commit(files, rows("").schema).rows == 2
    assert state(url) == ["a", "b"]


# ---- what is known of the destination ----------------------------------------------------------------------------------


def test_the_hash_of_an_object() -> None:
    cases: list[tuple[Mapping[str, Any], str | None]] = [
        ({"ETag": '"abc"'}, "abc"),
        ({"ETag": "abc"}, "abc"),
        ({"ETag": '"XabcX"'}, "XabcX"),
        ({"ETag": '"abc-2"'}, None),  # of parts
        ({"ETag": ""}, None),
        ({"ETag": None}, None),
        ({}, None),
    ]
    assert [content_hash(info) for info, _ in cases] == [expected for _, expected in cases]


@pytest.mark.usefixtures("hashes")
def test_which_intents_may_be_of_the_file_that_is_there() -> None:
    store, paths = DestinationStore(BASE), ObjectPaths(BASE, "out.csv")
    ours = hashlib.md5(b"v\na\n").hexdigest()
    assert not is_published(store, paths, [{"bytes": 4, "etag": None}])
    assert destination_objects(store, paths) == {}
    put(f"{BASE}/out.csv", "v\na\n")
    assert destination_objects(store, paths) == {"out.csv": 4}
    for intents, expected in (
        ([], False),
        ([{"bytes": 4, "etag": ours}], True),
        ([{"bytes": 4, "etag": None}], True),
        ([{"bytes": 4}], True),
        ([{"bytes": 5, "etag": ours}], False),
        ([{"bytes": 4, "etag": "another"}], False),
        ([{"new": ["out.csv"]}], False),
        ([{"bytes": 4, "etag": "another"}, {"bytes": 4, "etag": ours}], True),
    ):
        assert is_published(store, paths, intents) is expected, intents


def test_refusals_name_the_destination_and_what_to_do() -> None:
    put(f"{BASE}/object", "")
    put(f"{BASE}/dir.csv/a.csv", "")
    put(f"{BASE}/there/a.csv", "")
    put(f"{BASE}/there.csv", "")
    put(f"{BASE}/notes/thesis.doc", "")
    mode = r"(in Python: if_exists=…)"
    for name, if_exists, message in (
        ("object", "error", "is an object, and the output is a folder of csv files; choose another output"),
        ("dir.csv", "error", f"is a folder, and the output is one file; write to {BASE}/dir.csv/ for a folder of csv files"),
        ("there", "error", f"exists; choose another output, or say --if-exists replace or append {mode}"),
        ("there.csv", "error", f"exists; choose another output, or say --if-exists replace {mode}"),
    ):  # fmt: skip
        with pytest.raises(SinkError) as raised:
            begin(f"{BASE}/{name}", if_exists=if_exists)  # type: ignore[arg-type]  # literals of a table
        assert str(raised.value) == f"{BASE}/{name} {message}"
        assert raised.value.context["path"] == f"{BASE}/{name}"
        assert raised.value.code == ("MMF-OUT-002" if message.startswith("exists") else "MMF-OUT-001")
    with pytest.raises(SinkError) as raised:
        begin(f"{BASE}/there.csv", if_exists="append")
    assert str(raised.value) == (
        f"can't append to {BASE}/there.csv: files are written whole; append to a folder of files"
    )
    assert raised.value.context == {"path": f"{BASE}/there.csv"}
    with pytest.raises(SinkError) as raised:
        begin(f"{BASE}/notes/", if_exists="replace")
    assert str(raised.value) == (
        f"won't replace {BASE}/notes: it holds thesis.doc, which is no output of a data set; "
        "move it away, or choose another output"
    )
    assert raised.value.context == {"path": f"{BASE}/notes"}


def test_files_of_others_may_stay_beside_those_that_are_appended() -> None:
    put(f"{BASE}/notes/thesis.doc", "years of work")
    write_all(f"{BASE}/notes", [[rows("a")]], format="csv", if_exists="append")
    assert "thesis.doc" in objects(f"{BASE}/notes")


def test_inputs_that_the_output_would_touch() -> None:
    over = "would be written while it is read ({source} is an input); choose another output"
    inside = "lies inside {source}, which is an input: the next run would read it; choose another output"
    for name, source, message in (
        ("data", "data/a.csv", over),
        ("data", "data", over),
        ("data/deep", "data", inside),
        ("data/a.csv", "data/a.csv", over),
        ("data/a.csv", "data/a.csv/", over),
        ("data/out.csv", "data", inside),
        ("data/deep/out.csv", "data", inside),
    ):
        url, asked = f"{BASE}/{name}", f"{BASE}/{source}"
        with pytest.raises(SinkError) as raised:
            open_commit(sink_spec(url, "csv"), "r1").prepare(["/local", asked, f"{BASE}/apart.csv"])
        assert str(raised.value) == f"{url} {message.format(source=asked)}"
        assert raised.value.context["path"] == url
        assert raised.value.code == ("MMF-OUT-004" if message is over else "MMF-OUT-001")
    for name, source in (
        ("data", "data2/a.csv"),
        ("data", "s3://bucket/data"),
        ("data/out.csv", "data/out.csv2"),
        ("data/out.csv", "data/deep/out.csv"),
        ("data/out.csv", "data/xout.csv"),
        ("data/out.csv", "data/out.csvX"),
    ):
        commit = open_commit(sink_spec(f"{BASE}/{name}", "csv"), "r1")
        commit.prepare([source if "://" in source else f"{BASE}/{source}", f"/bucket/{name}"])
        commit.abort()


# ---- errors of the commit -----------------------------------------------------------------------------------------


def test_a_copy_that_is_lost_or_changed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{BASE}/out"
    copy = DestinationStore.copy
    for data, found in ((None, "none"), (b"v\n", "2")):
        commit = begin(url)
        files = write(commit.spec, [rows("a" * 2000)], rows("").schema)

        def bad(store: DestinationStore, pairs: list[tuple[str, str]], data: bytes | None = data) -> None:
            copy(store, pairs)
            store.delete([pairs[0][1]])
            if data is not None:
                store.put(pairs[0][1], data)

        with monkeypatch.context() as patch:
            patch.setattr(DestinationStore, "copy", bad)
            with pytest.raises(SinkError) as raised:
                commit.commit(files, rows("").schema)
        name = f"part-r1-00000-{commit._held.nonce[:8]}.csv"
        assert str(raised.value) == (
            f"{url}/{name} should have 2,003 bytes, and has {found}: the store lost or changed it; run again"
        )
        assert raised.value.context == {"path": url}
        commit.abort()


@pytest.mark.parametrize("name", ["out", "out.csv"])
def test_a_staged_object_that_is_missing_is_named(name: str) -> None:
    url = f"{BASE}/{name}"
    commit = begin(url)
    files = [
        write(commit.spec, [rows("a")], rows("").schema, number=n)[0] for n in range(1 if "." in name else 3)
    ]
    commit._store.delete([files[-1].staged])
    with pytest.raises(SinkError) as raised:
        commit.commit(files, rows("").schema)
    assert str(raised.value) == (
        f"the staged object {commit._store.url}/{files[-1].staged} is missing; something deleted it, run again"
    )
    assert raised.value.context == {"path": url}
    commit.abort()


def test_what_was_copied_is_deleted_though_the_intent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{BASE}/out"
    commit = open_commit(sink_spec(url, "csv"), "r1")
    commit.prepare()
    files = write(commit.spec, [rows("a")], rows("").schema)
    copy = DestinationStore.copy

    def fail(store: DestinationStore, pairs: list[tuple[str, str]]) -> None:
        """Another run takes this one for dead: it breaks the lock, and gives it back."""
        copy(store, pairs)
        store.delete(["_mmflow/r1/intent-0.json"])
        raise SinkError("broken")

    monkeypatch.setattr(DestinationStore, "copy", fail)
    with pytest.raises(SinkError, match="broken"):
        commit.commit(files, rows("").schema)
    commit.abort()
    assert objects(url) == set()


def test_a_copy_that_fails_otherwise_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = begin(f"{BASE}/out")
    files = write(commit.spec, [rows("a")], rows("").schema)

    def missing(store: FsspecStore, pairs: Any) -> None:
        raise FileNotFoundError("the bucket")

    monkeypatch.setattr(FsspecStore, "copy", missing)
    with pytest.raises(SinkError, match="there is no such bucket, or an object is missing"):
        commit.commit(files, rows("").schema)


def test_a_manifest_that_can_not_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{BASE}/out"
    commit = begin(url)
    files = write(commit.spec, [rows("a")], rows("").schema)
    put_object = DestinationStore.put

    def refuse(store: DestinationStore, name: str, data: bytes) -> None:
        if name == MANIFEST:
            raise SinkError("no")
        put_object(store, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(DestinationStore, "put", refuse)
        with pytest.raises(SinkError, match=r"^no$"):
            commit.commit(files, rows("").schema)
    commit.abort()
    assert {name.split("/")[0] for name in objects(url)} == {"_mmflow"}, "it may be resumed"
    put(f"{url}/{MANIFEST}", "{")
    with pytest.raises(SinkError, match=f"{url}/{MANIFEST}"):
        begin(url, run="r2")


def test_the_sizes_of_what_a_run_staged() -> None:
    commit = begin(f"{BASE}/out")
    files = write(commit.spec, [rows("a")], rows("").schema)
    sizes = staged_sizes(commit.spec, "r1")
    assert sizes[files[0].staged] == files[0].nbytes == 4
    assert sizes.keys() == {files[0].staged, "_mmflow/r1/open.json"}
    assert staged_sizes(commit.spec, "r2") == {}
    commit.abort()


# ---- the store -----------------------------------------------------------------------------------------------------


def test_objects_below_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DestinationStore(f"{BASE}/out")
    assert (store.read("a"), store.info("a"), store.info(), store.sizes()) == (None, None, None, {})
    store.put("b/deep", b"1234")
    store.put("a", b"12")
    fsspec.filesystem("memory").pipe_file("/bucket/out2/other", b"")
    find = FsspecStore.find

    def found(there: FsspecStore, url: str) -> Any:
        others = {"b/": "file", "b": "directory", "Xc": "file"}
        empty = {f"{BASE}/out/{name}": {"size": None, "type": kind} for name, kind in others.items()}
        return {**empty, f"{BASE}/out": empty[f"{BASE}/out/Xc"], **find(there, url)}

    with monkeypatch.context() as patch:
        patch.setattr(
            FsspecStore, "find", found
        )  # as web consoles create folders, and a listing that leaves out sizes
        assert list(store.sizes().items()) == [("Xc", 0), ("a", 2), ("b/deep", 4)]
    assert store.sizes("b") == {"b/deep": 4}
    assert store.sizes("a") == {}
    info = store.info("a")
    assert info is not None
    assert info["size"] == 2
    assert store.info("b") is None
    assert DestinationStore(f"{BASE}/out/a").info() is not None
    store.copy([("a", "c"), ("b/deep", "d")])
    assert (store.read("c"), store.read("d")) == (b"12", b"1234")
    store.delete(["c", "none"])
    store.delete_folder("b")
    store.delete_folder("none")
    assert store.sizes() == {"a": 2, "d": 4}


def test_how_urls_lie_to_each_other() -> None:
    store = DestinationStore(f"{BASE}/out/")
    for url, relation in {
        f"{BASE}/out": "same",
        f"{BASE}/out/": "same",
        f"{BASE}/out/a": "inside",
        f"{BASE}/out2": "",
        f"{BASE}": "around",
        f"{BASE}/": "around",
        f"{BASE}/ou": "",
        f"{BASE}/out ": "",
        "s3://bucket/out": "",
    }.items():
        assert store.relation_to(url) == relation, url
    assert DestinationStore(f"{BASE}/out ").relation_to(f"{BASE}/out") == ""


def test_objects_that_exist_are_not_created(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DestinationStore(BASE)
    for error, created in (
        (FileExistsError(), False),
        (OSError(errno.EBUSY, "at the same time"), False),
        (OSError(errno.EIO, "broken"), None),
        (ValueError("broken"), None),
    ):

        def refuse(there: FsspecStore, name: str, data: bytes, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(FsspecStore, "create", refuse)
            if created is None:
                with pytest.raises(SinkError, match=f"^can't write {BASE}: .*broken"):
                    store.create("a", b"ours")
            else:
                assert store.create("a", b"ours") is created
            store.put("b", b"ours")
            assert store.create("b", b"ours") is True
            assert store.create("b", b"others") is False


def test_errors_of_a_store_say_what_to_do() -> None:
    for error, problem in (
        (FileNotFoundError("b"), "there is no such bucket, or an object is missing (b)"),
        (PermissionError("no"), "access denied; check the credentials in the environment (no)"),
        (
            ValueError("Unable to locate CREDENTIALS"),
            (
                "no credentials that work; set them in the environment or fsspec's configuration "
                "(ValueError: Unable to locate CREDENTIALS)"
            ),
        ),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError("odd"), "RuntimeError: odd"),
    ):
        with pytest.raises(SinkError) as raised, store_errors("s3://b"):
            raise error
        assert str(raised.value) == f"can't write s3://b: {problem}"
        assert raised.value.context == {"path": "s3://b"}
        assert raised.value.__cause__ is error
    ours = ConfigError("ours")
    with pytest.raises(ConfigError) as kept, store_errors("s3://b"):
        raise ours
    assert kept.value is ours


def test_every_request_names_the_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DestinationStore(BASE)

    def refuse(there: FsspecStore, *arguments: Any) -> Any:
        raise RuntimeError("odd")

    for method in ("read", "write", "create", "upload", "copy", "find", "info", "delete", "delete_tree"):
        monkeypatch.setattr(FsspecStore, method, refuse)
    for call in (
        *(lambda: store.read("a"), lambda: store.put("a", b""), lambda: store.create("a", b"")),
        *(lambda: store.upload(__file__, "a"), lambda: store.copy([("a", "b")])),  # type: ignore[arg-type]  # a path as text
        *(store.sizes, store.info, lambda: store.delete(["a"]), lambda: store.delete_folder("a")),
    ):
        with pytest.raises(SinkError, match=f"^can't write {BASE}: RuntimeError: odd$"):
            call()


def test_options_of_the_file_system_are_those_of_the_spec() -> None:
    assert DestinationStore(BASE, '{"asynchronous": false}').exclusive
    with pytest.raises(SinkError, match=rf"^can't write {BASE}: "):
        DestinationStore(BASE, "[")
    with pytest.raises(ConfigError, match="can't write to nowhere://b"):
        DestinationStore("nowhere://b")


def test_a_resumed_run_publishes_what_its_earlier_driver_staged() -> None:
    url = f"{BASE}/out"
    commit = begin(url)
    files = write(commit.spec, [rows("a")], rows("").schema)
    commit.abort()
    assert [StagedFile(f.staged, f.path, f.rows, f.nbytes) for f in files] == list(files)
    commit = begin(url)
    commit.commit(files, rows("").schema)
    assert (state(url), tidy(url)) == (["a"], True)
