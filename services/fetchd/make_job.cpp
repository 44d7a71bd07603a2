// SPDX-License-Identifier: MIT
#include "file_job.hpp"
#include "get_job.hpp"
#include "put_job.hpp"

namespace thaw::fetchd {

std::unique_ptr<Job> make_job(Engine& engine, protocol::FetchMessage request, Job::Report report) {
    switch (request.type) {
    case protocol::FetchType::Probe:
        return std::make_unique<ProbeJob>(engine, std::move(request), std::move(report));
    case protocol::FetchType::Fetch:
        if (request.url.empty())
            return std::make_unique<FileJob>(engine, std::move(request), std::move(report));
        return std::make_unique<GetJob>(engine, std::move(request), std::move(report));
    case protocol::FetchType::Put:
        return std::make_unique<PutJob>(engine, std::move(request), std::move(report));
    default:
        return nullptr;
    }
}

} // namespace thaw::fetchd
