"""What a user can set right, said in one line."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class InputError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do."""


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command's main and leave: 0 when it returns, 1 with one line on stderr for bad input or a target that
    cannot be written, 130 when interrupted. Any other exception is a defect and keeps its traceback.
    """
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except OSError as error:
        where = f": {os.fspath(error.filename)}" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
