"""Runs a command and says its seconds, CPU seconds and most resident memory: `measured.py NAME COMMAND…`.

With a number before the name, the command is interrupted after so many seconds.
"""
import resource
import signal
import subprocess
import sys
import time

seconds, (name, *command) = (int(sys.argv[1]), sys.argv[2:]) if sys.argv[1].isdigit() else (None, sys.argv[1:])
begun = time.time()
child = subprocess.Popen(command)
try:
    code = child.wait(seconds)
except subprocess.TimeoutExpired:
    child.send_signal(signal.SIGINT)
    code = child.wait()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
print(f"{name}: {time.time() - begun:.1f} s, {cpu:.1f} CPU s, {peak:.0f} MiB at most", flush=True)
sys.exit(code)
