#!/usr/bin/env bash
# Proves that an executable is whole: it runs without any environment, in an empty folder, and its verbs answer.
set -euo pipefail

binary=$(realpath "${1:?usage: build/smoke.sh EXECUTABLE}")
limit_mb=60
compgen -G "$(dirname "$0")/../appliance/*/native/*.so" >/dev/null && native=yes || native=no
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"

bare() { env -i TMPDIR="$room" "$binary" "$@"; }
fail() { echo "error: $*" >&2; exit 1; }

size_mb=$(( $(stat -c %s "$binary") / 1000000 ))
[ "$size_mb" -le "$limit_mb" ] || fail "$size_mb MB is more than $limit_mb MB"

bare version >/dev/null || fail "version does not run"
bare --help >/dev/null || fail "--help does not run"
bare config explain http.port | grep -q 'any free one' || fail "the setting texts are missing"
bare models show demo | grep -q tokenizer.json || fail "the demo model is missing"
for verb in serve worker frontend chat get config keys doctor top backup restore logs indexer router; do
  bare "$verb" --help >/dev/null || fail "$verb does not load"
done
# What is compiled in the checkout must be in the executable.
if [ "$native" = yes ]; then
  bare doctor --state-dir "$room/state" >"$room/doctor" || true
  for part in 'prefix index' 'word table' 'histogram'; do
    grep -q "$part is native" "$room/doctor" || fail "the native code is missing: $part"
  done
fi
code=0
bare status --state-dir "$room/state" 2>/dev/null || code=$?
[ "$code" = 3 ] || fail "status without an appliance ends with $code, not 3"

# A real start: every role, engine and server in the executable must import and work.
answer=$(bare chat --prompt 'What is a KV cache?' --temperature 0 2>"$room/log") || fail "chat fails: $(tail -n 1 "$room/log")"
[ -n "$answer" ] || fail "the demo model says nothing"

left=$(find "$room" -maxdepth 1 -name '_MEI*' | wc -l)
[ "$left" = 0 ] || fail "$left unpack folders were left behind"
echo "ok: $binary, $size_mb MB"
