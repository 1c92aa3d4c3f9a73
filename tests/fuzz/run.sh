#!/usr/bin/env bash
# Runs every fuzz target, FUZZ_JOBS at a time, and prints a line for each. Fails if one found something; the
# input that did it is named, and belongs into the target's corpus once the fault is repaired.
#
#   FUZZ_SECONDS=180 FUZZ_JOBS=2 tests/fuzz/run.sh [TARGET…]
set -euo pipefail
cd "$(dirname "$0")"

export PATH=$PATH:${XDG_CACHE_HOME:-$HOME/.cache}/weir/bin # where tests/setup.sh puts cargo-fuzz
export SECONDS_EACH=${FUZZ_SECONDS:-180}
# New inputs go here, so that the corpus in the repository stays what it is.
export FOUND=target/corpus LOGS=target/logs

cargo +nightly fuzz build --fuzz-dir . --release
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir .)

one() {
  local target=$1
  local log=$LOGS/$target.log status=0
  mkdir -p "$FOUND/$target" "$LOGS"
  # Half a gigabyte is far above what a parser may need; AddressSanitizer takes most of it.
  cargo +nightly fuzz run --fuzz-dir . --release "$target" "$FOUND/$target" "corpus/$target" -- \
    -max_total_time="$SECONDS_EACH" -rss_limit_mb=512 -timeout=10 -print_final_stats=1 >"$log" 2>&1 || status=$?
  local runs coverage artifact
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)
  if [ $status -eq 0 ]; then
    printf 'fuzz %-16s ok      %s s, %s runs, %s\n' "$target" "$SECONDS_EACH" "$runs" "$coverage"
  else
    artifact=$(grep -oE 'artifacts/[^ ]+' "$log" | tail -n 1)
    printf 'fuzz %-16s FAILED  %s (log: tests/fuzz/%s)\n' "$target" "${artifact:-see the log}" "$log"
    return 1
  fi
}
export -f one

printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_JOBS:-2}" -I{} bash -c 'one {}'
