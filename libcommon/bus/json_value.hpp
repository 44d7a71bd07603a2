// SPDX-License-Identifier: MIT
#pragma once

// Values of a message as JSON: for programs that show whatever they are told. Strings, numbers,
// booleans; arrays and structs become arrays, dictionaries with text keys become objects, variants
// what they hold. No descriptors.

#include "bus/message.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace thaw {

// Reads one complete value of the signature `type`. EBADMSG for what is not representable and for
// values nested deeper than D-Bus allows.
Result<nlohmann::json> read_json_value(BusMessage& message, const std::string& type);
// Reads the variant at the cursor.
Result<nlohmann::json> read_json_variant(BusMessage& message);
// Reads the dictionary a{sv} at the cursor.
Result<std::map<std::string, nlohmann::json>> read_json_properties(BusMessage& message);

// The answer to ObjectManager.GetManagedObjects.
struct ManagedObject {
    std::string path;
    std::map<std::string, std::map<std::string, nlohmann::json>> interfaces;
};
Result<std::vector<ManagedObject>> read_managed_objects(BusMessage& message);

} // namespace thaw
