-- Every event as its CloudEvents JSON; an inline result is left out (it is read from the log).

create table events (
    batch_id text not null,
    -- empty for an event of the batch itself
    file_id text not null,
    seq bigint not null,
    tenant text not null,
    envelope text not null
);

-- indexes
alter table events add primary key (batch_id, file_id, seq);
