"""Manifests as YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmflow.distribution import install_command
from mmflow.errors import ConfigError

__all__ = ["as_yaml"]


def as_yaml(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Return manifests as the documents of a YAML stream.

    Raises:
        ConfigError: PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415  (optional, and only for this)
    except ImportError as error:
        raise ConfigError(
            f"YAML needs a package: {install_command('kubernetes')} ({error})", code="MMF-CFG-002"
        ) from error

    class Dumper(yaml.SafeDumper):
        """Dumper without anchors, and with multi-line text as block scalars."""

        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump_all(
        [dict(m) for m in manifests], Dumper=Dumper, sort_keys=False, explicit_start=True, width=110
    )
