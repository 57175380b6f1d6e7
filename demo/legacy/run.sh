#!/usr/bin/env bash
# The five scripts, one after the other, against a running Tanda: that of TANDA_URL, else that of .tanda.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python="${PYTHON:-$here/../../.venv/bin/python}"
if [ -z "${TANDA_URL:-}" ]; then
  run="${TANDA_DATA:-$here/../../.tanda}/run.json"
  [ -f "$run" ] || { echo "Nothing runs there: start it with make up, or set TANDA_URL." >&2; exit 1; }
  TANDA_URL=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["url"])' "$run")
fi
export TANDA_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$python" -c 'from pathlib import Path; from tanda.samples import write_samples; write_samples(Path("samples"))'

say() { printf '\n== %s\n' "$*"; }
say "004 universal invoices: 51 files, some of them no good"; "$here/004-universal-invoice.sh" samples/*
say "002 scheduled publications"; "$here/002-metricool.sh" samples/*.csv samples/cii_*
say "000 image workflows"; "$here/000-workflows.sh" samples/*.png samples/*.jpg samples/*.JPG
say "001 lotes"; "$here/001-lotes.sh" samples/*.csv
say "003 an image queue"; "$here/003-image-queue.sh" samples/mesa*.jpg samples/IMG_2290.JPG
