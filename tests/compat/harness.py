"""What every case stands on: child processes whose output can be waited for, and deadlines.

Nothing here sleeps to let something happen. A case waits for a line, an event, an exit or an accepted connection, and every wait ends with a
`Failure` that says what was missing. `Lab` owns the processes; leaving its `with` block kills whatever still runs.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
NODE_MODULES = CACHE / "npm" / "node_modules"
VENV_PYTHON = CACHE / "venv" / "bin" / "python"
# Debian puts game servers outside root's PATH, and other servers outside everybody else's.
SEARCH_PATH = os.environ.get("PATH", os.defpath) + ":/usr/games:/usr/lib/minetest:/usr/sbin"

LOOPBACK = "127.0.0.1"
TAIL_LINES = 15


class Failure(Exception):
    """A claim of the suite that did not hold, in words that stand alone in the report."""


class Deadline:
    """A point in time that several waits share."""

    def __init__(self, seconds):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self._end - time.monotonic())

    def check(self, what):
        """Returns the seconds left, at least one millisecond, or fails because `what` took too long."""
        left = self.left()
        if left == 0.0:
            raise Failure(f"no {what} within {self.seconds:g} s")
        return max(left, 0.001)


class Process:
    """A child process in a group of its own.

    `log` has every line it wrote, `stdout` those on standard output, `events` the JSON objects among these. `forget` starts a new page: waits look only
    at what was written after it.
    """

    def __init__(self, name, argv, cwd, env):
        self.name = name
        self.log = []
        self.stdout = []
        self.events = []
        self._log_page = self._event_page = 0
        self._changed = threading.Condition()
        # setpriv: should the suite itself be killed, its children die with it.
        self._child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *map(str, argv)],
            cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, is_stdout), daemon=True)
            for pipe, is_stdout in ((self._child.stdout, True), (self._child.stderr, False))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, is_stdout):
        for raw in pipe:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            event = _event(line) if is_stdout else None
            with self._changed:
                self.log.append(line)
                if is_stdout:
                    self.stdout.append(line)
                if event:
                    self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def forget(self):
        with self._changed:
            self._log_page, self._event_page = len(self.log), len(self.events)

    def wait_event(self, kind, timeout, **fields):
        """Waits for the first event of `kind` whose `fields` are equal to those given."""
        return self.wait_events(kind, 1, timeout, **fields)[0]

    def wait_events(self, kind, count, timeout, **fields):
        """Waits until `count` such events have come, and returns all there are."""
        def find():
            found = self.events_of(kind, **fields)
            return found if len(found) >= count else None

        return self._wait(find, " ".join([f"{count} x event {kind}", *(f"{key}={value}" for key, value in fields.items())]), timeout)

    def events_of(self, kind, **fields):
        return [e for e in self.events[self._event_page:] if e["event"] == kind and all(e.get(key) == value for key, value in fields.items())]

    def wait_line(self, pattern, timeout):
        """Waits for a line of output that `pattern` (a regular expression) is found in."""
        def find():
            matches = (re.search(pattern, line) for line in self.log[self._log_page:])
            return next(filter(None, matches), None)

        return self._wait(find, f"line matching {pattern!r}", timeout)

    def _wait(self, find, what, timeout):
        deadline = Deadline(timeout)
        with self._changed:
            while True:
                found = find()
                if found is not None:
                    return found
                if not any(reader.is_alive() for reader in self._readers) or deadline.left() == 0.0:
                    break
                # A reader notifies before it dies, so the end of the output is looked for as well.
                self._changed.wait(min(deadline.left(), 0.2))
        if self.returncode() is not None:
            raise Failure(f"{self.name} ended with {self.returncode()} without {what}")
        raise Failure(f"{self.name}: no {what} within {timeout:g} s")

    def returncode(self):
        return self._child.poll()

    def wait_exit(self, timeout):
        """Waits for the end and returns the exit code; all output has been read by then."""
        try:
            code = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} still runs after {timeout:g} s") from None
        for reader in self._readers:
            reader.join(timeout=1)
        return code

    def succeed(self, timeout):
        """Waits for the end and fails with the last words unless it is with 0."""
        code = self.wait_exit(timeout)
        if code != 0:
            words = next((line for line in reversed(self.log) if line.strip()), "no output")
            raise Failure(f"{self.name} ended with {code}: {words}")

    def terminate(self):
        self._child.terminate()

    def kill(self):
        """Ends the whole process group, whatever it thinks of that."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def tail(self):
        lines = self.log[-TAIL_LINES:] or ["(no output)"]
        return "\n".join([f"  --- {self.name}", *(f"  | {line[:300]}" for line in lines)])


def _event(line):
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None


class Lab:
    """The processes and files of one case, or of a relay that cases share. `stage` is what a case is about to show, for the report of its failure."""

    def __init__(self, name):
        self.name = name
        self.stage = "before the first player"
        self._processes = []

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix=f"spawnpoint-compat-{self.name.replace(' ', '-')}-")
        self.folder = Path(self._folder.name)
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()
        self._folder.cleanup()

    def subfolder(self, name):
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, name, argv, env=None):
        """Starts `argv` with this lab's folder as its home and working directory."""
        env = {**os.environ, "PATH": SEARCH_PATH, "HOME": str(self.folder), "NODE_PATH": str(NODE_MODULES), **(env or {})}
        try:
            process = Process(name, argv, self.folder, env)
        except FileNotFoundError as error:
            raise Failure(f"{error.filename} is not installed") from None
        self._processes.append(process)
        return process

    def run(self, name, argv, timeout, env=None):
        """Runs `argv` to its end and fails with its last words unless it exits with 0."""
        process = self.start(name, argv, env)
        process.succeed(timeout)
        return process

    def tails(self):
        """The last words of every process."""
        return "\n".join(process.tail() for process in self._processes)


def node(script, *args):
    """The command line of one of the node scripts in `clients/`."""
    return ["node", HERE / "clients" / script, *args]


def server_list_entry(lab, kind, address, name=None):
    """What a server list shows for `address`, as an independent client sees it; `name` is what its player typed to come there."""
    typed = [name] if name else []
    client = lab.run("server list", [VENV_PYTHON, HERE / "clients" / "server_list.py", kind, *address, *typed], timeout=30)
    return client.wait_event("entry", timeout=1)
