-- Files as the API shows them, and where their bytes are. Large values are JSON as text.

create table files (
    file_id text primary key,
    batch_id text not null,
    tenant text not null,
    index int not null,
    -- the position of the file's first event: the order among equal indexes
    first_seq bigint not null,
    name text not null,
    -- the name casefolded, for searching
    search text not null,
    status text not null,
    attempt int not null,
    content_type text not null,
    bytes bigint not null,
    sha256 text,
    processor text,
    error text,
    warnings text,
    queued_at text,
    started_at text,
    finished_at text,
    duration_ms bigint,
    source_state text,
    -- the source's BlobRef
    source text,
    -- the position of the FileCompleted that carries or names the result
    result_seq bigint,
    artifacts text,
    -- the position since which it is for a person to look at; indexed, which seq is not: an update that touches
    -- no indexed column writes no index
    quarantined_seq bigint,
    -- the position at which it failed, was cancelled or rejected: where its source stays, if it has one
    stopped_seq bigint,
    -- the outside provider that was called, and what it used as JSON
    provider text,
    cost text,
    -- the stored result of the same bytes was taken
    reused boolean not null,
    seq bigint not null
);

-- indexes
-- After many batches of one file each, the planner's own estimate is one row a batch, of a batch of 100,000 files
-- too: it then reads all of a batch for each row that it looks for. This is what it is to expect.
alter table files alter column batch_id set (n_distinct = -0.001);
-- room for a row's changes, which rows that a rebuild has copied seldom need
alter table files set (fillfactor = 45);
create index files_in_order on files (batch_id, index, first_seq);
-- none has a column that the outcome or the archiving of a file changes that went well: each such update would
-- write every index
create index files_stopped on files (tenant, batch_id, index, first_seq) where stopped_seq is not null;
create index files_in_quarantine on files (tenant, quarantined_seq) where quarantined_seq is not null;
