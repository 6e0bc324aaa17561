#!/bin/sh
# Runs once, when the volume is new: the owner, who migrates; the roles of API, workers and of what reads a replica, which
# own nothing (migrations/grants.sql says what each may do); and the two by which a replica and the backups follow. None
# is a superuser. A password is changed later with `alter role`.
set -eu
psql --set ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set owner `cat /run/secrets/owner_password`
\set api `cat /run/secrets/api_password`
\set worker `cat /run/secrets/worker_password`
\set reader `cat /run/secrets/reader_password`
\set replica `cat /run/secrets/replica_password`
\set backup `cat /run/secrets/backup_password`
\set database `printf %s "$POSTGRES_DB"`
create role erp_owner login password :'owner';
create role erp_api login password :'api';
create role erp_worker login password :'worker';
create role erp_reader login password :'reader';
-- a standby shows to no other role which timeline it follows, so after a failover nobody would read it for minutes
grant pg_read_all_stats to erp_reader;
create role erp_replica login replication password :'replica';
create role erp_backup login replication password :'backup';
alter database :"database" owner to erp_owner;
SQL
# `all` is no database that can be replicated
echo "host replication erp_replica,erp_backup all scram-sha-256" >>"$PGDATA/pg_hba.conf"
