-- Requests that happen once; see tanda/adapters/idempotency.py.
create table tanda.idempotency (
    tenant text not null,
    key text not null,
    -- null: given back after a refusal, another body may use the key
    body_sha256 text,
    -- the id of what the request makes: the same for every attempt
    resource_id text not null,
    -- null: not answered yet
    answer bytea,
    -- somebody is at work until then, unless they renew it
    lease_until timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (tenant, key)
);

create index idempotency_by_age on tanda.idempotency (created_at);
