#!/usr/bin/env bash
# 002, scheduled publications: a batch of clips for a date, its buttons, and its live stream.
#   002-metricool.sh FILE…      with the address in TANDA_URL
set -euo pipefail
API="$TANDA_URL/api/metricool"
batch() { python3 -c "import json, sys; b = json.load(sys.stdin)['batch']; print(*(b[k] for k in sys.argv[1:]))" "$@"; }

form=(-F owner=ana -F 'metadata={"jobId": "job-1", "publishMode": "scheduled", "scheduledDate": "2099-01-01T09:00:00Z"}')
for file in "$@"; do form+=(-F "files=@$file"); done
BATCH=$(curl -sf "$TANDA_URL/v1/batches" "${form[@]}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')

curl -sf "$API/batches/active?userId=ana" | python3 -c '
import json, sys
for one in json.load(sys.stdin)["batches"]:
    print(one["batchId"], one["jobId"], one["publishMode"], one["status"], one["total"], "clips, for", one["startAt"])'
for button in pause resume; do
  curl -sf -X POST "$API/batch/$BATCH/$button" | batch batchId status
done

# Published now after all: the stream tells each step to the end.
curl -sfN --max-time 60 "$API/batch/$BATCH/events" > stream.txt &
stream=$!
for _ in $(seq 100); do grep -q connected stream.txt && break; sleep 0.1; done
curl -sf -X PATCH -H 'Content-Type: application/json' -d '{"start_at": null}' "$TANDA_URL/v1/batches/$BATCH" > patched.json
for _ in $(seq 300); do grep -q '"type":"completed"' stream.txt && break; sleep 0.1; done
kill "$stream"
grep '^data: ' stream.txt | tail -n 1
curl -sf "$API/status?batchId=$BATCH" | batch batchId status published failed progress
curl -s -o /dev/null -w 'retry-failed: HTTP %{http_code}, cancel: ' -X POST "$API/batch/$BATCH/retry-failed"
curl -s -o /dev/null -w 'HTTP %{http_code}\n' -X POST "$API/batch/$BATCH/cancel"
