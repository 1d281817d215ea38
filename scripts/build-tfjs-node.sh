#!/usr/bin/env bash
# Builds the native binding of @tensorflow/tfjs-node inside node_modules, from package registries alone.
#
# The package's own install script downloads libtensorflow from a storage host, which a machine that reaches
# only npm and PyPI cannot do. The same library and its C headers are in the PyPI wheel of tensorflow-cpu;
# 2.15.1 speaks the C API that the binding was written for. The binding itself is compiled by node-gyp.
# Without it Foreword's TensorFlow.js runtime runs on WebAssembly, several times slower.
#
#   npm ci && npm run build:tfjs-node
#
# Needs: pip, python3, g++, make, Node's headers, 620 MB of disk, about a minute. Linux on x86-64 or arm64.
# NODE_HEADERS: the folder that holds include/node (default: beside the running node, else /usr).
# FORCE=1: build again although the binding is there and loads.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
package="$root/node_modules/@tensorflow/tfjs-node"
wheel="tensorflow-cpu==2.15.1"

fail() { echo "build-tfjs-node: $*" >&2; exit 1; }

[ -d "$package" ] || fail "$package is missing; run 'npm ci' first"
for tool in python3 pip g++ make node npx; do
  command -v "$tool" >/dev/null || fail "'$tool' is not on PATH"
done

# tfjs-node 4.22 calls two functions of node:util that Node 23 removed, so they are put back before it loads.
check() {
  (cd "$root" && TF_CPP_MIN_LOG_LEVEL=2 node -e '
    const util = require("node:util");
    util.isNullOrUndefined ??= value => value === null || value === undefined;
    util.isArray ??= Array.isArray;
    const tf = require("@tensorflow/tfjs-node");
    const sum = tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).sum().dataSync()[0];
    if (tf.getBackend() !== "tensorflow" || sum !== 12) throw new Error("the native backend does not compute");
  ')
}

# Idempotent: a binding that loads and computes is left alone.
if [ "${FORCE:-0}" != 1 ] && check >/dev/null 2>&1; then
  echo "build-tfjs-node: the native binding is there and works"
  exit 0
fi

beside="$(node -p 'require("node:path").resolve(require("node:fs").realpathSync(process.execPath), "../..")')"
headers="${NODE_HEADERS:-}"
if [ -z "$headers" ]; then
  headers=/usr
  [ -f "$beside/include/node/node_api.h" ] && headers="$beside"
fi
[ -f "$headers/include/node/node_api.h" ] ||
  fail "no $headers/include/node/node_api.h; install Node's headers, or set NODE_HEADERS to the folder above include/node"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

echo "build-tfjs-node: fetching $wheel"
# The wheel is only a container here: any Python can fetch it, whatever its own version.
pip download --quiet --no-deps --no-input --disable-pip-version-check \
  --python-version 3.11 --only-binary :all: --dest "$work" "$wheel"

# The zip module of Python's library does what unzip would, and is there wherever pip is.
python3 - "$work" <<'PYTHON'
import glob, sys, zipfile
work = sys.argv[1]
wanted = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2", "include/tensorflow/c/",
          "include/tensorflow/core/platform/", "include/tensorflow/tsl/", "include/tsl/")
with zipfile.ZipFile(glob.glob(f"{work}/*.whl")[0]) as wheel:
    names = [name for name in wheel.namelist() if name.startswith(tuple("tensorflow/" + part for part in wanted))]
    wheel.extractall(work, names)
PYTHON

# What the download of the install script would have left: deps/include and deps/lib under the linker's names.
rm -rf "$package/deps" "$package/lib" "$package/build"
mkdir -p "$package/deps/lib"
mv "$work/tensorflow/include" "$package/deps/include"
mv "$work"/tensorflow/libtensorflow_*.so.2 "$package/deps/lib/"
ln -s libtensorflow_cc.so.2 "$package/deps/lib/libtensorflow.so"
ln -s libtensorflow_cc.so.2 "$package/deps/lib/libtensorflow.so.2"
ln -s libtensorflow_framework.so.2 "$package/deps/lib/libtensorflow_framework.so"

echo "build-tfjs-node: compiling with the headers under $headers"
log="$work/node-gyp.log"
# napi-v8 is where the package looks for its binding, on every Node that speaks Node-API 8 (all since 15.12).
(cd "$package" && npx --yes node-gyp rebuild --nodedir="$headers" --module_name=tfjs_binding \
  --module_path="$package/lib/napi-v8" --napi_build_version=8) >"$log" 2>&1 ||
  { tail -n 40 "$log" >&2; fail "node-gyp failed"; }

check || fail "the binding was built but does not load"
echo "build-tfjs-node: done"
