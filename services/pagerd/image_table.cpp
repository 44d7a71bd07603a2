// SPDX-License-Identifier: MIT
#include "image_table.hpp"

#include "api/pager1.hpp"
#include "stored_fds.hpp"

#include <utility>

namespace thaw::pagerd {

Result<const ImageSource*> ImageTable::acquire(const std::string& id, Fd memory, Fd map) {
    THAW_TRY(const auto identity, identify(memory.get()));
    if (const auto found = images_.find(id); found != images_.end()) {
        if (found->second.identity != identity)
            return fail_named(
                pager1::error::kImageMismatch, ESTALE,
                "image {} is in use with another memory file", id
            );
        ++found->second.users;
        return &found->second;
    }
    THAW_CHECK(store_.push(stored_name(id, FdRole::Memory), memory.get()));
    if (map) {
        if (auto pushed = store_.push(stored_name(id, FdRole::Map), map.get()); !pushed) {
            store_.remove(stored_name(id, FdRole::Memory));
            return std::unexpected(std::move(pushed).error());
        }
    }
    ImageSource image{id, std::move(memory), std::move(map), identity, 1};
    return &images_.emplace(id, std::move(image)).first->second;
}

const ImageSource* ImageTable::acquire_known(const std::string& id) {
    const auto found = images_.find(id);
    if (found == images_.end()) return nullptr;
    ++found->second.users;
    return &found->second;
}

Result<> ImageTable::adopt(const std::string& id, Fd memory, Fd map) {
    THAW_TRY(const auto identity, identify(memory.get()));
    images_.emplace(id, ImageSource{id, std::move(memory), std::move(map), identity, 0});
    return {};
}

void ImageTable::release(const ImageSource* image) {
    const auto found = images_.find(image->id);
    THAW_INVARIANT(found != images_.end() && &found->second == image && image->users > 0);
    if (--found->second.users == 0) remove(found->first);
}

void ImageTable::drop_unused() {
    for (auto next = images_.begin(); next != images_.end();) {
        const auto current = next++;
        if (current->second.users == 0) remove(current->first);
    }
}

// `id` may be the entry's own.
void ImageTable::remove(const std::string& id) {
    const auto found = images_.find(id);
    store_.remove(stored_name(id, FdRole::Memory));
    if (found->second.map) store_.remove(stored_name(id, FdRole::Map));
    images_.erase(found);
}

} // namespace thaw::pagerd
