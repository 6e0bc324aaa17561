#!/bin/sh
# Runs once, when the volume is new: the owner, who migrates, and the service's own role, which owns nothing.
# Neither is a superuser. A password that is changed later is changed with `alter role`.
set -eu
psql --set ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set owner `cat /run/secrets/owner_password`
\set app `cat /run/secrets/app_password`
\set database `printf %s "$POSTGRES_DB"`
create role erp_owner login password :'owner';
create role erp_app login password :'app';
alter database :"database" owner to erp_owner;
SQL
