#!/bin/sh
# Builds k8s/Dockerfile without a Docker engine and without a registry: buildah in a chroot, on a base of debootstrap.
#   apt-get install buildah debootstrap
#   k8s/build-image.sh [TAG]            as root; then: buildah push TAG docker://registry.example.org/mmflow:0.1.0
# BASE=IMAGE takes that base instead. BASE_ROOT=DIR takes a root file system that is there. BUILD_FLAGS go to buildah: -v for
# certificates and pip's settings of this network.
set -eu
cd "$(dirname "$0")/.."
tag=${1:-mmflow:0.1.0}
flags="--storage-driver ${STORAGE_DRIVER:-vfs}"
export BUILDAH_ISOLATION=chroot
if [ -z "${BASE:-}" ]; then
  root=${BASE_ROOT:-$(mktemp -d)/root}
  [ -d "$root/usr" ] || debootstrap --variant=minbase bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}"
  base=$(buildah $flags from scratch)
  buildah $flags add -q "$base" "$root" / > /dev/null
  # What a slim image leaves out.
  buildah $flags run "$base" -- sh -c 'rm -rf /var/cache/apt/* /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*'
  BASE=localhost/mmflow-base:bookworm
  buildah $flags commit -q --rm "$base" "$BASE" > /dev/null
fi
# shellcheck disable=SC2086
buildah $flags bud --ignorefile k8s/Dockerfile.dockerignore --build-arg BASE="$BASE" ${BUILD_FLAGS:-} -f k8s/Dockerfile -t "$tag" .
buildah $flags images "$tag"
