"""
Runs a command and tells on standard output what it took: exit code, seconds, seconds of CPU, and
bytes of peak memory, as JSON.

A process of its own, and a small one, does this: what starts as a copy of a large process has that
one's peak in its ru_maxrss, even behind exec.
"""

import json
import resource
import subprocess
import sys
import time

begin = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False).returncode
seconds = time.monotonic() - begin
used = resource.getrusage(resource.RUSAGE_CHILDREN)
json.dump([code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024], sys.stdout)
