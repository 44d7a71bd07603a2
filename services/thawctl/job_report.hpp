// SPDX-License-Identifier: MIT
#pragma once

// What thawctl says about a job it has waited for, or has only queued.

#include "job_wait.hpp"
#include "output.hpp"

#include <string>

namespace thaw::ctl {

// Makes the call and prints the number of the job.
Result<int> print_queued(Client& client, const BusMessage& call, const OutputOptions& options);
// The job's end as exit code; tells a failure on stderr. `what` was to be done, to the VM `name`
// (empty: to none that still exists).
int conclude(
    const JobOutcome& outcome, const std::string& what, const std::string& name,
    const OutputOptions& options
);

} // namespace thaw::ctl
