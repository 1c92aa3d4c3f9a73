#!/usr/bin/env bash
# Checks all that is in deploy/: the image, compose.yaml, the chart, units, nginx, alerts, the dashboard. Needs no Docker
# and no cluster; `tests/setup.sh deploy` installs what it runs.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(realpath "${CARGO_TARGET_DIR:-target}")/tools/deploy/bin
export PATH=$tools:$PATH:/usr/sbin # Debian keeps servers out of a user's PATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
  echo "lint-deploy: $*" >&2
  exit 1
}

# Quiet where nothing is wrong.
quietly() {
  "$@" >"$folder/out" 2>&1 || {
    cat "$folder/out" >&2
    fail "$*"
  }
}

# What stands in two places is the same there.
versions() {
  local rust weir
  rust=$(sed -nE 's/^channel = "(.*)"/\1/p' rust-toolchain.toml)
  grep -q "^FROM rust:$rust-" deploy/Dockerfile || fail "deploy/Dockerfile does not build with Rust $rust"
  weir=$(sed -nE '/^\[workspace.package\]/,/^$/s/^version = "(.*)"/\1/p' Cargo.toml)
  grep -qx "appVersion: \"$weir\"" deploy/helm/weir/Chart.yaml || fail "the chart's appVersion is not $weir"
}

image() {
  quietly hadolint deploy/Dockerfile
  quietly python deploy/lint/settings.py deploy/Dockerfile deploy/README.md
}

compose() {
  # With the example as it stands, and the secrets that it tells to add.
  cp deploy/.env.example "$folder/env"
  local key
  for key in $(sed -nE 's/^#   for key in (.*); do/\1/p' deploy/.env.example); do
    echo "$key=0000" >>"$folder/env"
  done
  docker-compose -f deploy/compose.yaml --env-file "$folder/env" config --format json >"$folder/compose.json" ||
    fail "deploy/compose.yaml"
  quietly python deploy/lint/settings.py "$folder/compose.json"
}

chart() {
  local values
  for values in deploy/helm/weir/values.yaml deploy/helm/weir/ci/*.yaml; do
    quietly helm lint --strict deploy/helm/weir -f "$values"
    helm template lint deploy/helm/weir --namespace media -f "$values" >"$folder/chart.yaml" || fail "$values"
    # It knows no ServiceMonitor, and says so.
    quietly kubernetes-validate --strict --quiet --no-warn "$folder/chart.yaml"
    quietly yamllint -d '{rules: {key-duplicates: enable}}' "$folder/chart.yaml"
    quietly python deploy/lint/settings.py "$folder/chart.yaml"
  done
}

units() {
  # Of the machine that this runs on nothing is wanted but systemd's own judgement.
  local unit
  mkdir "$folder/units"
  for unit in deploy/systemd/*.service; do
    sed 's#/usr/local/bin/weir#/bin/true#' "$unit" >"$folder/units/${unit##*/}"
  done
  systemd-analyze verify --man=no "$folder"/units/*.service >"$folder/out" 2>&1 || true
  # It also speaks of units that it finds on the machine, and ends well where it only ignores what it does not know.
  if grep weir "$folder/out" >&2; then fail "systemd-analyze verify"; fi
  for unit in "$folder"/units/*.service; do
    quietly systemd-analyze security --offline=yes --threshold=20 "$unit"
  done
  quietly python deploy/lint/settings.py deploy/systemd/*.toml deploy/systemd/*.service
}

nginx_conf() {
  # With a certificate of its own, as nobody: it opens no port to test.
  mkdir "$folder/nginx"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=live.example.com \
    -keyout "$folder/nginx/key.pem" -out "$folder/nginx/certificate.pem" 2>/dev/null
  sed "s#/etc/weir/#$folder/nginx/#" deploy/nginx/weir.conf >"$folder/nginx/weir.conf"
  cat >"$folder/nginx/nginx.conf" <<END
pid $folder/nginx/pid;
error_log stderr;
events {}
http {
  access_log off;
  include $folder/nginx/weir.conf;
}
END
  nginx -t -e stderr -p "$folder/nginx" -c "$folder/nginx/nginx.conf" >"$folder/out" 2>&1 &&
    ! grep -q '\[warn\]' "$folder/out" || {
    cat "$folder/out" >&2
    fail deploy/nginx/weir.conf
  }
}

alerts() {
  quietly promtool check config deploy/prometheus/prometheus.yml
  quietly promtool test rules deploy/prometheus/rules.test.yml
  quietly python deploy/lint/metrics.py deploy/prometheus/rules.yml deploy/prometheus/rules.test.yml \
    deploy/grafana/dashboards/weir.json deploy/helm/weir/templates/hpa.yaml "$folder/dashboard.yml"
  quietly promtool check rules "$folder/dashboard.yml"
}

versions
quietly yamllint -s -c deploy/lint/yamllint.yaml deploy/compose.yaml deploy/prometheus deploy/grafana deploy/lint \
  deploy/helm/weir/Chart.yaml deploy/helm/weir/values.yaml deploy/helm/weir/ci
image
compose
chart
units
nginx_conf
alerts
echo "lint-deploy: all is well"
