-- name: expire
delete from tanda.idempotency
where tenant = $1 and key = $2 and created_at < now() - make_interval(secs => $3);

-- name: begin
-- A row means: go ahead, with this resource id. None: somebody else was first, see ``find``.
insert into tanda.idempotency as i (tenant, key, body_sha256, resource_id, lease_until)
values ($1, $2, $3, $4, now() + make_interval(secs => $5))
on conflict (tenant, key) do update
    set lease_until = excluded.lease_until, body_sha256 = excluded.body_sha256
    where i.answer is null
        and i.lease_until <= now()
        and (i.body_sha256 is null or i.body_sha256 = excluded.body_sha256)
returning resource_id;

-- name: find
select body_sha256, answer from tanda.idempotency where tenant = $1 and key = $2;

-- name: renew
-- Not a key that was given back meanwhile: it has no body until somebody takes it again.
update tanda.idempotency set lease_until = now() + make_interval(secs => $3)
where tenant = $1 and key = $2 and answer is null and body_sha256 is not null;

-- name: finish
-- The first answer stays.
update tanda.idempotency set answer = $3 where tenant = $1 and key = $2 and answer is null;

-- name: release
-- The resource id stays: what the refused request may have begun under it is not made twice.
update tanda.idempotency set lease_until = now(), body_sha256 = null
where tenant = $1 and key = $2 and answer is null;

-- name: forget
delete from tanda.idempotency where created_at < now() - make_interval(secs => $1);

-- name: forget_lost
-- Batches that the log does not tell of any more: the same request makes them again.
delete from tanda.idempotency
where starts_with(resource_id, 'bat_')
    and not exists (select from view_batches.batches as b where b.batch_id = resource_id)
returning resource_id;
