#!/bin/sh
# SPDX-License-Identifier: MIT
# Stands in for thawctl where completions ask it: one name of each kind, in its tables' shape.
case "$*" in
list*) echo 'web       running  small' ;;
jobs*) echo '   7 web  restore' ;;
"image list"*) echo 'small     64.0M' ;;
"rootfs list"*) echo 'overlaid  1.0G      0B' ;;
"share list"*) echo 'sharer    data     connected' ;;
df*) echo 'volume    ext4     normal' ;;
esac
