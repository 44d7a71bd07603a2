#!/bin/bash
# SPDX-License-Identifier: MIT
# What bash offers: a command line per line of input, the words offered at its end per line of output.
source "$1"
while IFS= read -r line; do
    read -r -a COMP_WORDS <<<"$line"
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _thawctl
    echo "${COMPREPLY[*]}"
done
