#!/usr/bin/env bash
# A cluster on this machine, to look at: two control planes over etcd and Redis, two origins, three edges, and a moving
# picture at live/demo. Ctrl-C ends all of it.
#
#   deploy/cluster.sh [WEIR]    WEIR: the binary; target/release/weir by default
set -euo pipefail
cd "$(dirname "$0")/.."

readonly WEIR=${1:-${CARGO_TARGET_DIR:-target}/release/weir}
folder=$(mktemp -d)
pids=()

finish() {
  trap - EXIT INT TERM
  # By process id; the last that was started first.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

run() { # NAME COMMAND…
  local name=$1
  shift
  "$@" >"$folder/$name.log" 2>&1 &
  pids+=($!)
}

await() { # WHAT COMMAND…
  local what=$1
  shift
  for _ in $(seq 150); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "$what did not start:" >&2
  tail -n 20 "$folder"/*.log >&2
  exit 1
}

run_of() { python3 -c "import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])" "$folder/$1/run.json" "$2"; }

etcd_client=http://127.0.0.1:$(free_port)
etcd_peer=http://127.0.0.1:$(free_port)
redis_port=$(free_port)
run etcd etcd --data-dir "$folder/etcd" --listen-client-urls "$etcd_client" --advertise-client-urls "$etcd_client" \
  --listen-peer-urls "$etcd_peer" --initial-advertise-peer-urls "$etcd_peer" --initial-cluster "default=$etcd_peer"
run redis redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$folder"
await etcd curl -fs "$etcd_client/health"
await redis bash -c "exec 3<>/dev/tcp/127.0.0.1/$redis_port"

export WEIR_CONTROL__CLUSTER__REGISTRY__ENGINE=etcd
export WEIR_CONTROL__CLUSTER__REGISTRY__ENDPOINTS="[\"$etcd_client\"]"
export WEIR_CONTROL__CLUSTER__CACHE__ENGINE=redis
export WEIR_CONTROL__CLUSTER__CACHE__URLS="[\"redis://127.0.0.1:$redis_port\"]"
for n in 1 2; do
  run "control-$n" "$WEIR" control --http 127.0.0.1:0 --grpc 127.0.0.1:0 --admin 127.0.0.1:0 --data "$folder/control-$n"
done
for n in 1 2; do await "control-$n" test -e "$folder/control-$n/run.json"; done
join=(--control "http://$(run_of control-1 grpc)" --control "http://$(run_of control-2 grpc)")

for n in 1 2; do
  run "origin-$n" "$WEIR" origin "${join[@]}" --name "origin-$n" --rtmp 127.0.0.1:0 --srt 127.0.0.1:0 --http 127.0.0.1:0 \
    --admin 127.0.0.1:0 --data "$folder/origin-$n"
done
for n in 1 2 3; do
  run "edge-$n" "$WEIR" edge "${join[@]}" --name "edge-$n" --rtmp 127.0.0.1:0 --srt 127.0.0.1:0 --http 127.0.0.1:0 \
    --admin 127.0.0.1:0 --data "$folder/edge-$n"
done
for name in origin-1 origin-2 edge-1 edge-2 edge-3; do await "$name" test -e "$folder/$name/run.json"; done

api=http://$(run_of control-1 http)
ctl=("$WEIR" ctl --api "$api" --token-file "$folder/control-1/operator.token")
nodes() { [ "$("${ctl[@]}" nodes | grep -c ready)" -eq 5 ]; }
await "the cluster" nodes

url=$("${ctl[@]}" --json publish live/demo | python3 -c 'import json,sys; print(json.load(sys.stdin)["rtmp"])')
run publisher ffmpeg -hide_banner -loglevel error -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi \
  -i sine=frequency=440 -c:v libx264 -preset ultrafast -tune zerolatency -g 60 -b:v 1M -c:a aac -f flv "$url"
live() { "${ctl[@]}" streams | grep -q live/demo; }
await "the stream" live

echo
"${ctl[@]}" nodes
echo
"${ctl[@]}" streams
echo
"${ctl[@]}" play live/demo
cat <<END

  Pages     $api/
  Watch     $api/live/demo.flv   (sends players to an edge)
  Operate   ${ctl[*]} nodes
  Logs      $folder

Ctrl-C ends it.
END
wait -n "${pids[@]}" || true
echo "one of the processes has ended; see $folder" >&2
trap 'exit 1' EXIT
exit 1
