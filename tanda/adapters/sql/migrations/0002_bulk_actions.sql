-- Bulk actions while they are carried out; see tanda/adapters/bulk.py.
create table tanda.bulk_actions (
    id text primary key,
    -- the whole run as JSON
    run text not null,
    status text not null default 'running',
    -- who works on it, until when unless they say more
    holder text,
    lease_until timestamptz not null default now(),
    created_at timestamptz not null default now()
);

create index bulk_actions_running on tanda.bulk_actions (id) where status = 'running';
