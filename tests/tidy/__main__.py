"""Checks the rules of the project that a program can check.

    python3 tests/tidy [--root FOLDER] [--only RULE,RULE] [--list]

One line a violation, exit 1 if there is any. Needs nothing but Python; formatting is checked where
clang-format is installed."""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import rules_code  # noqa: E402
import rules_docs  # noqa: E402
from tree import Tree  # noqa: E402

RULES = {
    "includes": rules_code.check_includes,
    "own_header": rules_code.check_own_header,
    "size": rules_code.check_sizes,
    "headers": rules_code.check_headers,
    "banned": rules_code.check_banned,
    "registered": rules_code.check_registered,
    "format": rules_code.check_format,
    "links": rules_docs.check_readme_links,
    "names": rules_docs.check_readme_names,
    "readme": rules_docs.check_readme_present,
    "words": rules_docs.check_words,
    "tree": rules_docs.check_tree_size,
}


def run(root, only=None):
    """All violations of the rules (or of those in `only`) in the tree below `root`, sorted."""
    tree = Tree(root)
    found = []
    for name, check in RULES.items():
        if only is None or name in only:
            found.extend(check(tree))
    return sorted(found), tree


def main():
    parser = argparse.ArgumentParser(prog="tests/tidy", description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.join(here, "..", ".."))
    parser.add_argument("--only", help="rules, separated by commas (see --list)")
    parser.add_argument("--list", action="store_true", help="the names of the rules")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(RULES))
        return 0
    only = arguments.only.split(",") if arguments.only else None
    unknown = [name for name in only or [] if name not in RULES]
    if unknown:
        parser.error(f"unknown rule {unknown[0]}")
    found, tree = run(arguments.root, only)
    for violation in found:
        print(violation)
    print(f"tidy: {len(tree.files)} files, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
