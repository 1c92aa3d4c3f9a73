#!/usr/bin/env bash
# Makes a Debian machine ready: installs what is missing, and only that.
#
#   tests/setup.sh run     what `make run` needs: a C compiler, Node with npm, Rust
#   tests/setup.sh test    and the clients and judges that the tests use
#   tests/setup.sh bench   and the servers and load makers that the benches compare with
#   tests/setup.sh deny    cargo-deny, for `make lint`
#   tests/setup.sh fuzz    cargo-fuzz and a nightly toolchain, for `make fuzz`
#
# System packages come from apt, as root or by sudo; where neither works the missing ones are named and
# the script fails. Cargo's tools land where `cargo install` puts them, all else in the target folder.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TARGET=${CARGO_TARGET_DIR:-target}
readonly NODE_MIN=18
readonly IMAGEIO_FFMPEG=0.8.1 # carries a static ffmpeg 9
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
  local policy=/usr/sbin/policy-rc.d made=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" install -m 755 /dev/stdin "$policy"
    made=yes
  fi
  say "installing $*"
  local status=0
  "${sudo[@]}" apt-get update -q &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ||
    status=$?
  [ $made = no ] || "${sudo[@]}" rm -f "$policy"
  [ $status -eq 0 ] || die "apt-get could not install: $*"
}

install_missing() {
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
  missing=()
}

node_major() { node --version 2>/dev/null | sed -E 's/^v([0-9]+).*/\1/'; }

setup_run() {
  has cargo || die "no Rust here; see https://rustup.rs (rust-toolchain.toml picks the version)"
  need_command cc build-essential
  need_command node nodejs
  need_command npm npm
  install_missing
  [ "$(node_major)" -ge $NODE_MIN ] || die "Node $NODE_MIN or newer is needed, this is $(node --version)"
}

setup_test() {
  setup_run
  need_command c++ build-essential
  need_command ffmpeg ffmpeg
  need_command rtmpdump rtmpdump
  need_command chromium chromium
  need_command promtool prometheus
  need_command python3 python3
  need_package fonts-dejavu-core
  has python3 && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  install_missing
  setup_new_ffmpeg
}

# <target>/tools/ffmpeg9: an ffmpeg that speaks Enhanced RTMP with HEVC, AV1 and Opus.
setup_new_ffmpeg() {
  local venv=$TARGET/tools/venv link=$TARGET/tools/ffmpeg9 stamp=$TARGET/tools/imageio-ffmpeg-$IMAGEIO_FFMPEG
  [ -e "$stamp" ] && [ -x "$link" ] && return
  say "installing imageio-ffmpeg $IMAGEIO_FFMPEG into $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --disable-pip-version-check --no-input "imageio-ffmpeg==$IMAGEIO_FFMPEG"
  ln -sfn "$("$venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" "$link"
  "$link" -hide_banner -version | head -n 1
  touch "$stamp"
}

setup_bench() {
  setup_test
  need_command nginx nginx-light
  need_package libnginx-mod-rtmp
  need_command wrk wrk
  install_missing
}

setup_deny() {
  has cargo-deny && return
  say "installing cargo-deny $CARGO_DENY"
  cargo install cargo-deny --locked --version "$CARGO_DENY"
}

setup_fuzz() {
  setup_run
  rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
  has cargo-fuzz && return
  say "installing cargo-fuzz $CARGO_FUZZ"
  cargo install cargo-fuzz --locked --version "$CARGO_FUZZ"
}

case "${1:-}" in
  run | test | bench | deny | fuzz) "setup_$1" ;;
  *) die "usage: tests/setup.sh run|test|bench|deny|fuzz" ;;
esac
