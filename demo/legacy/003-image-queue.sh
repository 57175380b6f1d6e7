#!/usr/bin/env bash
# 003, one machine's image queue: its state, and the operator's way out where an image is stuck.
#   003-image-queue.sh FILE…      with the address in TANDA_URL
set -euo pipefail
state() {
  curl -sf -H 'Tanda-Tenant: camera' "$TANDA_URL/processing_status" | python3 -c '
import json, sys
told = json.load(sys.stdin)
print(*(f"{name}={told[name]}" for name in told if name != "system"))'
}
add() { curl -sf -H 'Tanda-Tenant: camera' -o added.json "$TANDA_URL/v1/batches" "$@"; }

for file in "$@"; do add -F "files=@$file"; done
for _ in $(seq 100); do state | grep -q 'current_image=None' && break; sleep 0.2; done
state

# One that is not to be processed for a long time: stuck, as far as its queue is concerned.
add -F "files=@$1" -F start_at=2099-01-01T00:00:00Z
for _ in $(seq 100); do state | grep -q 'current_image=None' || break; sleep 0.1; done
state
curl -sf -X POST -H 'Tanda-Tenant: camera' -H 'Tanda-Actor: Ana' -H 'Content-Type: application/json' \
  -d '{"reason": "La cámara falló"}' "$TANDA_URL/force_archive_image" && echo
curl -s -o /dev/null -w 'and with none left: HTTP %{http_code}\n' -X POST -H 'Tanda-Tenant: camera' "$TANDA_URL/force_archive_image"
