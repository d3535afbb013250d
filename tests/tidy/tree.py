"""The files a check looks at, and what a check reports."""

import dataclasses
import functools
import os
import subprocess

CXX_SUFFIXES = (".h", ".cc", ".cuh", ".cu")
HEADER_SUFFIXES = (".h", ".cuh")
SOURCE_SUFFIXES = (".cc", ".cu")


@dataclasses.dataclass(frozen=True, order=True)
class Violation:
    path: str
    line: int  # 0: the file as a whole
    rule: str
    message: str

    def __str__(self):
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.rule}: {self.message}"


class Tree:
    """Files that git tracks or would track, relative to the root, with cached contents.

    A folder that is no git repository (a source archive, the tests of this program) is walked."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.files = sorted(self._list())
        self._file_set = frozenset(self.files)
        self._folders = frozenset(
            folder for path in self.files for folder in _parents(path)
        )

    def _list(self):
        if os.path.exists(os.path.join(self.root, ".git")):
            listing = subprocess.run(
                ["git", "-c", "safe.directory=*", "-C", self.root, "ls-files", "-z"]
                + ["--cached", "--others", "--exclude-standard"],
                check=True, capture_output=True, text=True,
            ).stdout
            paths = [path for path in listing.split("\0") if path]
            return [path for path in set(paths) if os.path.isfile(self.absolute(path))]
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [f for f in folders if f not in (".git", "build", "__pycache__")]
            for name in names:
                found.append(os.path.relpath(os.path.join(folder, name), self.root))
        return found

    def absolute(self, path):
        return os.path.join(self.root, path)

    def has_file(self, path):
        return path in self._file_set

    def has(self, path):
        return path in self._file_set or path in self._folders

    def under(self, *suffixes):
        return [path for path in self.files if path.endswith(suffixes)]

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        with open(self.absolute(path), encoding="utf-8", errors="replace") as file:
            return file.read()

    @functools.lru_cache(maxsize=None)
    def lines(self, path):
        return self.text(path).splitlines()

    def cmake_files(self):
        return [path for path in self.files if os.path.basename(path) == "CMakeLists.txt"]


def _parents(path):
    folder = os.path.dirname(path)
    while folder:
        yield folder
        folder = os.path.dirname(folder)
