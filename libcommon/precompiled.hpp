// SPDX-License-Identifier: MIT
// What most files include, for -Dprecompiled_headers=true. No file includes this one. Each file
// pays for reading all of it: nlohmann's json.hpp and gtest.h in here would cost a file that does
// not use them 0.4 and 0.2 s, and save nothing where they are used (gcc 12).
#include <fmt/format.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>
