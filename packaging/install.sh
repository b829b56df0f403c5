#!/bin/sh
# Installs the single-file appliance after checking it against SHA256SUMS, or removes it again.
set -eu

name=dynamo-appliance

usage() {
    cat <<END
usage: install.sh [--from PLACE] [--to FOLDER] [--uninstall]

  --from PLACE   folder or https address that holds the executable and SHA256SUMS (the folder of this script)
  --to FOLDER    where the command goes (/usr/local/bin for root, else ~/.local/bin)
  --uninstall    remove the command; its state stays, and how to remove that is said
END
}

fail() {
    echo "error: $*" >&2
    exit 1
}

wrong() {
    echo "error: $* (see install.sh --help)" >&2
    exit 2
}

value() { # value FLAG COUNT [VALUE]
    if [ "$2" -lt 2 ] || [ -z "$3" ]; then wrong "$1 needs a value"; fi
}

default_folder() {
    if [ "$(id -u)" = 0 ]; then echo /usr/local/bin; else echo "$HOME/.local/bin"; fi
}

fetch() { # fetch FILE: from the place into the room
    case "$from" in
    https://*)
        if command -v curl >/dev/null; then
            curl --proto '=https' -fsSL -o "$room/$1" "${from%/}/$1" || fail "cannot download ${from%/}/$1"
        elif command -v wget >/dev/null; then
            wget -q -O "$room/$1" "${from%/}/$1" || fail "cannot download ${from%/}/$1"
        else
            fail "needs curl or wget to download"
        fi
        ;;
    *://*) fail "cannot fetch from $from: only https addresses and folders" ;;
    *)
        [ -r "$from/$1" ] || fail "there is no $1 in $from"
        cp "$from/$1" "$room/$1"
        ;;
    esac
}

check() { # check FILE: against the line that SHA256SUMS has for it
    grep "^[0-9a-f]\{64\}  $1\$" "$room/SHA256SUMS" >"$room/sum" || fail "SHA256SUMS has no line for $1"
    (cd "$room" && sha256sum -c sum >/dev/null 2>&1) || fail "$1 is not what SHA256SUMS says; download it again"
}

install_command() {
    [ "$(uname -s)" = Linux ] || fail "needs Linux, this is $(uname -s)"
    file="$name-linux-$(uname -m)"
    fetch SHA256SUMS
    fetch "$file"
    check "$file"
    chmod 755 "$room/$file"
    "$room/$file" version >"$room/version" 2>"$room/errors" ||
        fail "the executable does not run here: $(tail -n 1 "$room/errors")"
    mkdir -p "$to" || fail "cannot create $to"
    new="$to/.$name.new"
    cp "$room/$file" "$new" 2>/dev/null || fail "cannot write to $to; run this as root or choose another --to FOLDER"
    mv -f "$new" "$to/$name" # at once: a running appliance keeps its old file
    echo "installed $to/$name: $(head -n 1 "$room/version")"
    case ":$PATH:" in
    *":$to:"*) ;;
    *) echo "$to is not in your PATH; add it with: export PATH=\"$to:\$PATH\"" ;;
    esac
    echo "begin with: $name serve"
}

uninstall() {
    [ -e "$to/$name" ] || fail "there is no $to/$name"
    rm -f "$to/$name" || fail "cannot remove $to/$name"
    echo "removed $to/$name"
    state="${XDG_STATE_HOME:-$HOME/.local/state}/$name"
    if [ -d "$state" ]; then
        echo "models and settings of yours stay in $state; remove them with: rm -r $state"
    fi
}

from=$(cd "$(dirname "$0")" && pwd)
to=$(default_folder)
act=install_command
while [ $# -gt 0 ]; do
    case "$1" in
    --from)
        value "$1" $# "${2-}"
        from=$2
        shift 2
        ;;
    --to)
        value "$1" $# "${2-}"
        to=$2
        shift 2
        ;;
    --uninstall)
        act=uninstall
        shift
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    *) wrong "unknown argument $1" ;;
    esac
done

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
trap 'exit 130' INT TERM
"$act"
