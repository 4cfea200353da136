#!/usr/bin/env bash
# Pins what the image installs, with the digest of every file: deploy/requirements-{cpu,cuda}.lock.
# PyTorch's CPU build comes from PyTorch's own index, so the cpu lock leaves out torch and the CUDA
# libraries that the build on PyPI wants.   usage: deploy/lock.sh UV
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$1
compile=("$uv" pip compile --quiet --no-config --generate-hashes --no-header --no-annotate
  --python-version 3.11 --python-platform x86_64-manylinux_2_28 pyproject.toml -)
echo hatchling | "${compile[@]}" --output-file deploy/requirements-cuda.lock
left_out=(--no-emit-package torch)
for name in $(grep -oE '^(nvidia|cuda)-[a-z0-9-]+|^triton' deploy/requirements-cuda.lock); do
  left_out+=(--no-emit-package "$name")
done
echo hatchling | "${compile[@]}" "${left_out[@]}" --constraint deploy/requirements-cuda.lock \
  --output-file deploy/requirements-cpu.lock
