"""The tree of commands: names, arguments, options, help. A command is made when it is used."""

from __future__ import annotations

from collections.abc import Callable

import click

from mmflow.cli.parameters import (
    BACKENDS,
    CONFIG,
    JSON,
    JSON_ROWS,
    RUNS_DIR,
    SETTINGS,
    TABLES,
    format_option,
    job_options,
    output_options,
)
from mmflow.cli.parsing import Argument, Choice, Command, Count, FilePath, Group, Option, RunName
from mmflow.distribution import VERSION

__all__ = ["COMPLETION_VARIABLE", "command_line"]

#: Environment variable by which the script of a shell asks for completions.
COMPLETION_VARIABLE = "_MMFLOW_COMPLETE"

#: Summaries of the commands, by topic.
_TOPICS = {
    "Look at files": {
        "head": "show the first rows of a file",
        "tail": "show the last rows of a file",
        "take": "show rows of a file by their number",
        "inspect": "show the format, schema and shards of files",
    },
    "Query files": {
        "sql": "run a query over files",
        "shell": "run queries one after the other",
        "explain": "show the plan of a query or job",
    },
    "Run jobs": {
        "run": "run a job",
        "submit": "run a job in the background, or on a cluster",
        "k8s": "print Kubernetes manifests",
    },
    "Follow runs": {
        "list": "list the recorded runs, the newest first",
        "status": "show the status of a run",
        "logs": "show the output of a run",
        "cancel": "stop a run; it can be resumed",
        "clean": "remove ended runs",
        "quarantine": "show bad records in the quarantine of a run",
    },
    "Set up": {
        "doctor": "check limits, file systems and engines",
        "cache": "show, clear or check what is kept of files",
        "completion": "print the script that makes a shell complete commands",
    },
}
_JOB_HELP = "a .py file with an @mf.job function, or a .toml file"
_RUN = Argument("run", type=RunName(), help="name of the run, or its beginning")
# Without a long name, which may be that of a parameter of a job.
_FILE = Option("-f", "file", type=FilePath(), metavar="FILE", help="file that holds the query")
_FORMAT_OPTION = Option(
    "--opt", multiple=True, metavar="key=value",
    help="option of the format: delimiter, header, schema, …, lists as JSON; may be repeated",
)  # fmt: skip


def command_line() -> Group:
    """Return the command `mmflow`."""
    return Group(
        "mmflow",
        help="Columnar jobs over files too large to load.",
        topics=_TOPICS,
        build=lambda name: _BUILDERS[name](),
        params=[
            Option("--traceback", is_flag=True, help="print the Python traceback of an error, too"),
            Option(
                "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
                help="print the version",
            ),
        ],
        examples=[
            "mmflow sql \"SELECT host, count(*) AS n FROM 'access.csv' GROUP BY host\"",
            "mmflow run jobs/pricing_summary.py --source lineitem.csv --output out/",
            "mmflow inspect lineitem.csv",
            "mmflow take lineitem.csv 5 17 1000000",
        ],
        epilog="Exit codes: 0 done; 1 the query or job is wrong or failed, or its output can't be written; 2 wrong "
        "usage of options, arguments or settings; 130 interrupted. Data goes to stdout, all else to stderr.",
    )  # fmt: skip


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    if value and not ctx.resilient_parsing:
        print(f"mmflow {VERSION}")
        ctx.exit()


# ---- files -----------------------------------------------------------------------------------------


def _row_command(
    name: str, text: str, *params: click.Parameter, examples: list[str], extra: str = ""
) -> Command:
    return Command(
        name, f"mmflow.cli.rows:{name}",
        help=f"Show {text}, and read no more than they need. An index of the rows of text is written beside the file "
        "(see docs/random-access.md).",
        params=[
            Argument("path", type=FilePath(), help="a file, glob, folder or URL"),
            *params,
            Option(
                "--columns", multiple=True, metavar="NAME,NAME",
                help="only these columns; also _file, _offset, _line",
            ),
            _FORMAT_OPTION,
            JSON_ROWS,
            *output_options(),
            *SETTINGS,
        ],
        examples=examples,
        extra=extra,
    )  # fmt: skip


def _count_option() -> Option:
    return Option("-n", "count", type=Count(), metavar="N", default=10, help="number of rows")


def _head() -> Command:
    return _row_command(
        "head", "the first rows of a file", _count_option(),
        examples=["mmflow head lineitem.csv", "mmflow head access.csv -n 3 --columns host,status --opt delimiter=';'"],
    )  # fmt: skip


def _tail() -> Command:
    return _row_command(
        "tail", "the last rows of a file", _count_option(), examples=["mmflow tail access.log -n 20"]
    )


def _take() -> Command:
    rows = Argument(
        "rows", nargs=-1, required=True, metavar="ROW...",
        help="a number from 0, or from the end from -1; a range as 10:20 or -5:; @FILE reads them from a file, "
        "- from stdin",
    )  # fmt: skip
    return _row_command(
        "take", "rows of a file by their number", rows, extra=r"-[0-9]+(:(-?[0-9]+)?)?",
        examples=["mmflow take lineitem.csv 5 17 -1", "mmflow take lineitem.csv 0:1000 --format arrow > part.arrows"],
    )  # fmt: skip


def _inspect() -> Command:
    return Command(
        "inspect", "mmflow.cli.inspect:inspect",
        help="Show the format, schema, shards and access of files, without reading them.",
        params=[
            Argument("path", type=FilePath(), help="a file, glob, folder or URL"), JSON, _FORMAT_OPTION, *SETTINGS
        ],
        examples=["mmflow inspect lineitem.csv", "mmflow inspect 'logs/*.csv' --opt header=false"],
    )  # fmt: skip


# ---- queries ---------------------------------------------------------------------------------------


def _sql() -> Command:
    return Command(
        "sql", "mmflow.cli.query:sql",
        help="Run a SELECT over files.",
        params=[
            Argument(
                "query", required=False,
                help="SQL; its tables are files, FROM 'path', or named with --table; - reads it from stdin",
            ),
            _FILE,
            Option("--profile", is_flag=True, help="print what each stage read, gave and took, on stderr"),
            JSON_ROWS,
            *output_options(),
            *TABLES,
            *SETTINGS,
        ],
        examples=[
            "mmflow sql \"SELECT count(*) FROM 'lineitem.csv'\"",
            "mmflow sql 'SELECT * FROM t WHERE v > $least' --table t=a.csv --param least=5",
            "mmflow sql -f daily.sql --param day=2026-11-30 --format ndjson | gzip > day.gz",
        ],
        instead=("file",),
        takes_stdin=True,
    )  # fmt: skip


def _shell() -> Command:
    return Command(
        "shell", "mmflow.cli.shell.shell:shell",
        help="Run queries one after the other, with history and completion. Statements end with ; and .help lists "
        "commands. Where standard input is no terminal, its statements are run up to the first that fails.",
        params=[
            Argument(
                "files", nargs=-1, type=FilePath(), metavar="[FILE]...",
                help="files, globs, folders or URLs: tables of the name that they have without suffixes",
            ),
            JSON_ROWS,
            *TABLES,
            *SETTINGS,
        ],
        examples=[
            "mmflow shell lineitem.csv 'logs/*.csv' --table t=access.log",
            "mmflow shell < daily.sql",
        ],
    )  # fmt: skip


def _explain() -> Command:
    return Command(
        "explain", "mmflow.cli.query:explain",
        help="Show the stages and exchanges of a query or job.",
        params=[
            Argument(
                "query", type=FilePath(), required=False,
                help="SQL, or a job's file, whose parameters follow as --name value; - reads SQL from stdin",
            ),
            _FILE,
            JSON,
            *TABLES,
            *SETTINGS,
        ],
        examples=[
            "mmflow explain \"SELECT k, sum(v) FROM 'a.csv' GROUP BY k\"",
            "mmflow explain jobs/pricing_summary.py --source lineitem.csv",
        ],
        job="query",
        instead=("file",),
        takes_stdin=True,
    )  # fmt: skip


# ---- jobs ------------------------------------------------------------------------------------------


def _job_argument(*, required: bool = False) -> Argument:
    return Argument(
        "job", type=FilePath(), required=required, help=f"{_JOB_HELP}; its parameters follow as --name value"
    )


def _run() -> Command:
    return Command(
        "run", "mmflow.cli.run:run",
        help="Run a job, or resume a run of one. `mmflow run JOB --help` lists the parameters of the job.",
        params=[
            _job_argument(),
            Option("-h", "--help", is_flag=True, help="show this page, or the parameters of the job"),
            *job_options(),
        ],
        examples=[
            "mmflow run jobs/pricing_summary.py --source lineitem.csv --output out/",
            "mmflow run --resume 3f9a",
        ],
        job="job",
        instead=("resume", "help"),
        add_help_option=False,
    )  # fmt: skip


def _submit() -> Command:
    return Command(
        "submit", "mmflow.cli.runs:submit",
        help="Submit a job to a process, or a cluster, that outlives this shell; print the run's name.",
        params=[
            _job_argument(),
            Option(
                "--on", type=Choice(BACKENDS), default_text="kubernetes with a [kubernetes] table in --config, "
                "ray with --engine ray and an address, else local",
                help="where the run goes",
            ),
            *job_options(),
        ],
        examples=["mmflow submit jobs/top_errors.py --source access.log --output errors/"],
        job="job",
        instead=("resume",),
    )  # fmt: skip


def _k8s() -> Group:
    def render() -> Command:
        return Command(
            "render", "mmflow.cli.kubernetes:render",
            help="Print what `mmflow submit` would create, as YAML: for kubectl apply, and for GitOps.",
            params=[_job_argument(required=True), *job_options()],
            examples=["mmflow k8s render jobs/convert.toml --config configs/k8s.toml --out s3://b/o"],
            job="job",
        )  # fmt: skip

    return Group(
        "k8s", help="Kubernetes manifests.", topics={"Commands": {"render": "print the manifests of a job"}},
        build=lambda _: render(),
    )  # fmt: skip


# ---- runs ------------------------------------------------------------------------------------------


def _run_command(name: str, help: str, *params: click.Parameter, examples: list[str]) -> Command:
    return Command(
        name, f"mmflow.cli.runs:{name}", help=help, params=[*params, RUNS_DIR, CONFIG], examples=examples
    )


def _list() -> Command:
    return Command(
        "list", "mmflow.cli.listing:list_runs",
        help="List the recorded runs, the newest first, with the room that they take on disk.",
        params=[JSON, RUNS_DIR, CONFIG], examples=["mmflow list"],
    )  # fmt: skip


def _clean() -> Command:
    runs = Argument(
        "runs", nargs=-1, metavar="[RUN]...", type=RunName(), help="names of runs, or their beginnings"
    )
    states = ("done", "failed", "cancelled", "died", "query")
    return Command(
        "clean", "mmflow.cli.listing:clean",
        help="Remove ended runs: those that meet all conditions, or those that are named. A run that is not over is "
        "never removed. query is the state of a query from Python that left bad records.",
        params=[
            runs,
            Option("--older-than", metavar="AGE", help="runs that ended longer ago: 30m, 12h, 7d, 2w"),
            Option("--keep", type=Count(), metavar="N", help="all but the newest N ended runs"),
            Option("--state", type=Choice(states), multiple=True, help="runs in this state; may be repeated"),
            Option("--dry-run", is_flag=True, help="show the runs, and remove nothing"),
            JSON, RUNS_DIR, CONFIG,
        ],
        examples=["mmflow clean --older-than 7d --keep 20 --dry-run", "mmflow clean nightly-2026-11-30"],
    )  # fmt: skip


def _status() -> Command:
    watch = Option("--watch", is_flag=True, help="update until the run has ended")
    return _run_command(
        "status", "Show the status of a run. The exit code is 1 if it failed, was cancelled or died.",
        _RUN, watch, JSON, examples=["mmflow status 3f9a --watch"],
    )  # fmt: skip


def _logs() -> Command:
    follow = Option("-f", "--follow", is_flag=True, help="continue until the run has ended")
    return _run_command(
        "logs",
        "Show the output of a run. With --json: its events, one on each line.",
        _RUN,
        follow,
        JSON,
        examples=["mmflow logs 3f9a -f"],
    )


def _cancel() -> Command:
    return _run_command(
        "cancel", "Stop a run; it can be resumed.", _RUN, JSON, examples=["mmflow cancel 3f9a"]
    )


def _quarantine() -> Group:
    def show() -> Command:
        limit = Option(
            "--limit",
            type=Count(),
            metavar="N",
            help="largest number of records",
            default_text="1000 in a table",
        )
        return Command(
            "show", "mmflow.cli.runs:quarantine", help="Print the bad records in the quarantine of a run.",
            params=[_RUN, limit, JSON_ROWS, format_option(), RUNS_DIR, CONFIG],
            examples=["mmflow quarantine show 3f9a --limit 20"],
        )  # fmt: skip

    return Group(
        "quarantine", help="Bad records in the quarantine of a run.", topics={"Commands": {"show": "print them"}},
        build=lambda _: show(),
    )  # fmt: skip


# ---- set up ----------------------------------------------------------------------------------------


def _doctor() -> Command:
    return Command(
        "doctor", "mmflow.cli.doctor:doctor",
        help="Check this machine, and the cluster.",
        params=[JSON, *SETTINGS],
        examples=["mmflow doctor", "mmflow doctor --engine ray --address auto"],
    )  # fmt: skip


def _cache() -> Group:
    helps = {
        "show": "show what is kept of which files",
        "clear": "remove all that no process uses",
        "verify": "compare entries with their checksums and files",
    }
    texts = {
        "show": "Show what the cache keeps of which files: columns of text, and checkpoints of compressed files.",
        "clear": "Remove all entries of the cache that no process uses now. Later queries read the files again.",
        "verify": "Compare all entries of the cache with their checksums and their files, and remove those that are "
        "damaged, stale or unfinished.",
    }

    def one(name: str) -> Command:
        return Command(
            name, f"mmflow.cli.cache:{name}", help=texts[name], params=[JSON, *SETTINGS],
            examples=[f"mmflow cache {name}"],
        )  # fmt: skip

    return Group(
        "cache", help="What is kept of files between queries.", topics={"Commands": helps}, build=one
    )


def _completion() -> Command:
    return Command(
        "completion", "mmflow.cli.completion:completion",
        help="Print the script that makes a shell complete commands, options, choices, files and runs. "
        "Load it in the shell's startup file.",
        params=[
            Argument("shell", type=Choice(("bash", "zsh", "fish")), metavar="SHELL", help="bash, zsh or fish"), JSON,
        ],
        examples=[
            "mmflow completion bash > ~/.local/share/bash-completion/completions/mmflow",
            "mmflow completion zsh > ~/.zfunc/_mmflow     # a folder in $fpath",
            "mmflow completion fish > ~/.config/fish/completions/mmflow.fish",
        ],
        light=True,
    )  # fmt: skip


_BUILDERS: dict[str, Callable[[], click.Command]] = {
    "head": _head,
    "tail": _tail,
    "take": _take,
    "inspect": _inspect,
    "sql": _sql,
    "shell": _shell,
    "explain": _explain,
    "run": _run,
    "submit": _submit,
    "k8s": _k8s,
    "list": _list,
    "clean": _clean,
    "status": _status,
    "logs": _logs,
    "cancel": _cancel,
    "quarantine": _quarantine,
    "doctor": _doctor,
    "cache": _cache,
    "completion": _completion,
}
