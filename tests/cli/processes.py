"""The command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

MAIN = "import sys; from unrolled.cli import main; sys.exit(main(sys.argv[1:]))"


def in_process(*arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    code = (
        "import sys; from unrolled.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, env=environment, check=False)
