"""Runs an embedded Postgres until a signal comes; test_embedded_postgres.py starts it and kills it in many ways.

Arguments: the data directory; "main" or "thread", where the server is started; optionally a user's number to become.
Says "up POSTMASTER" once a row is committed, and "last ROWS" when it ends in order.
"""

import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import psycopg

from erp_service.standalone import postgres

data_dir, where = Path(sys.argv[1]), sys.argv[2]
if len(sys.argv) > 3:
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))

with ExitStack() as stack:
    clusters: list[postgres.Cluster] = []

    def start() -> None:
        clusters.append(stack.enter_context(postgres.running(data_dir)))

    if where == "main":
        start()
    else:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    with psycopg.connect(clusters[0].owner_url("postgres"), autocommit=True) as db:
        db.execute("create table if not exists kept (id int)")
        db.execute("insert into kept values (1)")
        try:
            # inside the handler's scope, since the test sends the signal as soon as it has read this line
            sys.stdout.write(f"up {clusters[0].pid}\n")
            sys.stdout.flush()
            threading.Event().wait()
        finally:
            # After Ctrl-C a service still has work to finish, so its server must not have stopped.
            rows = db.execute("select count(*) from kept").fetchone()
            sys.stdout.write(f"last {rows and rows[0]}\n")
            sys.stdout.flush()
