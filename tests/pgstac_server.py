"""A STAC API that others wrote, for tests: stac-fastapi-pgstac on a private PostgreSQL with PostGIS.

The cluster lives in a folder of its own, listens on loopback only, and is gone afterwards. Every archive in it is a
database of its own, so that tests do not see each other's items; an archive may have several APIs.

    with PostgresCluster() as cluster:
        address = cluster.serve(cluster.store(items))
"""

import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from http import HTTPStatus
from pathlib import Path

import urllib3

_PACKAGES = ("pypgstac", "psycopg", "stac_fastapi.pgstac", "uvicorn")
_SUPERUSER = "postgres"
_EXTENSIONS = ("query", "sort", "fields", "filter", "pagination")
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""What is written here need not survive a power cut."""


def find_postgres():
    """Folder of PostgreSQL's programs.

    Raises:
        FileNotFoundError: Saying what is missing on this machine.
    """
    absent = [name for name in _PACKAGES if not _is_installed(name)]
    if absent:
        raise FileNotFoundError(f"Python packages {', '.join(absent)} are not installed")
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = [Path(on_path).resolve()] if on_path else debian
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed")
    programs = found[-1].parent
    shared = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=True)
    if not (Path(shared.stdout.strip()) / "extension" / "postgis.control").exists():
        raise FileNotFoundError(f"PostGIS is not installed for the PostgreSQL in {programs}")
    return programs


def _is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class PostgresCluster:
    """PostgreSQL for the length of a ``with`` block; it refuses root, who runs it as the user ``postgres``."""

    def __init__(self):
        self.programs = find_postgres()
        self.folder = Path(tempfile.mkdtemp(prefix="pgstac-"))
        self.user = _SUPERUSER if os.geteuid() == 0 else None
        self.port = _free_port()
        self.archives, self.processes = [], []

    def __enter__(self):
        if self.user:
            owner = pwd.getpwnam(self.user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        try:
            self._call("initdb", "--auth=trust", f"--username={_SUPERUSER}", "--encoding=UTF8", "--no-sync")
            place = ("listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}")
            options = " ".join(f"-c {option}" for option in (*place, *_QUICK))
            self._call("pg_ctl", "start", "-w", "-l", str(self.folder / "log"), "-o", options)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            process.wait()
        if (self.folder / "data" / "postmaster.pid").exists():
            self._call("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def store(self, items):
        """Put STAC items into an archive of their own; returns its name."""
        name = f"archive{len(self.archives)}"
        self.archives.append(name)
        if len(self.archives) == 1:
            self._sql(_SUPERUSER, "CREATE DATABASE empty")
            self._pypgstac("empty", "migrate")
            self._sql("empty", "UPDATE pgstac.pgstac_settings SET value = 'on' WHERE name = 'context'")
        self._sql(_SUPERUSER, f"CREATE DATABASE {name} TEMPLATE empty")
        self._load(
            name, "collections", [_describe(collection) for collection in {each["collection"] for each in items}]
        )
        self._load(name, "items", items)
        return name

    def serve(self, archive, *, extensions=_EXTENSIONS):
        """Start an API on an archive.

        Args:
            archive: Its name.
            extensions: What the API implements and advertises beyond a plain search.

        Returns:
            Address of the API.
        """
        log = self.folder / f"api{len(self.processes)}.log"
        command = [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app"]
        environment = self._environment(archive) | {"ENABLED_EXTENSIONS": ",".join(extensions)}
        with socket.create_server(("127.0.0.1", 0)) as door, log.open("wb") as file:
            address = f"http://127.0.0.1:{door.getsockname()[1]}"
            command += ["--fd", str(door.fileno()), "--log-level", "warning"]
            process = subprocess.Popen(command, env=environment, pass_fds=[door.fileno()], stdout=file, stderr=file)
            self.processes.append(process)
        # the door is open from the start: the first caller waits until someone answers
        answer = urllib3.request("GET", f"{address}/_mgmt/health", timeout=60, retries=False)
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{address} answers {answer.status}: {log.read_text()}")
        return address

    def _load(self, name, table, rows):
        path = self.folder / f"{table}.ndjson"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._pypgstac(name, "load", table, str(path), "--method", "insert")

    def _pypgstac(self, name, *arguments):
        self._run([sys.executable, "-m", "pypgstac.pypgstac", *arguments], env=self._environment(name))

    def _sql(self, name, statement):
        self._run([self.programs / "psql", "--quiet", "--command", statement], env=self._environment(name))

    def _environment(self, name):
        place = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": name}
        return {**os.environ, **place, "PGUSER": _SUPERUSER, "PGPASSWORD": "trusted"}

    def _call(self, program, *arguments):
        """Run one of the programs that refuse root; a server they leave behind must not hold our pipes."""
        away = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        command = [self.programs / program, "--pgdata", self.folder / "data", *arguments]
        with (self.folder / f"{program}.log").open("w+") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd="/", check=False, **away)
            if done.returncode:
                log.seek(0)
                raise RuntimeError(f"{program}: {log.read()}")

    def _run(self, command, **options):
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


def _describe(collection):
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    head = {"type": "Collection", "id": collection, "stac_version": "1.0.0", "description": collection, "links": []}
    return {**head, "license": "other", "extent": extent}
