-- Sums over a tenant: now, by UTC day, by minute, and how long processing took.

create table tenants (
    tenant text primary key,
    batches bigint not null default 0,
    queued bigint not null default 0,
    processing bigint not null default 0,
    waiting bigint not null default 0,
    retrying bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    rejected bigint not null default 0,
    cancelled bigint not null default 0
) with (fillfactor = 70);

-- by the day of the event: a file queued on Monday and completed on Tuesday counts on both
create table days (
    tenant text not null,
    day text not null,
    batches bigint not null default 0,
    files bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    rejected bigint not null default 0,
    cancelled bigint not null default 0,
    bytes bigint not null default 0,
    primary key (tenant, day)
) with (fillfactor = 70);

-- a histogram; duration_ms stands for every duration within some 4 % of it
create table durations (
    tenant text not null,
    day text not null,
    duration_ms bigint not null,
    files bigint not null default 0,
    primary key (tenant, day, duration_ms)
) with (fillfactor = 70);

-- a histogram: the time that the second half of a batch took, in percent of what was told half-way
create table etas (
    tenant text not null,
    day text not null,
    ratio_pct bigint not null,
    batches bigint not null default 0,
    primary key (tenant, day, ratio_pct)
) with (fillfactor = 70);

create table minutes (
    tenant text not null,
    -- 2026-11-21T05:13
    minute text not null,
    completed bigint not null default 0,
    first_at text,
    last_at text,
    primary key (tenant, minute)
) with (fillfactor = 70);
