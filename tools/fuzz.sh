#!/usr/bin/env bash
# Fuzzes every fuzz target of the workspace, one after the other, each for
# FUZZTIME (default 10s). A find is written to the target's testdata and fails.
set -euo pipefail
time=${FUZZTIME:-10s}
cd "$(git rev-parse --show-toplevel)"
found=0
while IFS= read -r file; do
  for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$file"); do
    found=$((found + 1))
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")"
  done
done < <(git ls-files '*_test.go' | xargs grep -l '^func Fuzz')
[ "$found" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "$found fuzz targets, $time each: nothing found"
