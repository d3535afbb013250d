"""Checks of the C++ and CUDA sources: who includes whom, sizes, headers, formatting."""

import os
import re
import shutil
import subprocess

import cxx_text
from tree import CXX_SUFFIXES, HEADER_SUFFIXES, SOURCE_SUFFIXES, Violation

# Which folders a folder may include; the longest prefix counts. This is the dependency diagram:
# coordinator -> parallel/{base,wire} <- worker -> parallel -> kernels.
MAY_INCLUDE = {
    "kernels": ("kernels",),
    "parallel/base": ("parallel/base",),
    "parallel/wire": ("parallel/base", "parallel/wire"),
    "parallel": ("parallel", "kernels"),
    "worker": ("worker", "parallel", "kernels"),
    "coordinator": ("coordinator", "parallel/base", "parallel/wire"),
    "bench": ("",),
    "deploy": ("",),
    "tests": ("",),
}
MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70
# A test case reads top to bottom; a kernel is cut into stages, each of which may be this long.
MAX_TEST_FUNCTION_LINES = 120
MAX_KERNEL_LINES = 150
# Other versions format differently; this one is Debian 12's.
CLANG_FORMAT_MAJOR = 14

_INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def _longest_prefix(path):
    fitting = [p for p in MAY_INCLUDE if path.startswith(p + "/")]
    return max(fitting, key=len, default=None)


def check_includes(tree):
    for path in tree.under(*CXX_SUFFIXES):
        folder = _longest_prefix(path)
        if folder is None:
            yield Violation(path, 0, "includes", "source outside the known folders")
            continue
        for number, line in enumerate(tree.lines(path), 1):
            match = _INCLUDE.match(line)
            if match:
                yield from _check_include(tree, path, number, folder, match)


def check_own_header(tree):
    """A source includes its own header first: so every build compiles that header alone."""
    for path in tree.under(*SOURCE_SUFFIXES):
        header = os.path.splitext(path)[0] + ".h"
        if not tree.has_file(header):
            continue
        first = next((m for m in map(_INCLUDE.match, tree.lines(path)) if m), None)
        if first is None or first.group(2) != header:
            yield Violation(path, 0, "own_header", f"the first include is not {header}")


def _check_include(tree, path, number, folder, match):
    quote, target = match.groups()
    ours = any(target.startswith(f"{top.split('/')[0]}/") for top in MAY_INCLUDE)
    if quote == "<":
        if ours and tree.has_file(target):
            yield Violation(path, number, "includes", f"<{target}> is ours: use quotes")
        return
    generated = target.endswith(".pb.h")
    if not tree.has_file(target) and not generated:
        yield Violation(path, number, "includes",
                        f'"{target}" is no file of the tree (paths start at the root)')
        return
    allowed = MAY_INCLUDE[folder]
    if not any(target.startswith(prefix) for prefix in allowed) and "/" in target:
        yield Violation(path, number, "includes",
                        f"{folder} may not include {target} (only {', '.join(allowed)})")


def check_sizes(tree):
    for path in tree.under(*CXX_SUFFIXES, ".py", ".cmake", "CMakeLists.txt"):
        count = len(tree.lines(path))
        if count > MAX_FILE_LINES:
            yield Violation(path, 0, "size", f"{count} lines, at most {MAX_FILE_LINES}")
    for path in tree.under(*CXX_SUFFIXES):
        limit = MAX_FUNCTION_LINES
        if path.endswith((".cu", ".cuh")):
            limit = MAX_KERNEL_LINES
        elif path.startswith("tests/"):
            limit = MAX_TEST_FUNCTION_LINES
        for line, count, name in cxx_text.functions(tree.text(path)):
            if count > limit:
                yield Violation(path, line, "size", f"{name} has {count} lines, at most {limit}")


def check_headers(tree):
    for path in tree.under(*HEADER_SUFFIXES):
        code = cxx_text.code_only(tree.text(path))
        if not re.search(r"(?m)^#pragma once$", code):
            yield Violation(path, 0, "headers", "no #pragma once")
        for match in re.finditer(r"\busing\s+namespace\b", code):
            yield Violation(path, _line(code, match), "headers", "using namespace in a header")


# Pattern, message. Searched in the code without comments and literals.
_BANNED = (
    (r"\bstd::w?regex\b|\bstd::basic_regex\b", "std::regex recurses on the input's length"),
    (r"#\s*include\s*<(regex|format|expected|iostream)>", "header not used here"),
    (r"\bstd::(cout|cerr)\b", "use base::Logger, or fmt::print for results"),
)


def check_banned(tree):
    for path in tree.under(*CXX_SUFFIXES):
        code = cxx_text.code_only(tree.text(path))
        for pattern, message in _BANNED:
            for match in re.finditer(pattern, code):
                yield Violation(path, _line(code, match), "banned", f"{match.group(0)}: {message}")


def _line(text, match):
    return text.count("\n", 0, match.start()) + 1


def check_registered(tree):
    """Every source is named by a CMakeLists.txt above it (or by its path from the root anywhere), and
    every such file is reached from the root."""
    cmake = "".join(_without_comments(tree, path) for path in tree.cmake_files())
    from_root = set(re.findall(r"\$\{CMAKE_SOURCE_DIR\}/([\w./-]+)", cmake))
    for path in tree.under(*SOURCE_SUFFIXES):
        if path not in from_root and not _named_above(tree, path):
            what = "test" if path.endswith("_test.cc") else "source"
            yield Violation(path, 0, "registered", f"{what} is in no CMakeLists.txt")
    for path in tree.cmake_files():
        folder = os.path.dirname(path)
        if folder and not _reached(tree, folder):
            yield Violation(path, 0, "registered", "no add_subdirectory leads here")


def _named_above(tree, path):
    folder = os.path.dirname(path)
    while True:
        cmake = os.path.join(folder, "CMakeLists.txt")
        if tree.has_file(cmake):
            name = os.path.relpath(path, folder or ".")
            if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.-])", _without_comments(tree, cmake)):
                return True
        if not folder:
            return False
        folder = os.path.dirname(folder)


def _reached(tree, folder):
    parent = os.path.dirname(folder)
    while True:
        cmake = os.path.join(parent, "CMakeLists.txt")
        if tree.has_file(cmake):
            name = os.path.relpath(folder, parent or ".")
            text = _without_comments(tree, cmake)
            return bool(re.search(rf"add_subdirectory\(\s*{re.escape(name)}\s*\)", text))
        if not parent:
            return False
        parent = os.path.dirname(parent)


def _without_comments(tree, path):
    return re.sub(r"(?m)#.*$", "", tree.text(path))


def check_format(tree):
    program = shutil.which("clang-format")
    if program is None:
        return
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)", version)
    if not match or int(match.group(1)) != CLANG_FORMAT_MAJOR:
        return
    paths = tree.under(*CXX_SUFFIXES)
    for first in range(0, len(paths), 64):
        run = subprocess.run(
            [program, "--dry-run", "--style=file", *paths[first:first + 64]],
            cwd=tree.root, capture_output=True, text=True,
        )
        seen = set()
        for match in re.finditer(r"(?m)^(\S+?):(\d+):\d+: warning: code should be", run.stderr):
            path, line = match.group(1), int(match.group(2))
            if path not in seen:
                seen.add(path)
                yield Violation(path, line, "format", "run clang-format -i on it")
