"""`python -m erp_service.standalone.parent_watch COMMAND...`: a command that is killed when the parent process dies.

For systems other than Linux, where the kernel cannot do it. It looks for the parent twice a second, in the process
group of the command, and ends with the command's status.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence


def watch(arguments: Sequence[str]) -> int:
    parent = os.getppid()
    # A signal to the group reaches the command as well, and decides there. A handler, because an ignored signal would
    # stay ignored in the command.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with subprocess.Popen(arguments) as child:
        while True:
            try:
                status = child.wait(0.5)
                return status if status >= 0 else 128 - status
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:
                    child.kill()


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
