// SPDX-License-Identifier: MIT
// Objects that we export, their signals, and the coding of their paths.
#include "bus/bus_slot_state.hpp"

#include <cstdlib>

namespace thaw {

Result<BusSlot> Bus::add_object(
    const std::string& path, const std::string& interface, const sd_bus_vtable* vtable,
    void* userdata
) {
    auto state = std::make_shared<BusSlot::State>();
    THAW_CHECK(from_errno(
        sd_bus_add_object_vtable(
            bus_, &state->slot, path.c_str(), interface.c_str(), vtable, userdata
        ),
        "add object"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_objects(
    const std::string& prefix, const std::string& interface, const sd_bus_vtable* vtable,
    FindObject find
) {
    auto state = std::make_shared<BusSlot::State>();
    state->find = std::move(find);
    THAW_CHECK(from_errno(
        sd_bus_add_fallback_vtable(
            bus_, &state->slot, prefix.c_str(), interface.c_str(), vtable,
            BusSlot::State::find_object, state.get()
        ),
        "add objects"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_enumerator(const std::string& prefix, ListObjects list) {
    auto state = std::make_shared<BusSlot::State>();
    state->list = std::move(list);
    THAW_CHECK(from_errno(
        sd_bus_add_node_enumerator(
            bus_, &state->slot, prefix.c_str(), BusSlot::State::list_objects, state.get()
        ),
        "add enumerator"
    ));
    return BusSlot(std::move(state));
}

Result<BusSlot> Bus::add_object_manager(const std::string& path) {
    auto state = std::make_shared<BusSlot::State>();
    THAW_CHECK(
        from_errno(sd_bus_add_object_manager(bus_, &state->slot, path.c_str()), "add manager")
    );
    return BusSlot(std::move(state));
}

Result<> Bus::emit_properties_changed(
    const std::string& path, const std::string& interface, std::vector<std::string> properties
) {
    std::vector<char*> names;
    names.reserve(properties.size() + 1);
    for (auto& property : properties)
        names.push_back(property.data());
    names.push_back(nullptr);
    return from_errno(
        sd_bus_emit_properties_changed_strv(bus_, path.c_str(), interface.c_str(), names.data()),
        "emit PropertiesChanged"
    );
}

Result<> Bus::emit_object_added(const std::string& path) {
    return from_errno(sd_bus_emit_object_added(bus_, path.c_str()), "emit InterfacesAdded");
}

Result<> Bus::emit_object_removed(const std::string& path) {
    return from_errno(sd_bus_emit_object_removed(bus_, path.c_str()), "emit InterfacesRemoved");
}

std::string encode_object_path(const std::string& prefix, std::string_view name) {
    char* path = nullptr;
    const int r = sd_bus_path_encode(prefix.c_str(), std::string(name).c_str(), &path);
    THAW_INVARIANT(r >= 0);
    std::string result = path;
    free(path);
    return result;
}

Result<std::string> decode_object_path(const std::string& prefix, const std::string& path) {
    // sd-bus takes the prefix itself and deeper paths too.
    if (path.size() <= prefix.size() || path.find('/', prefix.size() + 1) != std::string::npos)
        return fail(EINVAL, "{} is no child of {}", path, prefix);
    char* name = nullptr;
    const int r = sd_bus_path_decode(path.c_str(), prefix.c_str(), &name);
    if (r < 0) return fail_errno(-r, "decode object path {}", path);
    if (r == 0) return fail(EINVAL, "{} is no child of {}", path, prefix);
    std::string result = name;
    free(name);
    return result;
}

} // namespace thaw
