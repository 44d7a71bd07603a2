// SPDX-License-Identifier: MIT
// What the daemon exports is what dbus/interfaces says, no more and no less. With
// THAW_UPDATE_INTERFACES set the files are written instead.
#include "api/restore1.hpp"
#include "core/file.hpp"
#include "fixture.hpp"

#include <cstdlib>

namespace thaw::testing {
namespace {

// The <interface> element of that name.
std::string element(const std::string& xml, const std::string& interface) {
    const auto begin = xml.find(fmt::format(" <interface name=\"{}\">", interface));
    if (begin == std::string::npos) return "";
    constexpr std::string_view kEnd = "</interface>\n";
    return xml.substr(begin, xml.find(kEnd, begin) + kEnd.size() - begin);
}

class InterfaceTest : public RestoredTest {
protected:
    void check(const std::string& path, const std::string& interface) {
        auto reply = call(path, "org.freedesktop.DBus.Introspectable", "Introspect");
        ASSERT_TRUE(reply) << reply.error().message();
        const char* xml = nullptr;
        ASSERT_TRUE(reply->read("s", &xml));
        const auto exported = element(xml, interface);
        ASSERT_NE(exported, "") << xml;
        const auto file = fmt::format("{}/dbus/interfaces/{}.xml", SOURCE_ROOT, interface);
        if (std::getenv("THAW_UPDATE_INTERFACES") != nullptr) {
            ASSERT_TRUE(write_file_atomic(
                file, fmt::format(
                          "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection "
                          "1.0//EN\"\n"
                          "\"https://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n"
                          "<!-- SPDX-License-Identifier: MIT -->\n"
                          "<node>\n{}</node>\n",
                          exported
                      )
            ));
        }
        EXPECT_EQ(element(read_text(file), interface), exported) << file;
    }
};

TEST_F(InterfaceTest, FilesSayWhatIsExported) {
    start_daemon();
    const auto id = restore("a");
    ASSERT_TRUE(id);
    EXPECT_EQ(wait_end(*id).result, "done");
    check(restore1::kPath, restore1::kManagerInterface);
    check(fmt::format("{}/_{}", restore1::kJobPrefix, *id), restore1::kJobInterface);
    check(encode_object_path(restore1::kInstancePrefix, "a"), restore1::kInstanceInterface);
}

} // namespace
} // namespace thaw::testing
