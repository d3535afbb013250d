"""Runs a program of this folder with the official `openai` package, installed into a virtual
environment under the build folder on first use.

    with_client.py ENVIRONMENT_FOLDER PROGRAM ARGUMENT...

Exit code 77 (skipped) if the package cannot be had; an error of the program stays one."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
SKIPPED = 77
INSTALL_DEADLINE_S = 300


def prepare(folder):
    """The environment's Python, or None after saying why there is none."""
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, "requirements.txt")
    with open(REQUIREMENTS, encoding="ascii") as file:
        wanted = file.read()
    if os.path.exists(stamp):
        with open(stamp, encoding="ascii") as file:
            if file.read() == wanted:
                return python
    for command in ([sys.executable, "-m", "venv", "--clear", folder],
                    [python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]):
        try:
            subprocess.run(command, check=True, timeout=INSTALL_DEADLINE_S)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"skipped: cannot install the client: {error}")
            return None
    with open(stamp, "w", encoding="ascii") as file:
        file.write(wanted)
    return python


def main():
    folder, program, *arguments = sys.argv[1:]
    python = prepare(folder)
    if python is None:
        return SKIPPED
    return subprocess.run([python, os.path.join(HERE, program), *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
