// SPDX-License-Identifier: MIT
#pragma once

// A base, a disk made of it by random changes, and the difference between them.

#include "../support/temporary_directory.hpp"
#include "core/fd.hpp"
#include "delta/apply.hpp"
#include "delta/base.hpp"
#include "delta/output_file.hpp"

#include <random>
#include <string>
#include <vector>

namespace thaw::delta::test {

using Bytes = std::vector<std::byte>;

struct ModelOptions {
    std::uint64_t base_size = 40 * 4096;
    std::uint64_t size = 40 * 4096;
    std::uint32_t block_size = 4096;
    double dirty = 0.3; // share of blocks
    double zero = 0.3;  // of those
    // Dirty blocks come in runs of up to so many.
    unsigned run = 6;
    DeltaKind kind = DeltaKind::Disk;
};

// Everything in memory: `disk` is what base and difference must give.
struct Model {
    ModelOptions options;
    Bytes base;
    Bytes disk;
    Fd blocks; // where the changed blocks lie, in no order
    std::vector<SourceRun> sources;

    Model(const ModelOptions& options, std::mt19937_64& random);
    Delta description() const; // base by its content
};

Bytes contents(const std::string& path);
std::string write_file(const std::string& path, std::span<const std::byte> bytes);
// Writes the difference of the model to `path`.
Result<Delta> save(const Model& model, const std::string& path);
Fd open_read(const std::string& path);

} // namespace thaw::delta::test
