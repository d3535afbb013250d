"""Checks of what is written around the code: READMEs, words, the size of the tree."""

import os
import re

from tree import CXX_SUFFIXES, Violation

MAX_TRACKED_BYTES = 44 * 1024 * 1024
# Folders whose parts each explain themselves in a README.md.
DOCUMENTED = ("kernels/", "parallel/", "worker/", "coordinator/", "deploy/", "bench/")

# First words of commands in READMEs that are not ours.
FOREIGN_COMMANDS = frozenset(
    "apt-get bash cd clang-format cmake ctest curl docker export git kill ls mpirun nvidia-smi pip "
    "ps python3 scontrol sbatch srun source sudo kubectl kubeadm helm cat".split()
)
# Flags in READMEs that belong to those commands.
FOREIGN_FLAGS = frozenset(
    "--preset --build --target --test-dir --host --oversubscribe --bind-to --recursive --label-regex "
    "--output-on-failure --gpus --rm --network --ntasks --nodes --header --data".split()
)
_FENCE = re.compile(r"^```(\w*)\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`]+)`")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
_PATH = re.compile(r"(?:\./)?[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+/?")


def check_readme_links(tree):
    for path in tree.under("README.md"):
        for number, line in enumerate(tree.lines(path), 1):
            for match in _LINK.finditer(_SPAN.sub("", line)):
                target = (match.group(1) or match.group(2)).split("#")[0]
                if not target or re.match(r"[a-z]+:", target):
                    continue
                resolved = os.path.normpath(os.path.join(os.path.dirname(path), target))
                if not tree.has(resolved):
                    yield Violation(path, number, "links", f"{target} does not exist")


def check_readme_names(tree):
    """Paths, programs and flags that a README names in code style exist."""
    flags = _known_flags(tree)
    programs = _programs(tree)
    tops = {p.split("/")[0] for p in tree.files if "/" in p}
    for path in tree.under("README.md"):
        for number, text, language in _code_pieces(tree, path):
            for flag in _FLAG.findall(text):
                if flag not in flags:
                    yield Violation(path, number, "names", f"no program here knows {flag}")
            for name in _PATH.findall(text):
                if not _path_exists(tree, path, name.rstrip("/."), tops, programs):
                    yield Violation(path, number, "names", f"{name} does not exist")
            if language in ("bash", "sh"):
                yield from _check_command(tree, path, number, text, programs)


def _code_pieces(tree, path):
    """(line number, text, language); the language is "span" for inline code."""
    language = None
    for number, line in enumerate(tree.lines(path), 1):
        fence = _FENCE.match(line)
        if fence:
            language = None if language is not None else fence.group(1) or "text"
        elif language in ("bash", "sh"):
            yield number, line, language
        elif language is None:
            for match in _SPAN.finditer(line):
                yield number, match.group(1), "span"


def _known_flags(tree):
    flags = set(FOREIGN_FLAGS)
    for path in tree.files:
        if path.endswith((*CXX_SUFFIXES, ".py")) or _is_script(tree, path):
            flags.update(_FLAG.findall(tree.text(path)))
    return flags


def _is_script(tree, path):
    if "." in os.path.basename(path) or path.startswith("tests/data/"):
        return False
    with open(tree.absolute(path), "rb") as file:
        return file.read(2) == b"#!"


def _programs(tree):
    names = set()
    for path in tree.cmake_files():
        names.update(re.findall(r"add_executable\(\s*([\w-]+)", tree.text(path)))
    return names


def _path_exists(tree, readme, name, tops, programs):
    name = name[2:] if name.startswith("./") else name
    parts = name.split("/")
    if parts[0] == "build":
        return len(parts) < 4 or parts[2] != "bin" or parts[3] in programs
    if parts[0] not in tops:
        # Not a path of the tree at all (a URL, `and/or`, a model's name), unless it is relative.
        return True
    beside = os.path.normpath(os.path.join(os.path.dirname(readme), name))
    return tree.has(name) or tree.has(beside)


def _check_command(tree, path, number, line, programs):
    line = line.strip()
    if not line or line.startswith(("#", "-", "|", "'", '"', "}", "{")):
        return
    words = [w for w in line.split() if not re.match(r"[A-Z_]+=", w)]
    if not words:
        return
    word = words[0]
    if word.startswith("./") and tree.has_file(word[2:]):
        if not os.access(tree.absolute(word[2:]), os.X_OK):
            yield Violation(path, number, "names", f"{word} is not executable")
        return
    if word.startswith("build/") and os.path.basename(word) in programs:
        return
    if word in programs or word in FOREIGN_COMMANDS or tree.has_file(word):
        return
    yield Violation(path, number, "names", f"unknown command {word}")


def check_readme_present(tree):
    folders = set()
    for path in tree.under(*CXX_SUFFIXES):
        if path.startswith(DOCUMENTED):
            folders.add(os.path.dirname(path))
    for folder in sorted(folders | {"tests"}):
        # A part of a part (kernels/cpu/inner) may be explained by the one above it.
        above = os.path.dirname(folder) if folder.count("/") >= 2 else folder
        if not any(tree.has_file(os.path.join(f, "README.md")) for f in (folder, above)):
            yield Violation(folder, 0, "readme", "no README.md")


# Built from pieces, so that this file does not contain what it looks for.
_PRIVATE = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\w.}])/" + r"work/",
        r"(?<![\w.}])/" + r"root/",
        r"(?<![\w.}])/" + r"home/\w",
        r"\b(?:[A-Za-z0-9-]+\.)+pkg\.dev\b",
        r"(?i)\bissues? #?\d+\b",
    )
)
_TODO = re.compile(r"\bTO" + r"DO\b(?!\(#\d+\))|\bFIX" + r"ME\b|\bX" + r"XX\b")


def check_words(tree):
    for path in tree.files:
        if path.startswith("tests/data/") or not _is_text(tree, path):
            continue
        for number, line in enumerate(tree.lines(path), 1):
            for pattern in _PRIVATE:
                match = pattern.search(line)
                if match:
                    yield Violation(path, number, "words", f"private: {match.group(0)}")
            match = _TODO.search(line)
            if match:
                yield Violation(path, number, "words", f"{match.group(0)} without (#number)")


def _is_text(tree, path):
    with open(tree.absolute(path), "rb") as file:
        return b"\0" not in file.read(4096)


def check_tree_size(tree):
    total = sum(os.path.getsize(tree.absolute(path)) for path in tree.files)
    if total >= MAX_TRACKED_BYTES:
        yield Violation(".", 0, "tree", f"{total} bytes tracked, at most {MAX_TRACKED_BYTES}")
