# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the fetch scripts here: packages of another suite of Debian, in a folder of their
# own. apt checks their signatures as always; nothing is installed.

# The mirror this machine uses itself.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
    grep -v -e security | head -n 1)
mirror=${mirror:-$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources |
    head -n 1)}
[ -n "$mirror" ] || { echo "fetch: apt knows no mirror of Debian" >&2 && exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# fetch SUITE WORK PACKAGE...: the packages of a suite, unpacked to WORK/root. dep:NAME is the first
# that NAME depends on there.
fetch() {
    local suite=$1 work=$2
    shift 2
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/root"
    : >"$work/status"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"
    local options=(-qq
        -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache"
        -o "Dir::State::status=$work/status" -o APT::Sandbox::User=root
        # A mirror that lags behind will do for tests.
        -o Acquire::Check-Valid-Until=false
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::http::Timeout=30)
    apt-get "${options[@]}" update
    local name names=()
    for name in "$@"; do
        [ "${name#dep:}" = "$name" ] ||
            name=$(apt-cache "${options[@]}" depends "${name#dep:}" | sed -n 's/^ *Depends: //p' | head -n 1)
        names+=("$name")
    done
    (cd "$work/debs" && apt-get "${options[@]}" download "${names[@]}")
    local deb
    for deb in "$work"/debs/*.deb; do
        dpkg-deb --extract "$deb" "$work/root"
    done
    rm -rf "$work/lists" "$work/cache" "$work/debs" "$work/status" "$work/sources.list"
}
