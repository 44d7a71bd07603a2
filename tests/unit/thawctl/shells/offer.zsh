#!/bin/zsh -f
# SPDX-License-Identifier: MIT
# What zsh offers: a command line per line of input, the words offered at its end per line of output.
# Completion works in the line editor alone: an interactive zsh on a pseudo-terminal presses the key.
zmodload zsh/zpty zsh/zselect
answer=$(mktemp)
inner=$(mktemp)
trap 'rm -f $answer $inner' EXIT

cat >$inner <<INNER
PS1= RPS1=
setopt no_beep
autoload -Uz compinit && compinit -D -u
fpath=(${1:h} \$fpath)
autoload -Uz ${1:t} && compdef ${1:t} thawctl
# Keeps what would be offered; queries of zsh's own functions go through.
keep() {
    local -a hits
    if (( \${argv[(I)-[OAD]]} )); then
        builtin compadd "\$@"
        return
    fi
    builtin compadd -A hits "\$@"
    print -rn -- "\${hits[*]} " >>$answer
    return \$(( \${#hits} == 0 ))
}
offer() {
    functions[compadd]=\$functions[keep]
    _main_complete
    unfunction compadd
    print >>$answer
    compstate[insert]= compstate[list]=
}
zle -C offer complete-word offer
bindkey '^I' offer
print ready >>$answer
INNER

wait_for_lines() {
    local -i tries
    for (( tries = 0; tries < 1000; tries++ )); do
        (( $(wc -l <$answer) >= $1 )) && return
        zselect -t 1
    done
    print -u2 "zsh did not answer: $(zpty -r -t shell)"
    exit 1
}
zpty -b shell zsh -f -i
zpty -w shell ". $inner"
wait_for_lines 1
integer lines=1
while IFS= read -r line; do
    zpty -w -n shell $'\x15'"$line"$'\t'
    (( lines++ ))
    wait_for_lines $lines
    zpty -r -t shell >/dev/null
done
tail -n +2 $answer
