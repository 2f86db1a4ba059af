#!/bin/sh
# Bring what `make demo` needs from the distribution: rsync, sshd, bubblewrap, Python's venv. Installs as root; says
# the command otherwise. Nothing happens when all is there.
set -eu

PYTHON="${PYTHON:-python3}"
PATH="$PATH:/usr/sbin:/sbin"
export PATH

missing=""
command -v rsync >/dev/null || missing="$missing rsync"
command -v sshd >/dev/null || missing="$missing openssh-server"
command -v ssh-keygen >/dev/null || missing="$missing openssh-client"
command -v bwrap >/dev/null || missing="$missing bubblewrap"
if command -v apt-get >/dev/null; then
    "$PYTHON" -c "import ensurepip" 2>/dev/null || missing="$missing python3-venv"
    update="apt-get update -qq"
    install="apt-get install"
    quietly="-qq -y --no-install-recommends"
elif command -v dnf >/dev/null; then
    missing=$(echo "$missing" | sed 's/openssh-client/openssh-clients/')
    update=":"
    install="dnf install"
    quietly="-q -y"
else
    update="" install="" quietly=""
fi

[ -n "$missing" ] || exit 0
if [ -z "$install" ]; then
    echo "make demo: please install:$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "make demo: something is missing, please run: sudo $install$missing" >&2
    exit 1
fi
echo "make demo: installing$missing"
case "$missing" in
*openssh-server*) echo "make demo: with openssh-server the system's own sshd may start; the demo does not use it" ;;
esac
# shellcheck disable=SC2086 # words, on purpose
DEBIAN_FRONTEND=noninteractive && export DEBIAN_FRONTEND && $update && $install $quietly $missing >/dev/null
