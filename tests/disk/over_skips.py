"""Tests that can't hold over the disk of tests/disk, each with its reason; all others must (`tests.disk.over`)."""

from __future__ import annotations

import pytest

__all__ = ["SKIPPED", "pytest_collection_modifyitems"]

_READ = "files of FUSE are read, never mapped: a lost server would be a fatal signal"
_FORGOTTEN = "the kernel drops the pages of a FUSE file when it is opened"

#: Reason by file and function.
SKIPPED = {
    "tests/arrays/test_arrays_owners.py::test_a_file_that_was_cut_short_and_grew_back_is_an_error_at_close": _READ,
    "tests/mapping/test_mapping_file.py::test_mapped_pages_are_file_backed_not_anonymous": _READ,
    "tests/mapping/test_mapping_reclaim.py::"
    "test_a_scan_of_files_that_fit_one_by_one_never_hits_the_limit_of_its_container": _FORGOTTEN,
    "tests/mapping/test_mapping_systems.py::test_any_range_reads_the_same": _READ,
    "tests/mapping/test_mapping_systems.py::test_views_outlive_file_and_then_release_everything": _READ,
    "tests/mapping/test_mapping_window.py::test_no_mapping_nor_descriptor_leaks": _READ,
    "tests/mapping/test_mapping_window.py::test_no_mappings_left_falls_back_to_pread": _READ,
    "tests/mapping/test_mapping_window.py::test_truncation_under_a_live_window_is_noticed_and_survived": _READ,
    "tests/mapping/test_mapping_window.py::test_guard_stays_above_later_handlers": _READ,
    "tests/remote/test_remote_cache.py::test_a_file_larger_than_the_cache_is_read_in_its_bound": _READ,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them, with the reason."""
    for item in items:
        reason = SKIPPED.get(item.nodeid.partition("[")[0])
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
