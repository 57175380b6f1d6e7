#!/usr/bin/env bash
# 001, lotes: the results as one file, built once and then served as it is stored.
#   001-lotes.sh FILE…      with the address in TANDA_URL
set -euo pipefail
form=()
for file in "$@"; do form+=(-F "files=@$file"); done
LOTE=$(curl -sf "$TANDA_URL/v1/batches" "${form[@]}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')

curl -sf --retry 50 --retry-all-errors --retry-delay 1 -OJ "$TANDA_URL/download_batch_results/$LOTE"
curl -sf -D headers.txt "$TANDA_URL/download_batch_results/$LOTE" | cmp - "${LOTE}_resultados.json"
grep -i '^tanda-cache' headers.txt
python3 - "${LOTE}_resultados.json" <<'PY'
import json, sys
document = json.load(open(sys.argv[1]))
print(sys.argv[1])
for one in document["archivos_procesados"]:
    print(f"  {one['indice']:3} {one['estado']:10} {one['nombre']}")
PY
