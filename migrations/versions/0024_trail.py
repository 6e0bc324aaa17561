"""The trail seals rows of other append-only tables beside audit entries: its columns say which, and in which form.
Audit entries that have a position, and are older than the company keeps them, can be removed; by nothing else."""

from alembic import op

from erp_service.db.migrate import script

revision = "0024"
down_revision = "0021"

STATEMENTS = """
-- no version before this one writes to the trail, so it is empty
alter table trail
  alter column audit_id drop not null,
  -- the sealer states the time, since the link covers it
  alter column sealed_at drop default,
  add column digest bytea not null,
  add column source text not null,
  add column row_ids int8multirange,
  add column through bigint not null,
  add column form smallint not null,
  add constraint trail_one_kind check ((audit_id is null) <> (row_ids is null)),
  add constraint trail_lengths check (octet_length(link) = 32 and octet_length(digest) = 32);
-- the last position of each source, and the positions that cover rows of it
create index trail_source_position_idx on trail (source, position) where audit_id is null;
create index trail_source_upper_idx on trail (source, upper(row_ids)) where audit_id is null;

-- As before, but for deletions by the function below.
create function erp_refuse_unless_pruned() returns trigger language plpgsql as $body$
begin
  if current_setting('erp.pruning', true) is distinct from 'on' then
    raise exception '% is append-only: % is refused', tg_table_name, tg_op using errcode = 'restrict_violation';
  end if;
  return null;
end $body$;
drop trigger audit_log_append_only on audit_log;
create trigger audit_log_append_only before update or truncate on audit_log
  for each statement execute function erp_refuse_change();
create trigger audit_log_pruned before delete on audit_log
  for each statement execute function erp_refuse_unless_pruned();

-- Removes the oldest audit entries, at most so many, up to the first position whose entry is to be kept. It has the
-- rights of the owner, so it takes no date from its caller: the company's settings say how long entries are kept, and
-- it never removes what is younger than 30 days or has no position. The caller records what it returns.
create function erp_prune_audit(most integer)
  returns table (entries bigint, first_position bigint, last_position bigint, last_link bytea, older_than timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
  days integer := (select (settings ->> 'audit_retention_days')::integer from public.company);
  pruned bigint := coalesce((
    select (after ->> 'position')::bigint from public.audit_log where action = 'audit.pruned' order by id desc limit 1
  ), 0);
  ids bigint[];
begin
  if days is null or days < 30 then
    return;
  end if;
  older_than := now() - make_interval(days => days);
  with following as (
    select t.position, t.audit_id, a.at from public.trail t left join public.audit_log a on a.id = t.audit_id
    where t.position > pruned and t.audit_id is not null order by t.position limit most
  )
  select array_agg(f.audit_id), min(f.position), max(f.position) into ids, first_position, last_position
  from following f
  where f.position < coalesce((select min(position) from following where at >= older_than), 9223372036854775807);
  if ids is null then
    return;
  end if;
  perform set_config('erp.pruning', 'on', true);
  delete from public.audit_log where id = any(ids);
  get diagnostics entries = row_count;
  perform set_config('erp.pruning', '', true);
  last_link := (select link from public.trail where position = last_position);
  return next;
end $body$;
revoke all on function erp_prune_audit(integer) from public;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
