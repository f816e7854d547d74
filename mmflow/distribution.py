"""Distribution that this package is installed from: its name, its version, and commands that install it.

The package is called mmflow, the distribution is not: on PyPI that name belongs to a toolbox for optical flow.
`mmflow_engine` says what is wrong where both are installed.
"""

from __future__ import annotations

__all__ = ["NAME", "VERSION", "install_command"]

NAME = "mmflow-engine"

#: The version of everything here: pyproject.toml reads it from this line.
VERSION = "0.1.0"


def install_command(*extras: str) -> str:
    """Return the command that installs mmflow with some extras.

    >>> install_command("ray")
    "pip install 'mmflow-engine[ray]'"
    >>> install_command()
    'pip install mmflow-engine'
    """
    return f"pip install '{NAME}[{','.join(extras)}]'" if extras else f"pip install {NAME}"
