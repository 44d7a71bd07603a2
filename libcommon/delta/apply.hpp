// SPDX-License-Identifier: MIT
#pragma once

// Lays a difference over its base.

#include "delta/reader.hpp"

namespace thaw::delta {

// Fills `target`, an empty file, with what the base and the difference give together. `base` is -1
// where the difference lies over nothing. The base is copied as a reflink where that works, holes
// stay holes. The caller has compared the base (check_base()) and throws the target away when this
// fails. Progress counts bytes of base and data.
Result<> apply_to_new(const DeltaFile& delta, int base, int target, const Progress& progress);

// Changes `target`, which is the base itself. All data are checked before the first is written; an
// error after that leaves a mix, and calling it again mends that.
Result<> apply_in_place(const DeltaFile& delta, int target, const Progress& progress);

} // namespace thaw::delta
