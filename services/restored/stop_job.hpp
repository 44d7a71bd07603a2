// SPDX-License-Identifier: MIT
#pragma once

// Stops a VM and takes away what its restore made.

#include "instance.hpp"
#include "job.hpp"
#include "teardown.hpp"

#include <memory>
#include <optional>

namespace thaw::restore {

class StopJob : public Job {
public:
    // `instance` outlives the job's work. Without a cause somebody asked for it.
    StopJob(
        const Context& context, const JobRecord& record, Instance& instance,
        std::optional<Failure> cause = {}
    );
    void start() override;
    // A VM that is being stopped is not brought back.
    Result<> cancel() override;

private:
    void on_undone(const Result<>& undone);

    Instance& instance_;
    std::optional<Failure> cause_;
    std::unique_ptr<Teardown> teardown_;
};

} // namespace thaw::restore
