"""A redis-server of the tests' own."""
import json
import shutil
import signal
import subprocess

from drovertest import Skip, _procs, equal, folder, until

try:
    import redis
except ImportError:
    redis = None


class Server:
    """A redis-server of this test's own: a Unix socket in a folder of its own, every answer on disk first."""

    def __init__(self):
        if redis is None or shutil.which("redis-server") is None:
            raise Skip("redis-server or python3-redis is not installed")
        self.where = folder("r")
        self.path = f"{self.where}/socket"
        self.address = f"ipc://{self.path}"
        self.url = f"unix://{self.path}"
        self.popen = None
        self.start()
        _procs.append(self)

    def start(self):
        with open(f"{self.where}/log", "ab") as log:
            self.popen = subprocess.Popen(
                ["redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.where, "--appendonly", "yes",
                 "--appendfsync", "always", "--save", ""], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self.answers, "redis-server")

    def answers(self):
        try:
            return self.client().ping()
        except redis.exceptions.RedisError:
            return False

    def client(self):
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def forget(self):
        self.popen.send_signal(signal.SIGCONT)
        self.kill()
        _procs.remove(self)

    def events(self, prefix="drover"):
        """Every event of the stream, in order; checks that an entry has the number of its last event."""
        found = []
        for entry, fields in self.client().xrange(f"{prefix}:events"):
            lines = [json.loads(line) for line in fields["events"].splitlines()]
            equal(entry, lines[-1]["seq"], "id of an entry")
            found += lines
        return found
