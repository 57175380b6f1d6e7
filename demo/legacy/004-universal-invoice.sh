#!/usr/bin/env bash
# 004, universal invoices: hand over files, close the page, come back for the status.
#   004-universal-invoice.sh FILE…      with the address in TANDA_URL
set -euo pipefail
API="$TANDA_URL/universal-invoice/sessions" WHO="company_id=demo&user_id=ana"
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }

form=()
for file in "$@"; do form+=(-F "files=@$file"); done
uploaded=$(curl -sf "$API/batch-upload/?$WHO" "${form[@]}")
BATCH=$(field batch_id <<<"$uploaded")
echo "$(field message <<<"$uploaded") ($(field created_sessions <<<"$uploaded") de $(field total_files <<<"$uploaded"))"

for _ in $(seq 100); do
  status=$(curl -sf "$API/batch-status/$BATCH?$WHO")
  [ "$(field is_complete <<<"$status")" = True ] && break
  sleep 0.2
done
echo "$BATCH: $(field completed <<<"$status") completados, $(field failed <<<"$status") fallidos, $(field progress_percentage <<<"$status") %"

# Another one is cancelled; where it is through already, that is a 409.
BATCH=$(curl -sf "$API/batch-upload/?$WHO" -F "files=@$1" | field batch_id)
curl -s -o /dev/null -w 'batch-cancel: HTTP %{http_code}\n' -X POST "$API/batch-cancel/$BATCH?$WHO"
