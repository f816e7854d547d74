"""The command line: jobs, settings, explain, inspect, doctor."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from mmflow.api.assessment import assess
from mmflow.api.jobs import load_job
from mmflow.blocks import RunFolder
from mmflow.cli.parsing import Command
from mmflow.cli.runs import submission_of
from mmflow.cli.tree import command_line
from mmflow.config import Settings
from mmflow.errors import ConfigError
from mmflow.formats import FORMATS
from tests.fork_server import run_mmflow

ROOT = Path(__file__).parents[2]
MMFLOW = str(Path(sys.executable).with_name("mmflow"))


def mmflow(*arguments: str | Path, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = run_mmflow(*map(str, arguments), cwd=ROOT, env={**os.environ, **env})
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text("k,v\na,1\nb,2\na,3\n")
    return path


def test_pricing_summary(tpch_csv: Path, tmp_path: Path) -> None:
    source = tpch_csv / "lineitem.csv"
    out = tmp_path / "out"
    done = mmflow(
        "run",
        "jobs/pricing_summary.py",
        "--source",
        source,
        "--output",
        out,
        "--shard-size",
        "4MiB",
        "--json",
    )
    summary = json.loads(done.stdout)
    assert summary["rows"] == 4
    assert summary["bytes_read"] == source.stat().st_size
    wanted = duckdb.sql(f"""
        SELECT l_returnflag, l_linestatus, sum(l_quantity)::decimal(25, 2), sum(l_extendedprice::decimal(15, 2)), count(*)
        FROM read_csv('{source}') WHERE l_shipdate <= DATE '1998-12-01' - INTERVAL 90 DAY GROUP BY 1, 2 ORDER BY 1, 2
    """).fetchall()
    got = pq.read_table(out).to_pylist()
    assert [
        (r["l_returnflag"], r["l_linestatus"], r["sum_qty"], r["sum_base_price"], r["count_order"])
        for r in got
    ] == wanted


def test_top_errors(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = [
        f'10.0.0.{i % 5} - - [01/Mar/2026:00:00:{i % 60:02} +0000] "GET /p/{i % 7} HTTP/1.1" {500 if i % 3 == 0 else 200} {i}'
        for i in range(3_000)
    ]
    path.write_text("\n".join([*lines, "garbage"]) + "\n")
    done = mmflow(
        "run",
        "jobs/top_errors.py",
        "--source",
        path,
        "--top",
        "3",
        "--format",
        "json",
        "--shard-size",
        "4096",
    )
    wanted = duckdb.sql(f"""
        WITH r AS (SELECT regexp_extract(line, '"GET (\\S+)', 1) p, regexp_extract(line, '" ([0-9]+) ', 1) s,
                          regexp_extract(line, '^(\\S+)', 1) h
                   FROM read_csv('{path}', columns={{'line': 'VARCHAR'}}, delim='\x01', quote='', header=false))
        SELECT p AS path, s AS status, count(*) AS requests, count(DISTINCT h) AS hosts FROM r WHERE s = '500'
        GROUP BY ALL ORDER BY requests DESC, path LIMIT 3
    """).fetchall()
    assert [tuple(row.values()) for row in json.loads(done.stdout)] == wanted


def test_convert(tpch_csv: Path, tmp_path: Path) -> None:
    source, out = tpch_csv / "supplier.csv", tmp_path / "parquet"
    mmflow(
        "run",
        "jobs/convert.toml",
        "--source",
        source,
        "--by",
        "s_nationkey",
        "--out",
        out,
        "--shard-size",
        "16KiB",
    )
    assert len(list(out.glob("s_nationkey=*"))) == 25
    wanted = duckdb.sql(
        f"SELECT count(*), sum(s_suppkey), sum(s_nationkey) FROM read_csv('{source}')"
    ).fetchall()
    got = duckdb.sql(
        f"SELECT count(*), sum(s_suppkey), sum(s_nationkey) FROM read_parquet('{out}/*/*.parquet', hive_partitioning=true)"
    ).fetchall()
    assert got == wanted


def test_the_tables_of_the_issue(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("p;1.5\nq;2\np;\n")
    done = mmflow(
        "sql", "SELECT a, count(*), sum(b) s FROM t GROUP BY a ORDER BY a", "--table", f"t={path}", "--opt", "t.delimiter=;",
        "--opt", "t.header=false", "--opt", "t.schema=a:string,b:float64", "--format", "csv",
    )  # fmt: skip
    assert done.stdout.splitlines()[1:] == ["p,2,1.5", "q,1,2.0"]


def test_explain_shows_stages_and_exchanges(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("k,w\na,10\n")
    query = f"SELECT s.k, sum(o.w) w FROM '{small}' s JOIN '{other}' o ON s.k = o.k WHERE s.v > 1 GROUP BY s.k ORDER BY w"
    text = mmflow("explain", query).stdout
    assert "broadcast inner join" in text
    assert "partial aggregate" in text
    assert "final aggregate" in text
    assert "v > 1" in text
    assert "sort" in text
    assert (
        "stage 0"
        in mmflow(
            "explain", "jobs/convert.toml", "--source", small, "--by", "k", "--out", tmp_path / "o"
        ).stdout
    )


def test_inspect(small: Path) -> None:
    facts = json.loads(mmflow("inspect", small, "--json").stdout)
    assert facts["format"] == "csv"
    assert facts["schema"] == {"k": "string", "v": "int64"}
    assert facts["shards"] == 1
    assert facts["reads_by"] in ("mmap", "pread")
    text = mmflow("inspect", small).stdout
    assert "reads by" in text
    assert "v: int64" in text


def test_inspect_proposes_options(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(b"Prices\n\nday;euro\n31.12.2024;1,5\n30.12.2024;2,25\n29.12.2024;7,0\n28.12.2024;8,1\n")
    text = mmflow("inspect", path).stdout
    assert "proposes    delimiter ';', skip 2 lines, decimal ',', dates day first (%d.%m.%Y) (sure, 9" in text
    pasted = re.search("to read it  (.*)", text)
    assert pasted is not None
    bound = mmflow("inspect", path, *shlex.split(pasted[1])).stdout
    assert "day: date32" in bound
    assert "  proposes " not in bound
    assert "sniffed     delimiter=';'" in mmflow("inspect", path, "--opt", "dialect=auto").stdout
    facts = json.loads(mmflow("inspect", path, "--json").stdout)
    assert facts["proposal"]["options"]["skip_rows"] == 2
    path.write_bytes(b"\xff\xfe" + "a;b\n1;2\n3;4\n5;6\n".encode("utf-16-le"))
    if "encoding" in FORMATS["csv"]:
        assert "encoding utf-16, delimiter ';'" in mmflow("inspect", path).stdout


def test_doctor_shows_what_runs_hold_and_what_dead_ones_left(tmp_path: Path) -> None:
    living, dead = RunFolder(tmp_path, "living"), RunFolder(tmp_path, "dead")
    (dead.path / "0.block").write_bytes(bytes(1000))
    living.make()
    assert dead._made is not None
    dead._made[1].release()  # as the kernel does when its owner dies
    facts = json.loads(mmflow("doctor", "--json", MMFLOW_SPILL_DIR=str(tmp_path)).stdout)
    states = {s["folder"]: (s["bytes"], s["state"].split(";")[0]) for s in facts["stores"]}
    assert states[str(living.path)] == (0, "in use")
    assert states[str(dead.path)] == (1000, "left by a run that died")
    living.close()


def test_doctor_says_whether_the_cluster_answers() -> None:
    done = mmflow("doctor", "--engine", "dask", "--address", "tcp://127.0.0.1:9", code=1)
    assert done.stdout.startswith("Does not work:\n  - can't use the Dask cluster at tcp://127.0.0.1:9")


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system")
def test_doctor_explains_the_shared_memory_that_containers_get() -> None:
    script = f"mount -t tmpfs -o size=64m none /dev/shm && exec {MMFLOW} doctor"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Works with limits:\n")
    assert "/dev/shm has 64.0 MiB, which is what containers get" in done.stdout


def test_doctor() -> None:
    facts = json.loads(mmflow("doctor", "--json").stdout)
    assert facts["engines"]["local"] == "ready"
    assert facts["limits"]["max_mappings"] > 0
    assert facts["sigbus_guard"] is True
    assert facts["verdict"] in ("fine", "works with limits")
    text = mmflow("doctor").stdout
    assert all(len(line) <= 80 for line in text.splitlines())
    assert f"{facts['workers']} at once" in text


def test_doctor_has_advice_for_what_is_not_fine(tmp_path: Path) -> None:
    limits = {"open_files": 256, "max_mappings": 4096, "address_space": 1 << 30, "available_memory": 1 << 30}
    bad = {
        "limits": limits, "sigbus_guard": False, "shared_memory": {"folder": "/dev/shm", "size": 64 << 20, "free": 0},
        "spill": {"folder": "/tmp", "free": 1 << 20},
    }  # fmt: skip
    errors, warnings = assess(Settings.load({"spill_dir": tmp_path / "none", "memory": "2GiB"}), bad)
    for text, advice in zip([*errors, *warnings], [
        "--spill-dir", "--shm-size=4g", "--spill-dir", "--memory 512MiB", "ulimit -n", "sysctl vm.max_map_count",
        "ulimit -v", "--io pread",
    ], strict=True):  # fmt: skip
        assert advice in text
    most = {"open_files": None, "max_mappings": None, "address_space": None, "available_memory": 4 << 30}
    good = {**bad, "limits": most, "sigbus_guard": True, "spill": {"folder": "/tmp", "free": 9 << 30}}
    good["shared_memory"] = {"folder": "/dev/shm", "size": 9 << 30, "free": 9 << 30}
    assert assess(Settings.load({"spill_dir": tmp_path, "memory": "2GiB"}), good) == ([], [])


def test_flag_over_environment_over_file_over_default(small: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('shard_size = "8KiB"\nworkers = 1\n')
    shown = json.loads(mmflow("inspect", small, "--json", "--config", config).stdout)
    assert shown["shard_size"] == 8192
    shown = json.loads(
        mmflow("inspect", small, "--json", "--config", config, MMFLOW_SHARD_SIZE="16KiB").stdout
    )
    assert shown["shard_size"] == 16384
    flags = ("inspect", small, "--json", "--config", config, "--shard-size", "32KiB")
    assert json.loads(mmflow(*flags, MMFLOW_SHARD_SIZE="16KiB").stdout)["shard_size"] == 32768
    config.write_text("shard_sise = 1\n")
    assert "did you mean 'shard_size'" in mmflow("inspect", small, "--config", config, code=2).stderr
    assert "workers" in mmflow("inspect", small, "--workers", "many", code=2).stderr


def test_local_toml_names_every_key_with_its_default() -> None:
    text = (ROOT / "configs" / "local.toml").read_text()
    keys = re.findall(r"^# (\w+) = ", text, re.MULTILINE)
    assert keys == [f.name for f in dataclasses.fields(Settings)]
    assert Settings.load(file=ROOT / "configs" / "local.toml", env={}) == Settings.load(env={})
    # Uncommented, every line is a value that loads.
    live = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    path = ROOT / ".cache" / "local-live.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(live)
    loaded = Settings.load(file=path, env={})
    defaults = Settings.load(env={})
    for key in ("engine", "address", "shard_size", "io", "partitions", "broadcast", "retries"):
        assert getattr(loaded, key) == getattr(defaults, key)


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_settings_of_clusters_are_right(engine: str) -> None:
    assert Settings.load(file=ROOT / "configs" / f"{engine}.toml", env={}).engine == engine


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "jobs/pricing_summary.py", "--sorce", "x"), "did you mean --source"),
        (("run", "jobs/pricing_summary.py"), "missing option --source"),
        (("run", "jobs/pricing_summary.py", "--source", "x", "--delta", "ten"), "--delta must be an integer, not 'ten'"),
        (("run", "jobs/pricing_sumary.py"), "pricing_summary.py"),
        (("sql", "SELECT 1", "--opt", "t.header=false"), "--table"),
        (("sql", "SELECT $d", "--param", "d=2024-13-01"), "quote it if it is text"),
        (("sql", "SELECT $d", "--param", "e=1"), "$d of the query has no value: give --param d=VALUE"),
        (("sql", "SELECT 1", "--format", "xml"), "table, csv, json"),
        (("sql", "SELECT 1", "--io", "mmmap"), "did you mean mmap?"),
        (("sql", "SELECT 1", "--engine", "spark"), "local, ray or dask"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    done = mmflow(*arguments, code=2)
    assert words in done.stderr
    assert done.stdout == ""


def test_named_sources_and_parameters_of_jobs(small: Path, tmp_path: Path) -> None:
    config, job = tmp_path / "c.toml", tmp_path / "job.toml"
    config.write_text(f"workers = 1\n[sources.small]\npath = '{small}'\n")
    job.write_text(
        "sql = 'SELECT sum(v) AS s FROM small WHERE k = $k AND v > $least'\n"
        "[params.k]\n[params.least]\ntype = 'integer'\ndefault = 0\n"
    )
    assert mmflow("sql", "SELECT count(*) AS n FROM small", "--config", config).stdout.split() == ["n", "3"]
    arguments = ("--k", "a", "--config", config, "--runs-dir", tmp_path / "runs")
    done = mmflow("run", job, *arguments, "--output", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().split() == ["s", "4"]
    name = done.stderr.split()[1]
    facts = json.loads((tmp_path / "runs" / name / "run.json").read_text())
    assert facts["named_sources"] == {"small": {"path": str(small)}}
    submit = command_line().command_of("submit")
    assert isinstance(submit, Command)
    options = submit.options_of([str(job), *map(str, arguments)])
    submitted = submission_of(options, Settings.load(file=config), "r", None, resumes=False)
    assert f"--sources={json.dumps(facts['named_sources'])}" in submitted.arguments


def test_explain_and_profile_are_plain_text(small: Path) -> None:
    query = f"SELECT k, sum(v) AS s FROM '{small}' GROUP BY k ORDER BY k"
    explained = mmflow("sql", f"EXPLAIN {query}").stdout
    assert explained == mmflow("explain", query).stdout
    profiled = mmflow("sql", "--profile", query)
    assert profiled.stdout.split() == ["k,s", "a,4", "b,2"]
    assert "in      3 rows" in profiled.stderr
    assert "run of" in mmflow("sql", f"EXPLAIN ANALYZE {query}").stdout


def test_formats_of_stdout(small: Path) -> None:
    query = f"SELECT * FROM '{small}'"
    assert mmflow("sql", query).stdout.replace('"', "").splitlines() == ["k,v", "a,1", "b,2", "a,3"]
    assert json.loads(mmflow("sql", query, "--format", "json").stdout)[1] == {"k": "b", "v": 2}
    assert "(3 rows)" in mmflow("sql", query, "--format", "table").stdout
    done = subprocess.run([MMFLOW, "sql", query, "--format", "arrow"], capture_output=True, check=True)
    assert duckdb.sql("SELECT 1").fetchall()  # the stream is read by pyarrow
    import pyarrow as pa

    assert pa.ipc.open_stream(done.stdout).read_all().num_rows == 3


def test_help_names_every_command() -> None:
    text = mmflow("--help").stdout
    for command in ("sql", "run", "inspect", "explain", "doctor"):
        assert command in text
    assert "--source" in mmflow("run", "jobs/pricing_summary.py", "--help").stdout


def test_jobs_from_python_and_toml_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "j.py"
    path.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="found: none"):
        load_job(str(path))
    toml = tmp_path / "j.toml"
    toml.write_text("[sorce]\npath = 'x'\n")
    with pytest.raises(ConfigError, match="did you mean 'source'"):
        load_job(str(toml))
    toml.write_text("[source]\npath = '${nope}'\n")
    with pytest.raises(ConfigError, match="nope"):
        load_job(str(toml)).build(None)
