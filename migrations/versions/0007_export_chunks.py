"""Files of exports in the database itself, for who has no directory that all instances see: the store `postgres:`."""

from alembic import op

from erp_service.db.migrate import script

revision = "0007"
down_revision = "0006"

STATEMENTS = """
create table export_files (
  name text not null,
  state text default 'writing' not null,
  bytes bigint,
  written_at timestamptz default now() not null,
  constraint export_files_pkey primary key (name),
  constraint export_files_state_known check (state in ('writing', 'whole', 'deleting')),
  constraint export_files_size_of_whole check (state <> 'whole' or bytes is not null)
);
create table export_chunks (
  name text not null,
  number integer not null,
  data bytea not null,
  constraint export_chunks_pkey primary key (name, number),
  constraint export_chunks_name_fkey foreign key (name) references export_files (name)
);
-- Large ones are compressed already, and only what is not compressed can be read in part.
alter table export_chunks alter column data set storage external;
"""


def upgrade() -> None:
    script(op.get_bind(), STATEMENTS)
