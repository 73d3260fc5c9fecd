"""``mapper serve`` as a process of its own, for the length of a ``with`` block."""

import os
import subprocess
import sys
from tempfile import TemporaryFile

import psutil


class MapServer:
    """A served store."""

    def __init__(self, store, *options):
        self._command = [sys.executable, "-m", "mapper.cli", "serve", str(store), "--port", "0", *options]

    def __enter__(self):
        self._stderr = TemporaryFile("w+")  # a pipe that nobody reads would fill up
        # glibc gives each thread an arena of its own, which reads like a leak
        environment = os.environ | {"MALLOC_ARENA_MAX": "2"}
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._stderr, text=True, env=environment
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url, self._read_log()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=30)
        self.log = self._read_log()
        self._stderr.close()

    def _read_log(self):
        self._stderr.seek(0)
        return self._stderr.read()

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def memory(self):
        """Bytes it holds."""
        return psutil.Process(self.process.pid).memory_info().rss
