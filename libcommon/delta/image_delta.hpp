// SPDX-License-Identifier: MIT
#pragma once

// An image that is a difference to another one, in one file: its own pages, its manifest as the
// notes, its state. The image below is known by its id.

#include "delta/reader.hpp"
#include "image/store.hpp"

#include <string>

namespace thaw::delta {

// EINVAL for an image that is no difference. `target` as for write_delta(). Pages that are zero are
// not read.
Result<Delta> export_image(const image::OpenImage& image, int target, const Progress& progress);

// What a difference of a memory says of its image. EBADMSG unless all of it fits together.
Result<image::Manifest> image_manifest(const DeltaFile& file);

// The name of the image that the difference lies over: `preferred` where that has the id (or where
// it is given and has not: ESTALE), the name it had, else any. ENOENT with the id when there is
// none.
Result<std::string>
find_base(const image::Store& store, const image::Manifest& manifest, const std::string& preferred);

// Makes the image anew, with the id it had, over the image `base` of the store. Whether memory and
// base together are what was exported is compared before the image can be seen: ESTALE. EEXIST also
// when another image has that id.
Result<image::Manifest> import_image(
    const image::Store& store, const std::string& name, const DeltaFile& file,
    const std::string& base, const Progress& progress, image::Store::Warnings* warnings
);

} // namespace thaw::delta
