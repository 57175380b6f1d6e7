-- Batches as the API shows them. Times are RFC 3339 text of fixed width: they sort, and stay exact.

create table batches (
    batch_id text primary key,
    tenant text not null,
    name text not null,
    -- the name casefolded, for searching
    search text not null,
    processor text not null,
    priority text not null,
    -- JSON as text: jsonb refuses the escape \u0000, which a user's metadata may hold
    metadata text not null,
    tags text[] not null,
    owner text,
    -- its own limit
    files_at_once int,
    created_at text not null,
    start_at text,
    expires_at text,
    sealed_at text,
    started_at text,
    paused_at text,
    completed_at text,
    cancelled_at text,
    retried_at text,
    -- files of the latest retry
    retried int not null,
    total int not null,
    queued int not null,
    processing int not null,
    waiting int not null,
    retrying int not null,
    completed int not null,
    failed int not null,
    rejected int not null,
    cancelled int not null,
    -- of the sources
    bytes bigint not null,
    -- what its files are expected to cost, and what of that is settled
    effort bigint not null,
    effort_done bigint not null,
    -- how often its files were completed, a retried one each time, and sources that were archived since
    completions int not null,
    archived int not null,
    results_version int not null,
    -- the result's BlobRef as JSON
    results text,
    seq bigint not null,
    status text not null generated always as (
        case
            when cancelled_at is not null then 'cancelled'
            when completed_at is not null and completed = total then 'completed'
            when completed_at is not null and completed > 0 then 'completed_with_errors'
            when completed_at is not null then 'failed'
            when paused_at is not null then 'paused'
            when sealed_at is null then 'open'
            when started_at is not null or retried_at is not null then 'processing'
            else 'queued'
        end
    ) stored,
    -- whether a source may be in its place of a file that has not failed and was not cancelled
    unarchived boolean not null generated always as (
        queued + processing + waiting + retrying > 0 or completions <> archived
    ) stored
) with (fillfactor = 70);

-- indexes
create index batches_by_tenant on batches (tenant, created_at, batch_id);
create index batches_by_time on batches (created_at, batch_id);
create index batches_by_owner on batches (tenant, owner, created_at, batch_id) where owner is not null;
create index batches_active on batches (tenant, created_at, batch_id)
    where status in ('open', 'queued', 'processing', 'paused');
-- what a person looks for among many that went well, and what these never come into
create index batches_ended_badly on batches (tenant, created_at, batch_id)
    where status in ('completed_with_errors', 'failed', 'cancelled');
create index batches_unarchived on batches (tenant) where unarchived;
