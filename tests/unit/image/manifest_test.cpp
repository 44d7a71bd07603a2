// SPDX-License-Identifier: MIT

#include "image/manifest.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace thaw::image {
namespace {

Manifest sample() {
    Manifest manifest;
    for (std::size_t i = 0; i < manifest.id.size(); i++)
        manifest.id[i] = static_cast<std::uint8_t>(i * 17);
    manifest.vmm_version = "1.7.0";
    manifest.memory_size = 64 << 20;
    manifest.page_size = kPageSize2M;
    const std::string digest(32, 'a');
    manifest.state = {"vmstate", 100, digest};
    manifest.memory = {"memory", 64 << 20, digest};
    manifest.memory_map = {"memory.map", 1000, digest};
    manifest.drives = {{"rootfs", "disks/root.ext4", true, true}, {"data", "/srv/data.img"}};
    manifest.vsock_path = "v.sock";
    manifest.created = 1700000000000000;
    return manifest;
}

nlohmann::json sample_json() {
    return nlohmann::json::parse(format_manifest(sample()));
}

void expect_refused(const nlohmann::json& value, int code, const std::string& names) {
    const auto parsed = parse_manifest(value.dump());
    ASSERT_FALSE(parsed) << value.dump();
    EXPECT_EQ(parsed.error().code(), code) << parsed.error().message();
    EXPECT_NE(parsed.error().message().find(names), std::string::npos) << parsed.error().message();
}

TEST(Manifest, OfADifferenceNamesItsBase) {
    auto manifest = sample();
    manifest.base = BaseImage{"below", {9, 9, 9}};
    manifest.layers = manifest.memory_map;
    manifest.layers.name = "layers";
    const auto parsed = parse_manifest(format_manifest(manifest));
    ASSERT_TRUE(parsed) << parsed.error().message();
    ASSERT_TRUE(parsed->base);
    EXPECT_EQ(parsed->base->name, "below");
    EXPECT_EQ(parsed->base->id, manifest.base->id);
    EXPECT_EQ(parsed->layers.name, "layers");
    const auto good = nlohmann::json::parse(format_manifest(manifest));
    auto value = good;
    value["base"]["name"] = "../below";
    expect_refused(value, EBADMSG, "base.name");
    value = good;
    value["base"]["id"] = value["id"];
    expect_refused(value, EBADMSG, "base.id");
    value = good;
    value["files"].erase("layers");
    expect_refused(value, EBADMSG, "layers");
    value = good;
    value["files"]["layers"]["name"] = "a/b";
    expect_refused(value, EBADMSG, "files.layers.name");
    // Each of the two versions goes with its kind of image, and with no other.
    value = good;
    value["format_version"] = 1;
    expect_refused(value, EBADMSG, "does not fit");
    value = sample_json();
    value["format_version"] = 2;
    expect_refused(value, EBADMSG, "does not fit");
}

// `manifest` with a root file system of three pages.
Manifest with_rootfs(Manifest manifest) {
    const std::string digest = "00112233445566778899aabbccddeeff";
    manifest.rootfs = RootfsRecord{
        .file = {"rootfs", 3 * kPageSize4K, digest},
        .map = {"rootfs.map", 96, digest},
    };
    return manifest;
}

TEST(Manifest, OfAnImageWithARootFileSystem) {
    const auto manifest = with_rootfs(sample());
    const auto text = format_manifest(manifest);
    const auto parsed = parse_manifest(text);
    ASSERT_TRUE(parsed) << parsed.error().message();
    ASSERT_TRUE(parsed->rootfs);
    EXPECT_EQ(parsed->rootfs->file.name, "rootfs");
    EXPECT_EQ(parsed->rootfs->file.size, 3 * kPageSize4K);
    EXPECT_EQ(parsed->rootfs->map.name, "rootfs.map");
    EXPECT_EQ(parsed->rootfs->map.size, 96U);
    EXPECT_EQ(format_manifest(*parsed), text);
    const auto digest = digest_bytes(parsed->rootfs->file);
    ASSERT_TRUE(digest);
    EXPECT_EQ((*digest)[1], 0x11);
    EXPECT_EQ((*digest)[15], 0xff);
    EXPECT_FALSE(digest_bytes({"rootfs", 1, "0011"}));
    const auto good = nlohmann::json::parse(text);
    for (const std::uint64_t size : {0ULL, 1ULL, 4095ULL, 3 * 4096ULL + 512, 1ULL << 47}) {
        auto value = good;
        value["files"]["rootfs"]["file"]["size"] = size;
        expect_refused(value, EBADMSG, "files.rootfs.file.size");
    }
    for (const char* part : {"file", "map"}) {
        auto value = good;
        value["files"]["rootfs"][part]["name"] = "../rootfs";
        expect_refused(value, EBADMSG, fmt::format("files.rootfs.{}.name", part));
        value = good;
        value["files"]["rootfs"][part]["digest"] = "0011";
        expect_refused(value, EBADMSG, fmt::format("files.rootfs.{}.digest", part));
        value = good;
        value["files"]["rootfs"].erase(part);
        expect_refused(value, EBADMSG, part);
    }
    // A difference lies over the root file system of no image.
    auto difference = manifest;
    difference.base = BaseImage{"below", {9, 9, 9}};
    difference.layers = {"layers", 100, manifest.state.digest};
    expect_refused(nlohmann::json::parse(format_manifest(difference)), EBADMSG, "files.rootfs");
    difference.rootfs.reset();
    EXPECT_TRUE(check_manifest(difference));
}

TEST(Manifest, NoTwoFilesHaveOneName) {
    const auto good = nlohmann::json::parse(format_manifest(with_rootfs(sample())));
    for (const char* name : {"memory", "memory.map", "vmstate", "image.json", "working-set"}) {
        auto value = good;
        value["files"]["rootfs"]["file"]["name"] = name;
        expect_refused(value, EBADMSG, "files.rootfs.file.name");
    }
    auto value = good;
    value["files"]["memory"]["name"] = "vmstate";
    expect_refused(value, EBADMSG, "files.memory.name");
}

TEST(Manifest, TheMapsOfAnImageHaveDifferentIds) {
    const auto id = sample().id;
    EXPECT_NE(rootfs_id(id), id);
    EXPECT_EQ(rootfs_id(rootfs_id(id)), id); // so no two images share one
}

TEST(Manifest, OfARemoteImageNamesItsSource) {
    auto manifest = with_rootfs(sample());
    const std::uint64_t size = manifest.memory.size;
    manifest.source = RemoteSource{
        .memory = {"https://example.org/web/memory", {size, "\"abc\"", "Mon, 01 Jan 2024"}},
        .rootfs = RemoteFile{"file:///srv/web/rootfs", {3 * kPageSize4K, "", ""}},
    };
    const auto text = format_manifest(manifest);
    const auto parsed = parse_manifest(text);
    ASSERT_TRUE(parsed) << parsed.error().message();
    ASSERT_TRUE(parsed->source && parsed->source->rootfs);
    EXPECT_EQ(parsed->source->memory.url, "https://example.org/web/memory");
    EXPECT_EQ(parsed->source->memory.identity, manifest.source->memory.identity);
    EXPECT_EQ(path_of_url(parsed->source->rootfs->url), "/srv/web/rootfs");
    // Programs that would look for the memory in the folder must keep away.
    const auto good = nlohmann::json::parse(text);
    EXPECT_EQ(good["format_version"], 3);
    for (const int version : {1, 2}) {
        auto value = good;
        value["format_version"] = version;
        expect_refused(value, EBADMSG, "does not fit");
    }
    auto value = sample_json();
    value["format_version"] = 3;
    expect_refused(value, EBADMSG, "does not fit");
    for (const char* url :
         {"ftp://example.org/x", "", "https://example.org/a b", "file://host/x", "file:///a/../b",
          "https://x\ny"}) {
        value = good;
        value["source"]["memory"]["url"] = url;
        expect_refused(value, EBADMSG, "source.memory.url");
    }
    value = good;
    value["source"]["memory"]["length"] = size - 4096;
    expect_refused(value, EBADMSG, "source.memory.length");
    value = good;
    value["source"]["memory"]["etag"] = "a\r\nHost: b";
    expect_refused(value, EBADMSG, "source.memory");
    value = good;
    value["source"].erase("memory");
    expect_refused(value, EBADMSG, "memory");
    // The root file system is remote with the memory, and is the one that was sealed.
    value = good;
    value["source"].erase("rootfs");
    expect_refused(value, EBADMSG, "source.rootfs");
    value = good;
    value["files"].erase("rootfs");
    expect_refused(value, EBADMSG, "source.rootfs");
    value = good;
    value["source"]["rootfs"]["length"] = 2 * kPageSize4K;
    expect_refused(value, EBADMSG, "source.rootfs.length");
    manifest.base = BaseImage{"below", {9, 9, 9}};
    manifest.layers = manifest.memory_map;
    EXPECT_FALSE(check_manifest(manifest));
}

TEST(Manifest, SurvivesWritingAndReading) {
    const auto manifest = sample();
    const auto parsed = parse_manifest(format_manifest(manifest));
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(parsed->id, manifest.id);
    EXPECT_EQ(parsed->vmm, "firecracker");
    EXPECT_EQ(parsed->vmm_version, "1.7.0");
    EXPECT_EQ(parsed->memory_size, manifest.memory_size);
    EXPECT_EQ(parsed->page_size, kPageSize2M);
    EXPECT_EQ(parsed->memory.digest, manifest.memory.digest);
    EXPECT_EQ(parsed->memory_map.size, 1000U);
    ASSERT_EQ(parsed->drives.size(), 2U);
    EXPECT_EQ(parsed->drives[0].id, "rootfs");
    EXPECT_TRUE(parsed->drives[0].read_only);
    EXPECT_TRUE(parsed->drives[0].shared);
    EXPECT_EQ(parsed->drives[1].path, "/srv/data.img");
    EXPECT_FALSE(parsed->drives[1].read_only);
    EXPECT_EQ(parsed->vsock_path, "v.sock");
    EXPECT_EQ(parsed->created, manifest.created);
    EXPECT_EQ(format_manifest(*parsed), format_manifest(manifest));
}

TEST(Manifest, IgnoresUnknownMembers) {
    auto value = sample_json();
    value["note"] = "from a later version of the same format";
    EXPECT_TRUE(parse_manifest(value.dump()));
}

TEST(Manifest, RefusesUnknownFormat) {
    auto value = sample_json();
    value["format_version"] = 4;
    expect_refused(value, EPROTONOSUPPORT, "format version 4");
    value.erase("format_version");
    expect_refused(value, EBADMSG, "format_version");
}

TEST(Manifest, NamesTheBadMember) {
    for (const char* member : {"id", "memory_size", "page_size", "vmm", "files"}) {
        auto value = sample_json();
        value.erase(member);
        expect_refused(value, EBADMSG, member);
        value[member] = nlohmann::json::array({1});
        expect_refused(value, EBADMSG, member);
    }
    const auto parsed = parse_manifest("{\"format_version\": 1,");
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().code(), EBADMSG);
    EXPECT_FALSE(parse_manifest(""));
    EXPECT_FALSE(parse_manifest("[]"));
}

TEST(Manifest, RefusesWrongPageAndMemorySizes) {
    for (const std::uint64_t size : {0ULL, 1ULL, 8192ULL, 65536ULL, 1ULL << 30}) {
        auto value = sample_json();
        value["page_size"] = size;
        expect_refused(value, EBADMSG, "page_size");
    }
    for (const std::uint64_t size : {0ULL, 4096ULL, (64ULL << 20) + 4096, ~0ULL}) {
        auto value = sample_json();
        value["memory_size"] = size;
        value["files"]["memory"]["size"] = size;
        expect_refused(value, EBADMSG, "memory_size");
    }
    auto value = sample_json();
    value["files"]["memory"]["size"] = 62 << 20;
    expect_refused(value, EBADMSG, "files.memory.size");
}

TEST(Manifest, RefusesFilesOutsideTheImage) {
    for (const char* name : {"../memory", "/etc/shadow", "a/b", "", ".", "..", ".hidden", "a\nb"}) {
        for (const char* file : {"state", "memory", "memory_map"}) {
            auto value = sample_json();
            value["files"][file]["name"] = name;
            expect_refused(value, EBADMSG, fmt::format("files.{}.name", file));
        }
    }
}

TEST(Manifest, RefusesClimbingAndUnprintablePaths) {
    for (const char* path :
         {"../x", "a/../b", "/srv/../etc", "a\nExecStart=/x", "", "a/", "a/./b"}) {
        auto value = sample_json();
        value["drives"][0]["path"] = path;
        expect_refused(value, EBADMSG, "drives[0].path");
    }
    auto value = sample_json();
    value["vsock_path"] = "../v.sock";
    expect_refused(value, EBADMSG, "vsock_path");
    value["vsock_path"] = std::string(108, 'v');
    expect_refused(value, EBADMSG, "vsock_path");
}

TEST(Manifest, RefusesSharedWritableAndDuplicateDrives) {
    auto value = sample_json();
    value["drives"][0]["read_only"] = false;
    expect_refused(value, EBADMSG, "drives[0]");
    value = sample_json();
    value["drives"][1]["id"] = "rootfs";
    expect_refused(value, EBADMSG, "twice");
    value["drives"][1]["id"] = "a b";
    expect_refused(value, EBADMSG, "drives[1].id");
}

TEST(Manifest, ParsesIds) {
    EXPECT_FALSE(parse_id(""));
    EXPECT_FALSE(parse_id("00"));
    EXPECT_FALSE(parse_id(std::string(32, 'g')));
    const auto id = parse_id("000102030405060708090a0b0c0d0e0f");
    ASSERT_TRUE(id);
    EXPECT_EQ((*id)[15], 15);
    EXPECT_EQ(format_id(*id), "000102030405060708090a0b0c0d0e0f");
}

} // namespace
} // namespace thaw::image
