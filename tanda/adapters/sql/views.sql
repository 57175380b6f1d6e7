-- name: seen
-- Stands before others: what every view has reached, in the snapshot that the rows are from. Without a row
-- that fits, its own is the only one, and the row's columns are null.
with seen as (
    select least(
        (select seq from view_batches.checkpoint),
        (select seq from view_files.checkpoint),
        (select seq from view_stats.checkpoint)
    ) as seen_seq
)

-- name: position
select seen_seq from seen;

-- name: batch
select * from seen
left join view_batches.batches on batch_id = $2 and ($1::text is null or tenant = $1);

-- name: batches_newest
-- $1 tenant, $2 statuses, $3 tag, $4 part of the name, $5 created after, $6 owner, $7 and $8 the cursor, $9 limit.
select * from seen left join (
    select * from view_batches.batches
    where ($1::text is null or tenant = $1)
        and ($2::text[] is null or status = any($2))
        and ($3::text is null or $3 = any(tags))
        and ($4::text is null or position($4 in search) > 0)
        and ($5::text is null or created_at > $5)
        and ($6::text is null or owner = $6)
        and ($7::text is null or (created_at, batch_id) < ($7, $8::text))
    order by created_at desc, batch_id desc
    limit $9
) batch on true
order by created_at desc, batch_id desc;

-- name: batches_oldest
select * from seen left join (
    select * from view_batches.batches
    where ($1::text is null or tenant = $1)
        and ($2::text[] is null or status = any($2))
        and ($3::text is null or $3 = any(tags))
        and ($4::text is null or position($4 in search) > 0)
        and ($5::text is null or created_at > $5)
        and ($6::text is null or owner = $6)
        and ($7::text is null or (created_at, batch_id) > ($7, $8::text))
    order by created_at, batch_id
    limit $9
) batch on true
order by created_at, batch_id;

-- name: file
select * from seen
left join view_files.files on batch_id = $2 and file_id = $3 and ($1::text is null or tenant = $1);

-- name: files
-- $1 tenant, $2 batch, $3 status, $4 part of the name, $5 and $6 the cursor, $7 limit.
select *, exists (
    select from view_batches.batches where batch_id = $2 and ($1::text is null or tenant = $1)
) as batch_known
from seen left join (
    select * from view_files.files
    where batch_id = $2
        and tenant = coalesce($1, (select tenant from view_batches.batches where batch_id = $2))
        and ($3::text is null or status = $3)
        -- what these statuses say already: by it they are found among many others
        and (coalesce($3, '') not in ('failed', 'cancelled', 'rejected') or stopped_seq is not null)
        and ($4::text is null or position($4 in search) > 0)
        and ($5::int is null or (index, first_seq) > ($5, $6::bigint))
    order by index, first_seq
    limit $7
) file on true
order by index, first_seq;

-- name: quarantine
-- $1 tenant, $2 part of the name, $3 the cursor, $4 limit; newest first.
select * from seen left join (
    select * from view_files.files
    where quarantined_seq is not null
        and ($1::text is null or tenant = $1)
        and ($2::text is null or position($2 in search) > 0)
        and ($3::bigint is null or quarantined_seq < $3)
    order by quarantined_seq desc
    limit $4
) file on true
order by quarantined_seq desc;

-- name: quarantined
select count(*)::bigint as files from view_files.files
where quarantined_seq is not null and ($1::text is null or tenant = $1);

-- name: places
-- Archived is what has a source and is not in its place: the whole archive is not counted through.
with stored as (
    select file.status from view_batches.batches batch join view_files.files file using (batch_id)
    where unarchived and source_state = 'stored' and stopped_seq is null
        and ($1::text is null or batch.tenant = $1)
    union all
    select status from view_files.files
    where stopped_seq is not null and source_state = 'stored' and ($1::text is null or tenant = $1)
)
select
    (select coalesce(sum(queued + processing + waiting + retrying + completed + failed + cancelled), 0)
        from view_stats.tenants where ($1::text is null or tenant = $1))::bigint - count(*) as archived,
    count(*) filter (where status in ('completed', 'waiting')) as through
from stored;

-- name: head
with stored as (
    select file.* from view_batches.batches batch join view_files.files file using (batch_id)
    where unarchived and source_state = 'stored' and stopped_seq is null
        and ($1::text is null or batch.tenant = $1)
    union all
    select * from view_files.files
    where stopped_seq is not null and source_state = 'stored' and ($1::text is null or tenant = $1)
)
select * from stored
where status <> 'cancelled'
order by
    case when status in ('processing', 'waiting') then 0 when status = 'failed' then 2 else 1 end,
    first_seq
limit 1;

-- name: totals
select
    coalesce(sum(batches), 0)::bigint as batches,
    coalesce(sum(queued), 0)::bigint as queued,
    coalesce(sum(processing), 0)::bigint as processing,
    coalesce(sum(waiting), 0)::bigint as waiting,
    coalesce(sum(retrying), 0)::bigint as retrying,
    coalesce(sum(completed), 0)::bigint as completed,
    coalesce(sum(failed), 0)::bigint as failed,
    coalesce(sum(rejected), 0)::bigint as rejected,
    coalesce(sum(cancelled), 0)::bigint as cancelled
from view_stats.tenants
where ($1::text is null or tenant = $1);

-- name: days
-- The latest days that anything happened on, newest first.
select day,
    sum(batches)::bigint as batches,
    sum(files)::bigint as files,
    sum(completed)::bigint as completed,
    sum(failed)::bigint as failed,
    sum(rejected)::bigint as rejected,
    sum(cancelled)::bigint as cancelled,
    sum(bytes)::bigint as bytes
from view_stats.days
where ($1::text is null or tenant = $1)
group by day
order by day desc
limit $2;

-- name: durations
select day, duration_ms, sum(files)::bigint as files
from view_stats.durations
where ($1::text is null or tenant = $1) and day = any($2::text[])
group by day, duration_ms;

-- name: etas
select ratio_pct, sum(batches)::bigint as batches
from view_stats.etas
where ($1::text is null or tenant = $1) and day = any($2::text[])
group by ratio_pct;

-- name: last_minute
-- The last minute in which anything was completed.
select sum(completed)::bigint as completed, min(first_at) as first_at, max(last_at) as last_at
from view_stats.minutes
where ($1::text is null or tenant = $1)
group by minute
order by minute desc
limit 1;
