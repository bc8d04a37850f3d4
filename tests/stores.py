"""Stores of a plant in miniature: a PostgreSQL server with a password, and one that speaks S3."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.faults.stack import free_ports

USER, PASSWORD = "plant", "s3cret-of-the-database"
KEY, SECRET = "plant-key", "s3cret-of-the-store"
OWNER = "postgres"  # root may not run the server


def initdb() -> Path | None:
    """Debian's ``initdb``, the newest; None without the package ``postgresql``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1] if found else None


def as_owner(*words: str | Path) -> list[str]:
    """The command as the owner of the database, who is not root."""
    runuser = shutil.which("runuser")
    assert runuser is not None
    return [runuser, "-u", OWNER, "--", *map(str, words)]


@contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """A server on a free port of this machine, log-in by password; its port."""
    found = initdb()
    assert found is not None
    folder.mkdir()
    (folder / "password").write_text(PASSWORD)
    shutil.chown(folder, OWNER)
    shutil.chown(folder / "password", OWNER)
    port, data = free_ports(1)[0], folder / "data"
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    made = ["-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run(as_owner(found, *made), **quiet)
    control = found.with_name("pg_ctl")
    subprocess.run(as_owner(control, "-D", data, "-w", "-l", folder / "log", "-o", options, "start"), **quiet)
    try:
        yield port
    finally:
        subprocess.run(as_owner(control, "-D", data, "-m", "immediate", "stop"), **quiet)


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """moto's server on a free port of this machine; its address."""
    port = free_ports(1)[0]
    with (folder / "s3.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                with urlopen(f"{url}/moto-api/", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(20)


@dataclass(frozen=True)
class Stores:
    """Both servers, with databases ``mlflow`` and ``prefect`` and the buckets ``models`` and ``data``."""

    port: int
    s3: str

    def url(self, database: str, driver: str = "postgresql") -> str:
        """Of a database."""
        return f"{driver}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @property
    def environment(self) -> dict[str, str]:
        """What docs/operations.md says to set."""
        return {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.url("prefect", "postgresql+asyncpg"),
            "MLFLOW_BACKEND_STORE_URI": self.url("mlflow"),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://models/mlflow",
            "MLFLOW_S3_ENDPOINT_URL": self.s3,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """boto3's, for the buckets."""
        import boto3

        named = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.s3, **named)

    def objects(self, bucket: str) -> list[str]:
        """Keys in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def rows(self, database: str, table: str) -> int:
        """How many rows a table has."""
        import psycopg2

        connection = psycopg2.connect(self.url(database))
        try:
            with connection.cursor() as cursor:
                cursor.execute(f'SELECT count(*) FROM "{table}"')
                return int(cursor.fetchone()[0])
        finally:
            connection.close()


@contextmanager
def stores(folder: Path) -> Iterator[Stores]:
    """Both servers, ready to be used."""
    import psycopg2

    with postgres(folder / "postgres") as port, s3(folder) as address:
        made = Stores(port, address)
        connection = psycopg2.connect(made.url("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name in ("mlflow", "prefect"):
                cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        for bucket in ("models", "data"):
            made.client().create_bucket(Bucket=bucket)
        yield made
