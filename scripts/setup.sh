#!/bin/bash
# SPDX-FileCopyrightText: The Isthmus Authors
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that the tests and the bench use, and says which. Their services are not started, so
# that nobody's port 80 is taken: a policy-rc.d that refuses (101) stands in for any other while apt runs and is taken
# away again. Does nothing when all programs are there.

set -euo pipefail

# Program and the packages that bring it. gcc and its headers are for the race detector, tshark for a second opinion on
# packets.
needs=(
    "nginx nginx"
    "haproxy haproxy"
    "iperf3 iperf3"
    "nft nftables"
    "ip iproute2"
    "curl curl"
    "gcc gcc libc6-dev"
    "tshark tshark"
)

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
packages=()
for need in "${needs[@]}"; do
    read -r program bring <<<"$need"
    command -v "$program" >/dev/null || packages+=($bring)
done
if [ ${#packages[@]} -eq 0 ]; then
    echo "setup: every program that the tests use is installed"
    exit 0
fi
echo "setup: the tests use Debian packages that are not installed: ${packages[*]}"

if ! command -v apt-get >/dev/null; then
    echo "setup: there is no apt-get here; install the programs of these packages by your system's means" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: only root can install them; run as root: apt-get install ${packages[*]}" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
kept=$(mktemp -d)
restore() {
    rm -f "$policy"
    if [ -e "$kept/policy" ] || [ -L "$kept/policy" ]; then mv "$kept/policy" "$policy"; fi
    rmdir "$kept"
}
trap restore EXIT
trap 'exit 130' INT TERM HUP
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$kept/policy"; fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
install=(apt-get install --yes --quiet --no-install-recommends "${packages[@]}")
# A package list that is old or was never fetched makes the first try fail.
"${install[@]}" || { apt-get update --quiet && "${install[@]}"; }
# Nor do they start at the next boot, unless somebody who wanted them had installed them before.
for service in nginx haproxy; do
    if [[ " ${packages[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
        systemctl --quiet disable "$service.service" || echo "setup: $service will start at the next boot" >&2
    fi
done
echo "setup: installed ${packages[*]}; their services were not started"
