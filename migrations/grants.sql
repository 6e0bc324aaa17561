-- What each role of the service may do. Runs at the end of every `erp migrate`, in its transaction, so that a new table
-- or column cannot be forgotten and an old process never meets a moment without its rights.
--
--   erp_api      `erp serve`: writes, signs users in, reads passwords' hashes one at a time by erp_password_hash
--   erp_worker   `erp worker`: runs exports, imports and schedules, prunes, ends reservations; posts stock, and changes
--                items and locations, since imports do; rewrites nothing that was posted, changes no user, reads no hash
--   erp_reader   the replica of both: reads what reports and exports show
--   erp_app      the first two in one, from before they were apart: what connects as it keeps working
--
-- They are made here without login if this role may make roles, and else by whoever operates the server
-- (ops/postgres/init). Each can be given a login and a password, or members that have these.
do $$
declare
  missing text;
begin
  foreach missing in array array['erp_api', 'erp_worker', 'erp_reader'] loop
    continue when exists (select from pg_roles where rolname = missing);
    begin
      execute format('create role %I nologin', missing);
    exception
      -- roles are cluster-wide: another database's migration may make them now
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise notice 'no right to create the role %: make it, then migrate again', missing;
    end;
  end loop;
end $$;

do $$
declare
  -- In the letters of Postgres' own access lists: r select, a insert, w update, d delete.
  rights constant jsonb := '{
    "alembic_version":     {"api": "r",    "worker": "r",    "reader": "r"},
    "api_keys":            {"api": "raw",  "worker": "r",    "reader": "r"},
    "audit_log":           {"api": "ra",   "worker": "ra",   "reader": "r"},
    "company":             {"api": "rw",   "worker": "r",    "reader": "r"},
    "export_chunks":       {"api": "rad",  "worker": "rad",  "reader": ""},
    "export_files":        {"api": "rawd", "worker": "rawd", "reader": ""},
    "export_jobs":         {"api": "raw",  "worker": "raw",  "reader": "r"},
    "export_schedules":    {"api": "rawd", "worker": "rw",   "reader": "r"},
    "export_store":        {"api": "rw",   "worker": "rw",   "reader": "r"},
    "export_usage":        {"api": "r",    "worker": "r",    "reader": ""},
    "idempotency":         {"api": "rawd", "worker": "rd",   "reader": ""},
    "import_jobs":         {"api": "raw",  "worker": "raw",  "reader": "r"},
    "imports":             {"api": "raw",  "worker": "raw",  "reader": "r"},
    "items":               {"api": "raw",  "worker": "raw",  "reader": "r"},
    "locations":           {"api": "raw",  "worker": "raw",  "reader": "r"},
    "login_networks":      {"api": "rawd", "worker": "rd",   "reader": ""},
    "operation_runs":      {"api": "raw",  "worker": "r",    "reader": "r"},
    "procrastinate_events":          {"api": "ra",   "worker": "rawd", "reader": ""},
    "procrastinate_jobs":            {"api": "rawd", "worker": "rawd", "reader": ""},
    "procrastinate_periodic_defers": {"api": "rw",   "worker": "rawd", "reader": ""},
    "procrastinate_workers":         {"api": "r",    "worker": "rawd", "reader": ""},
    "queue_deaths":        {"api": "r",    "worker": "rawd", "reader": ""},
    "queue_workers":       {"api": "r",    "worker": "rawd", "reader": ""},
    "rate_limits":         {"api": "rawd", "worker": "rawd", "reader": ""},
    "recovery_codes":      {"api": "rad",  "worker": "",     "reader": ""},
    "refresh_families":    {"api": "raw",  "worker": "rd",   "reader": ""},
    "refresh_tokens":      {"api": "raw",  "worker": "rd",   "reader": ""},
    "second_factors":      {"api": "rawd", "worker": "",     "reader": ""},
    "stock_balances":      {"api": "raw",  "worker": "raw",  "reader": "r"},
    "stock_count_lines":   {"api": "rawd", "worker": "r",    "reader": "r"},
    "stock_counts":        {"api": "raw",  "worker": "r",    "reader": "r"},
    "stock_ledger":        {"api": "ra",   "worker": "ra",   "reader": "r"},
    "stock_reservations":  {"api": "raw",  "worker": "rw",   "reader": "r"},
    "stock_values":        {"api": "raw",  "worker": "raw",  "reader": "r"},
    "stock_transactions":  {"api": "ra",   "worker": "ra",   "reader": "r"},
    "trail":               {"api": "r",    "worker": "ra",   "reader": "r"},
    "users":               {"api": "raw",  "worker": "r",    "reader": "r"},
    "webhook_deliveries":  {"api": "r",    "worker": "rad",  "reader": ""},
    "webhook_secrets":     {"api": "rawd", "worker": "r",    "reader": ""},
    "webhooks":            {"api": "rawd", "worker": "rw",   "reader": ""}
  }';
  -- A table that is not in the list yet works, and tests/db/test_roles.py asks for its line.
  undecided constant jsonb := '{"api": "rawd", "worker": "rawd", "reader": "r"}';
  -- Columns that hold secrets, and who reads them nevertheless. The digest of a refresh token is one of 256 random bits:
  -- the worker, which prunes by it, cannot make a token of it. That of an API key is one of 190.
  secrets constant jsonb := '{
    "users.password_hash": ["app"],
    "api_keys.digest": ["app", "api"],
    "idempotency.body": ["app", "api"],
    "idempotency.headers": ["app", "api"],
    "idempotency.digest": ["app", "api"],
    "recovery_codes.digest": ["app", "api"],
    "refresh_tokens.digest": ["app", "api", "worker"],
    "second_factors.pending_secret": ["app", "api"],
    "second_factors.secret": ["app", "api"],
    "webhook_secrets.secret": ["app", "api", "worker"]
  }';
  -- `for update` needs the right to update some column. These decide nothing.
  lockable constant jsonb := '{
    "login_networks": "last_success_at",
    "refresh_families": "revoked_because",
    "refresh_tokens": "issued_at"
  }';
  -- Whose it is, and what was asked for: a worker that may update the rest must not change it. Imports post stock, and
  -- create and update items and locations; they delete none and restore none.
  fixed constant jsonb := '{
    "export_jobs": ["id", "user_id", "dataset", "spec", "retry_of", "created_at"],
    "export_schedules": ["id", "user_id", "cron", "timezone", "spec", "changed_by", "most_role", "created_at"],
    "import_jobs": ["id", "user_id", "dataset", "spec", "most_role", "api_key_id", "filename", "file_bytes",
      "file_sha256", "created_at"],
    "imports": ["id", "kind", "sha256", "content_sha256", "filename", "mode", "imported_at"],
    "items": ["id", "created_at", "deleted_at"],
    "locations": ["id", "created_at", "deleted_at"],
    "stock_balances": ["item_id", "location_id"],
    "stock_values": ["item_id"],
    "stock_reservations": ["id", "item_id", "location_id", "quantity", "original_quantity", "reference", "expires_at",
      "user_id", "created_at"],
    "webhooks": ["id", "url", "types", "description", "created_by", "created_at"]
  }';
  member text;
  grantee text;
  relation record;
  letters text;
  readable text;
  appendable text;
  changeable text;
  has_secrets boolean;
begin
  foreach member in array array['app', 'api', 'worker', 'reader'] loop
    grantee := 'erp_' || member;
    continue when not exists (select from pg_roles where rolname = grantee);
    execute format('grant usage on schema public to %I', grantee);
    for relation in
      select class.oid, class.relname::text as name, class.relkind,
        exists (
          select from pg_trigger trigger join pg_proc function on function.oid = trigger.tgfoid
          where trigger.tgrelid = class.oid and function.proname = 'erp_refuse_change'
        ) as append_only
      from pg_class class
      where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'v', 'm', 'S')
        and not exists (  -- an identity's sequence, which nobody but its table needs
          select from pg_depend depend
          where depend.classid = 'pg_class'::regclass and depend.objid = class.oid and depend.deptype = 'i'
            and class.relkind = 'S')
      order by class.relname
    loop
      -- with those of single columns
      execute format('revoke all on public.%I from %I', relation.name, grantee);
      if relation.relkind = 'S' then
        if member <> 'reader' then
          execute format('grant usage, select on sequence public.%I to %I', relation.name, grantee);
        end if;
        continue;
      end if;
      letters := coalesce(rights -> relation.name, undecided) ->> member;
      if member = 'app' then
        letters := case when relation.name = 'alembic_version' then 'r' else 'rawd' end;
      end if;
      if relation.append_only then
        letters := translate(letters, 'wd', '');
      end if;
      -- Whoever appends cannot name the time or the number of an entry: the database fills them in.
      select
        string_agg(quote_ident(attname), ', ')
          filter (where coalesce(secrets -> (relation.name || '.' || attname) ? member, true)),
        string_agg(quote_ident(attname), ', ')
          filter (where attidentity = '' and pg_get_expr(adbin, adrelid) is distinct from 'clock_timestamp()'),
        '(' || string_agg(quote_ident(attname), ', ')
          filter (where not coalesce(fixed -> relation.name ? attname::text, false)) || ')',
        bool_or(not secrets -> (relation.name || '.' || attname) ? member)
      into readable, appendable, changeable, has_secrets
      from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attrelid = relation.oid and attnum > 0 and not attisdropped;
      readable := case when has_secrets then '(' || readable || ')' else '' end;
      changeable := case when member = 'worker' and fixed ? relation.name then changeable else '' end;
      appendable := case when relation.append_only then '(' || appendable || ')' else '' end;
      if letters like '%r%' then
        execute format('grant select %s on public.%I to %I', readable, relation.name, grantee);
      end if;
      if letters like '%a%' then
        execute format('grant insert %s on public.%I to %I', appendable, relation.name, grantee);
      end if;
      if letters like '%w%' then
        execute format('grant update %s on public.%I to %I', changeable, relation.name, grantee);
      end if;
      if letters like '%d%' then
        execute format('grant delete on public.%I to %I', relation.name, grantee);
      end if;
      if letters not like '%w%' and letters like '%d%' and lockable ? relation.name then
        execute format(
          'grant update (%I) on public.%I to %I', lockable ->> relation.name, relation.name, grantee);
      end if;
    end loop;
    if member in ('app', 'worker') and to_regprocedure('public.erp_prune_audit(integer)') is not null then
      execute format('grant execute on function public.erp_prune_audit(integer) to %I', grantee);
    end if;
    if member in ('app', 'api') and to_regprocedure('public.erp_password_hash(bigint)') is not null then
      execute format('grant execute on function public.erp_password_hash(bigint) to %I', grantee);
    end if;
  end loop;
  -- temporary tables are left to the owner
  if exists (
    select from pg_database where datname = current_database() and pg_has_role(datdba, 'usage')
  ) then
    execute format('revoke temporary on database %I from public', current_database());
  end if;
end $$;
