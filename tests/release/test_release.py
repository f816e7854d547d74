"""The distribution: its name and version, the wheel, and what is said where packages are missing or another mmflow is installed."""

import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import mmflow as mf
import mmflow.cli.runs
import mmflow_engine
from mmflow.api.diagnostics import diagnose
from mmflow.cli.main import main
from mmflow.config import Settings
from mmflow.distribution import NAME, VERSION
from mmflow.engines.opening import open_engine
from mmflow.engines.versions import check_same, versions
from mmflow.errors import EngineError
from mmflow.runs.metrics import open_metrics
from mmflow.storage.object_store import open_store
from mmflow.submit.base import open_backend
from mmflow.submit.kubernetes.yaml import as_yaml
from release.make_wheel import NEEDED

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.unit
def test_name_is_one() -> None:
    assert PROJECT["project"]["name"] == NAME == mmflow_engine.__name__.replace("_", "-")
    texts = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "k8s").rglob("*"),
    ]
    texts += (ROOT / "mmflow").rglob("*.py")
    others = [
        str(p) for p in texts if p.is_file() and re.search(r"pip install '?mmflow(?!-engine)", p.read_text())
    ]
    assert not others, f"{others} name OpenMMLab's distribution"


@pytest.mark.unit
def test_documentation_lists_the_extras() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", (ROOT / "docs/install.md").read_text(), re.MULTILINE)
    listed = {extra: re.findall(r"`([\w-]+)", packages) for extra, packages in rows}
    extras = PROJECT["project"]["optional-dependencies"]
    packages = {extra: [re.split(r"[\[><=]", p)[0] for p in needed] for extra, needed in extras.items()}
    assert listed == {e: p for e, p in packages.items() if e not in ("all", "demo", "test", "bench")} | {
        "all": []
    }
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything.partition("[")[2])) == listed.keys() - {"all"}


@pytest.mark.unit
def test_version_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmflow {VERSION}\n"
    assert mf.__version__ == versions()["mmflow"] == VERSION
    (provider,) = PROJECT["tool"]["dynamic-metadata"]
    assert PROJECT["project"]["dynamic"] == [provider["field"]] == ["version"]
    assert f'VERSION = "{VERSION}"' in (ROOT / provider["input"]).read_text()
    files = [p for f in ("k8s", "configs", "docs") for p in (ROOT / f).rglob("*") if p.is_file()]
    tags = {(p, t) for p in files for t in re.findall(r"\bmmflow:(\d[\w.]*\d)|newTag: (\S+)", p.read_text())}
    assert len(tags) > 8
    assert {"".join(tag) for _, tag in tags} == {VERSION}, tags


_MISSING: list[tuple[str, str, Callable[[], object]]] = [
    ("ray", "ray", lambda: open_engine(Settings.load({"engine": "ray"}), "run")),
    ("ray", "ray", lambda: open_backend("ray")),
    ("dask", "distributed", lambda: open_engine(Settings.load({"engine": "dask"}), "run")),
    ("s3", "s3fs", lambda: open_store("s3://bucket/a.csv")),
    ("http", "aiohttp", lambda: open_store("https://example.org/a.csv")),
    ("kubernetes", "kubernetes", lambda: open_backend("kubernetes")),
    ("kubernetes", "yaml", lambda: as_yaml([])),
    ("metrics", "prometheus_client", lambda: open_metrics("9105", {})),
]


@pytest.mark.unit
@pytest.mark.parametrize(("extra", "package", "use"), _MISSING, ids=[f"{e}-{p}" for e, p, _ in _MISSING])
def test_missing_package_names_its_extra(
    extra: str, package: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    users = (
        "mmflow.engines.ray",
        "mmflow.engines.dask",
        "mmflow.submit.ray_jobs",
        "mmflow.submit.kubernetes",
    )
    for module in [
        m for m in sys.modules if m.startswith((*users, "fsspec.implementations.http", f"{package}."))
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # as if it could not be found
    with pytest.raises(mf.ConfigError) as raised:
        use()
    assert f"pip install '{NAME}[{extra}]'" in str(raised.value)
    assert extra in PROJECT["project"]["optional-dependencies"]


@pytest.mark.unit
def test_other_versions_are_mended_by_a_command_that_installs_ours() -> None:
    here = {"Python": "3.11", "mmflow": "0.1.0", "pyarrow": "26.0.1"}
    with pytest.raises(EngineError, match=rf"on w1: pip install {NAME}==0\.1\.0 pyarrow==26\.0\.1$"):
        check_same({"Python": "3.11", "mmflow": "0.0.9"}, "w1", here)
    with pytest.raises(
        EngineError, match=r"Python is 3\.11 here and 3\.12 on w1: install the same version on both$"
    ):
        check_same({**here, "Python": "3.12"}, "w1", here)


# ---- OpenMMLab's mmflow --------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages: mmflow and its command."""
    (tmp_path / "mmflow").mkdir()
    for path in (ROOT / "mmflow").iterdir():
        (tmp_path / "mmflow" / path.name).symlink_to(path)
    (tmp_path / "mmflow_engine").symlink_to(ROOT / "mmflow_engine")
    return tmp_path


def _install_other(site: Path, init: str) -> None:
    """Lay the files of mmflow 0.5.2 that matter here, as pip does, over ours."""
    (site / "mmflow" / "__init__.py").unlink()
    (site / "mmflow" / "__init__.py").write_text(init)
    info = site / "mmflow-0.5.2.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: mmflow\nVersion: 0.5.2\nSummary: OpenMMLab Optical flow Toolbox and Benchmark\n"
    )
    info.joinpath("RECORD").write_text("mmflow/__init__.py,,\nmmflow/apis/inference.py,,\n")


def _command(site: Path) -> tuple[int, str]:
    # -S: without the editable installation. click lies where packages are installed.
    folders = [str(site), sysconfig.get_path("purelib")]
    script = f"import sys; sys.path[:0] = {folders}; import mmflow_engine; sys.exit(mmflow_engine.main())"
    command = [sys.executable, "-S", "-c", script, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=site)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "init", ["import mmcv\n", "__version__ = '0.5.2'\n"], ids=["without mmcv", "with mmcv"]
)
def test_command_says_that_another_distribution_overwrote_the_package(site: Path, init: str) -> None:
    assert _command(site) == (0, f"mmflow {VERSION}\n")
    _install_other(site, init)
    code, printed = _command(site)
    assert code == 1
    assert printed.startswith(
        "error: mmflow 0.5.2 (OpenMMLab Optical flow Toolbox and Benchmark) and mmflow-engine overwrite"
    )
    assert printed.endswith(f"pip uninstall -y mmflow {NAME} && pip install {NAME}\n")


def test_command_says_that_the_package_lost_its_first_file(site: Path) -> None:
    (site / "mmflow" / "__init__.py").unlink()
    code, printed = _command(site)
    assert code == 1
    assert printed.startswith(
        f"error: {site}/mmflow/__init__.py is missing, as it is after another distribution was"
    )
    assert printed.endswith(f"pip install --force-reinstall --no-deps {NAME}\n")


def test_command_hides_no_other_error(site: Path) -> None:
    (site / "mmflow" / "errors.py").unlink()
    code, printed = _command(site)
    assert code == 1
    assert printed.endswith("ModuleNotFoundError: No module named 'mmflow.errors'\n")


@pytest.mark.unit
def test_doctor_warns_of_the_other_distribution(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("OpenMMLab" in w for w in diagnose(Settings.load())["warnings"])
    _install_other(site, "")
    monkeypatch.syspath_prepend(str(site))
    assert any(
        "OpenMMLab" in w and "keep one: pip uninstall" in w for w in diagnose(Settings.load())["warnings"]
    )


# ---- the wheel -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")
def test_wheel_is_complete_and_runs_in_an_empty_environment(tmp_path: Path) -> None:
    """Try it; 10 s of processor time where the kernels are compiled, as they are by `make`, and 40 s where not."""
    sys.path.insert(0, str(ROOT / "release"))
    try:
        make_wheel, smoke = import_module("make_wheel"), import_module("smoke")
    finally:
        sys.path.pop(0)
    wheel = make_wheel.make(tmp_path / "dist")
    assert re.fullmatch(rf"mmflow_engine-{re.escape(VERSION)}-cp3\d+-cp3\d+-manylinux\S+\.whl", wheel.name)
    assert make_wheel.check(wheel) == []
    assert wheel.stat().st_size < 3 << 20
    (tmp_path / "elsewhere").mkdir()
    assert f"mmflow {VERSION}: a query takes" in smoke.smoke(wheel, tmp_path / "elsewhere")


def test_the_check_of_a_wheel_knows_each_file_of_the_package() -> None:
    left_out = {pattern.removeprefix("*") for pattern in PROJECT["tool"]["scikit-build"]["wheel"]["exclude"]}
    tracked = subprocess.check_output(
        ["git", "ls-files", "mmflow", "mmflow_engine"], cwd=ROOT, text=True
    ).splitlines()
    others = {name for name in tracked if Path(name).suffix not in {".py", *left_out}}
    assert others | {"mmflow_engine/__init__.py"} == {*NEEDED}
