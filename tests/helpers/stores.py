"""Stores of a plant in miniature: a PostgreSQL server with a password, and one that speaks S3."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import psycopg2  # type: ignore[import-untyped]

from tests.faults.stack import free_ports

USER, PASSWORD = "plant", "s3cret@of/the:data%base"  # an address holds it quoted
KEY, SECRET = "plant-key", "s3cret-of-the-store"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), SECRET)


def initdb() -> Path | None:
    """Debian's ``initdb``, the newest; None without the package ``postgresql``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1] if found else None


def owner() -> str | None:
    """Who runs the server instead of root, who may not; None when this process is somebody else's already."""
    if os.geteuid():
        return None
    return "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"


@contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """A server on a free port of this machine, log-in by password; its port."""
    found = initdb()
    assert found is not None
    folder.mkdir()
    (folder / "password").write_text(PASSWORD)
    if user := owner():
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)
    port, data = free_ports(1)[0], folder / "data"
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"

    def call(program: str, *words: str | Path) -> None:
        """A program of PostgreSQL's; its errors are pytest's to show."""
        command = [found.with_name(program), "-D", data, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", user=owner())

    call("initdb", "-U", USER, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    call("pg_ctl", "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield port
    finally:
        call("pg_ctl", "-m", "immediate", "stop")


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
        for _ in range(600):
            assert server.poll() is None, (folder / "s3.log").read_text()
            with suppress(OSError), urlopen(f"{url}/moto-api/", timeout=1):
                break
            time.sleep(0.1)
        else:
            raise TimeoutError("moto's server does not answer")
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
        return f"{driver}://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

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
        }

    def client(self) -> Any:
        """boto3's, for the buckets."""
        import boto3  # type: ignore[import-untyped]

        named = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.s3, **named)

    def objects(self, bucket: str) -> set[str]:
        """Keys in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def ask(self, database: str, question: str) -> list[tuple[Any, ...]]:
        """Rows that a database answers with."""
        with closing(psycopg2.connect(self.url(database))) as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return list(cursor.fetchall())


@contextmanager
def stores(folder: Path) -> Iterator[Stores]:
    """Both servers, ready to be used."""
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
