-- name: lock_shared
-- Held by a commit until its end, so that no view is swapped underneath it.
select pg_advisory_xact_lock_shared(hashtextextended('{schema}', 0));

-- name: lock_exclusive
-- Held by a swap; commits of the live projector wait for it.
select pg_advisory_lock(hashtextextended($1, 0));

-- name: unlock
select pg_advisory_unlock(hashtextextended($1, 0));

-- name: try_lock
select pg_try_advisory_lock(hashtextextended($1, 0));

-- name: create
create table {schema}.checkpoint (
    one boolean primary key default true check (one),
    seq bigint not null,
    -- of the event at seq: the log must still have it there
    event_id text,
    -- of the code that built the rows
    version text not null
);

-- name: start
insert into {schema}.checkpoint (seq, event_id, version) values (0, null, $1);

-- name: read
select seq, event_id, version from {schema}.checkpoint;

-- name: advance
-- No row: another projector was faster, or the view was swapped for another build.
update {schema}.checkpoint set seq = $1, event_id = $2 where seq = $3 and version = $4;

-- name: schemas
select nspname from pg_namespace where starts_with(nspname, $1);

-- name: digest
-- Rows and digest of a table, in any order: the sums of two hashes of each row, which is 128 bits. Equal in every
-- table of one database; another release of PostgreSQL may hash otherwise.
select rows, encode(sha256(convert_to(one || ' ' || other, 'UTF8')), 'hex') as digest
from (
    select count(*)::bigint as rows,
        coalesce(sum(hash_record_extended(t, 0)), 0)::text as one,
        coalesce(sum(hash_record_extended(t, 1)), 0)::text as other
    from {schema}.{table} as t
) as sums;

-- name: rows
-- Every row of a table as JSON, in key order.
select row_to_json(t)::text as line from {schema}.{table} as t order by {order};
