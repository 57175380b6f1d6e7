#!/usr/bin/env bash
# 000, image workflows: the same answer while a batch runs, when it is done, and after a reload.
#   000-workflows.sh FILE…      with the address in TANDA_URL
set -euo pipefail
form=()
for file in "$@"; do form+=(-F "files=@$file"); done
BATCH=$(curl -sf "$TANDA_URL/v1/batches" "${form[@]}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')

for _ in $(seq 100); do
  curl -sf "$TANDA_URL/batch-status/$BATCH" > status.json
  grep -q '"status":"processing","total_workflows"' status.json || break
  sleep 0.2
done
python3 - <<'PY'
import json
told = json.load(open("status.json"))
assert told["batch_id"] == told["batch_tracking_id"]
print(told["batch_id"], told["status"], told["completed_workflows"], "of", told["total_workflows"], "with", len(told["all_images"]), "images")
open("image_urls.txt", "w").write("".join(url + "\n" for url in told["image_urls"]))
PY
curl -sf "$TANDA_URL/batch-status/$BATCH" | cmp - status.json && echo "a reload shows the same"
while read -r url; do curl -sf -o image.webp "$TANDA_URL$url"; wc -c < image.webp; done < image_urls.txt
