// SPDX-License-Identifier: MIT
#include "image_table.hpp"

#include "api/pager1.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <utility>

namespace thaw::pagerd {

namespace {

// Each file that is there, with its role.
std::vector<std::pair<FdRole, int>> roles_of(const ImageFiles& files) {
    std::vector<std::pair<FdRole, int>> roles;
    const auto add = [&](FdRole role, const Fd& fd) {
        if (fd) roles.emplace_back(role, fd.get());
    };
    add(FdRole::Memory, files.memory);
    add(FdRole::Map, files.map);
    add(FdRole::Layers, files.layers);
    for (std::size_t i = 0; i < files.bases.size(); ++i)
        add(kBaseRoles.at(i), files.bases[i]);
    add(FdRole::ChunkView, files.chunk_view);
    return roles;
}

bool is_whole(const ImageFiles& files) {
    return files.memory && static_cast<bool>(files.layers) != files.bases.empty() &&
           std::ranges::all_of(files.bases, [](const Fd& base) { return static_cast<bool>(base); });
}

Result<FileIdentity> identity_of(const ImageFiles& files) {
    THAW_TRY(auto identity, identify(files.memory ? files.memory.get() : -1));
    if (files.chunk_view) identity.mtime_ns = 0; // a cache is written to
    return identity;
}

} // namespace

// A hex digit, as names in the store have them.
constexpr char kChunkedMark = 'c';
constexpr std::size_t kIdDigits = 32;

std::string image_key(const std::array<std::uint8_t, 16>& id, bool chunked) {
    std::string key = hex_encode(id.data(), id.size());
    if (chunked) key += kChunkedMark;
    return key;
}

std::optional<std::string> chunked_image(const std::string& key) {
    if (key.size() != kIdDigits + 1 || key.back() != kChunkedMark) return std::nullopt;
    return key.substr(0, kIdDigits);
}

std::size_t ImageTable::descriptors() const {
    std::size_t sum = 0;
    for (const auto& [id, image] : images_)
        sum += image.files.count();
    return sum;
}

Result<> ImageTable::store(const std::string& id, const ImageFiles& files) {
    std::vector<FdRole> done;
    for (const auto& [role, fd] : roles_of(files)) {
        auto pushed = store_.push(stored_name(id, role), fd);
        if (pushed) {
            done.push_back(role);
            continue;
        }
        for (const FdRole stored : done)
            store_.remove(stored_name(id, stored));
        return pushed;
    }
    return {};
}

void ImageTable::unstore(const std::string& id, const ImageFiles& files) {
    for (const auto& [role, fd] : roles_of(files))
        store_.remove(stored_name(id, role));
}

Result<const ImageSource*> ImageTable::acquire(const std::string& id, ImageFiles files) {
    THAW_TRY(const auto identity, identity_of(files));
    if (const auto found = images_.find(id); found != images_.end()) {
        if (found->second.identity != identity)
            return fail_named(
                pager1::error::kImageMismatch, ESTALE,
                "image {} is in use with another memory file", id
            );
        ++found->second.users;
        return &found->second;
    }
    THAW_CHECK(store(id, files));
    ImageSource image{id, std::move(files), identity, 1};
    return &images_.emplace(id, std::move(image)).first->second;
}

const ImageSource* ImageTable::acquire_known(const std::string& id) {
    const auto found = images_.find(id);
    if (found == images_.end()) return nullptr;
    ++found->second.users;
    return &found->second;
}

Result<> ImageTable::adopt(const std::string& id, std::map<FdRole, Fd>& stored) {
    ImageFiles files;
    const auto take = [&](FdRole role) {
        auto node = stored.extract(role);
        return node ? std::move(node.mapped()) : Fd();
    };
    files.memory = take(FdRole::Memory);
    files.map = take(FdRole::Map);
    files.layers = take(FdRole::Layers);
    files.chunk_view = take(FdRole::ChunkView);
    for (std::size_t i = 0; i < kBaseRoles.size(); ++i) {
        Fd base = take(kBaseRoles.at(i));
        if (!base) continue;
        files.bases.resize(i + 1);
        files.bases[i] = std::move(base);
    }
    if (roles_of(files).empty()) return {};
    auto identity = identity_of(files);
    if (!is_whole(files) || !identity) {
        unstore(id, files);
        return fail(EBADMSG, "image {}: not all of its files were kept", id);
    }
    images_.emplace(id, ImageSource{id, std::move(files), *identity, 0});
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
    unstore(id, found->second.files);
    images_.erase(found);
}

} // namespace thaw::pagerd
