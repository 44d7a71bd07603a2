// SPDX-License-Identifier: MIT
#pragma once

// What runs in the guest for `thawctl cache warm`: a constant, so that there is nothing to quote.
// All that varies comes over standard input. Needs a POSIX sh and a tar in the guest.

#include <string_view>

namespace thaw::ctl::guest {

// Answers are lines that start so; other lines are chatter of login shells.
inline constexpr std::string_view kPrefix = "thaw-cache: ";
inline constexpr std::string_view kReady = "ready";       // send the tar stream
inline constexpr std::string_view kPresent = "present";   // an earlier run was complete
inline constexpr std::string_view kOccupied = "occupied"; // something else is there
inline constexpr std::string_view kDone = "done";         // complete and in place
inline constexpr std::string_view kFailed = "failed";     // followed by what failed

// In the copy, written last: it is complete.
inline constexpr const char* kSentinel = ".thaw-warmed";
// Last member of the stream; holds the token of this run. A cut stream lacks it.
inline constexpr const char* kEndMember = ".thaw-complete";

// One word for a transport. Standard input: destination, "warm" or "refresh", and a token, a line
// each; then, once "ready" was answered, the tar stream. The copy grows beside the destination
// under a name with the shell's pid and is renamed into place; what dead runs left goes first.
// The words hold no single quote, backslash, newline or exclamation mark, so that any login shell
// passes them on unchanged.
inline constexpr std::string_view kCommand =
    "sh -c '"
    "say() { echo \"thaw-cache: $*\"; }; "
    "die() { say failed \"$*\"; exit 1; }; "
    "IFS= read -r dest && IFS= read -r mode && IFS= read -r token || exit 1; "
    "if [ -f \"$dest/.thaw-warmed\" ]; then "
    /**/ "[ \"$mode\" = refresh ] || { say present; exit 0; }; "
    "elif [ -e \"$dest\" ] || [ -L \"$dest\" ]; then "
    /**/ "[ -d \"$dest\" ] && [ -z \"$(ls -A \"$dest\")\" ] || { say occupied; exit 1; }; "
    "fi; "
    "for old in \"$dest\".thaw-partial.* \"$dest\".thaw-old.*; do "
    /**/ "[ -d \"$old\" ] || continue; "
    /**/ "kill -0 \"${old##*.}\" 2>/dev/null || rm -rf \"$old\"; "
    "done; "
    "part=\"$dest.thaw-partial.$$\"; old=\"$dest.thaw-old.$$\"; "
    "trap \"\" HUP PIPE; "
    "clean() { rm -rf \"$part\"; }; trap clean EXIT; "
    "mkdir -p \"$part\" || die cannot make \"$part\"; "
    "say ready; "
    // Not -C: GNU tar reads escapes in its argument.
    "(cd \"$part\" && exec tar -x -o -f -) || die tar ended with $?; "
    "end=; IFS= read -r end 2>/dev/null <\"$part/.thaw-complete\"; "
    "[ -n \"$token\" ] && [ \"$end\" = \"$token\" ] || die the stream was cut off; "
    "rm -f \"$part/.thaw-complete\" && sync && "
    "echo \"$token\" >\"$part/.thaw-warmed\" || die cannot write the sentinel; "
    "if [ -e \"$dest\" ]; then mv \"$dest\" \"$old\" || die cannot move \"$dest\" away; fi; "
    "mv \"$part\" \"$dest\" || { mv \"$old\" \"$dest\" 2>/dev/null; die cannot rename; }; "
    "rm -rf \"$old\"; "
    "say done"
    "'";

} // namespace thaw::ctl::guest
