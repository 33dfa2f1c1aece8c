"""Mistakes in files behind a URL: data/sources/remote.py, row_groups.py."""

from tests.mutants.kinds import Mutant, one
from tests.support.mutation import replace, returns

MUTANTS: tuple[Mutant, ...] = (
    one(
        "a range behind a URL ends a byte early",
        "data.sources.remote:RemotePath.read",
        replace("offset + size", "offset + size - 1"),
        "tests/test_remote.py::test_images_behind_a_url_are_those_on_disk",
    ),
    one(
        "an object that was written anew keeps its index",
        "data.sources.remote:RemotePath.stat",
        returns("__value._replace(st_mtime_ns=0)"),
        "tests/test_remote.py::test_an_index_of_a_remote_shard_is_kept_on_disk_until_the_object_changes",
    ),
    one(
        "a password in a URL is printed",
        "data.sources.remote:RemotePath.__str__",
        returns("self.url"),
        "tests/test_remote.py::test_a_root_that_is_none",
    ),
    one(
        "a missing object is asked for three times",
        "data.sources.remote:RemotePath.read",
        replace("(FileNotFoundError, PermissionError)", "PermissionError"),
        "tests/test_remote.py::test_what_a_file_system_raises_sets_the_image_aside_by_name",
    ),
    one(
        "a row group begins where it ends",
        "data.sources.row_groups:RowGroups.__getitem__",
        replace("'right'", "'left'"),
        "tests/test_remote.py::test_row_groups_are_the_rows_of_all_files_in_any_order",
    ),
    one(
        "all row groups stay in memory",
        "data.sources.row_groups:RowGroups._group",
        replace("len(self.kept) > 1", "False"),
        "tests/test_remote.py::test_row_groups_are_the_rows_of_all_files_in_any_order",
    ),
)
