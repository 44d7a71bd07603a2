#!/usr/bin/fish
# SPDX-License-Identifier: MIT
# What fish offers: a command line per line of input, the words offered at its end per line of output.
source $argv[1]
while read -l line
    set -l words (complete -C "$line" | string split -f 1 \t)
    echo $words
end
