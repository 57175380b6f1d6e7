-- name: create
insert into tanda.bulk_actions (id, run) values ($1, $2) on conflict (id) do nothing;

-- name: get
select run from tanda.bulk_actions where id = $1;

-- name: claim
-- One that runs and that nobody holds, or whose holder fell silent; two gateways never take the same.
update tanda.bulk_actions set holder = $1, lease_until = now() + make_interval(secs => $2)
where id = (
    select id from tanda.bulk_actions
    where status = 'running' and lease_until <= now()
    order by id
    limit 1
    for update skip locked
)
returning run;

-- name: keep
update tanda.bulk_actions set run = $3, lease_until = now() + make_interval(secs => $4)
where id = $1 and holder = $2 and status = 'running'
returning run;

-- name: finish
update tanda.bulk_actions set run = $3, status = 'completed'
where id = $1 and holder = $2 and status = 'running'
returning run;

-- name: abort
-- Only on top of what was read: progress that was noted meanwhile is not lost.
update tanda.bulk_actions set run = $3, status = 'aborted'
where id = $1 and run = $2 and status = 'running'
returning run;

-- name: forget
-- The lease says when somebody last worked on it: a long one is not forgotten as soon as it ends.
delete from tanda.bulk_actions where status <> 'running' and lease_until < now() - make_interval(secs => $1);
