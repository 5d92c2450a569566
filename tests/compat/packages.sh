# shellcheck shell=bash
# Debian packages for what is missing. Sourced by tests/run and tests/compat/install, which both run under `set -euo pipefail`.
#
#   want COMMAND PACKAGE...   notes the packages unless the command is there
#   install_wanted LOG        installs what was noted, or says in one sentence why it cannot

# Debian puts games outside root's PATH, and other servers outside everybody else's.
export PATH="$PATH:/usr/games:/usr/lib/minetest:/usr/sbin"
wanted=()

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

want() {
    local command=$1
    shift
    command -v "$command" >/dev/null || wanted+=("$@")
}

install_wanted() {
    local log=$1
    [ ${#wanted[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "this system has no apt-get, install by hand what Debian calls: ${wanted[*]}"
    [ "$(id -u)" = 0 ] || fail "missing Debian packages, run this as root or first: apt-get install ${wanted[*]}"
    echo "installing ${wanted[*]}"
    # A server that is only wanted for a test must not start as a service, nor take the place of another one, as mail servers do.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    {
        apt-get update && apt-get install -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 "${wanted[@]}"
    } >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "apt-get could not install ${wanted[*]}, all of its output is in $log"; }
    wanted=()
}
