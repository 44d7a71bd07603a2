// SPDX-License-Identifier: MIT
#pragma once

// thawctl doctor: one function per area, each returns findings with a remedy for what is wrong.

#include "client.hpp"
#include "core/error.hpp"

#include <string>
#include <vector>

namespace thaw::ctl {

enum class Verdict { Ok, Note, Warning, Failed };

struct Finding {
    std::string check; // stable word for --json: "userfaultfd.device"
    Verdict verdict = Verdict::Ok;
    std::string detail; // what was found
    std::string remedy; // what to do; empty when there is nothing to do
};
using Findings = std::vector<Finding>;

const char* verdict_word(Verdict verdict); // "ok", "note", "warning", "failed"

void check_kernel(Findings& findings);
void check_userfaultfd(Findings& findings);
void check_io_uring(Findings& findings);
void check_memory(Findings& findings); // hugepages
void check_host(Findings& findings);   // users, groups, runtime directories, KVM
void check_images(const std::string& root, Findings& findings);
// The bus, the daemons' names, units and their limits. `client` may have failed to open.
void check_bus(Result<Client>& client, Findings& findings);
void check_units(Client& client, Findings& findings);
// What the reserves are worth now, not what was configured.
void check_reserves(Client& client, Findings& findings);

// "6.1.0-13" → {6, 1}.
struct KernelVersion {
    unsigned major = 0;
    unsigned minor = 0;
    auto operator<=>(const KernelVersion&) const = default;
};
KernelVersion parse_kernel_version(std::string_view release);

} // namespace thaw::ctl
