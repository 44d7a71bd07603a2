// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "bus/vtable.hpp"
#include "share.hpp"

namespace thaw::sharesd {

// What the properties show; each a function of the share.
struct Share::Getters {
    static std::string name(const Share& s) { return s.record_.vm; }
    static std::string tag(const Share& s) { return s.record_.tag; }
    static std::string source(const Share& s) { return s.record_.source; }
    static std::string socket(const Share& s) { return s.socket_; }
    static std::string unit(const Share& s) { return s.service_; }
    static std::string socket_unit(const Share& s) { return s.socket_unit_; }
    static std::string vm_unit(const Share& s) { return s.record_.options.vm_unit; }
    static std::string state(const Share& s) { return word(kShareStateNames, s.state_); }
    static std::string result(const Share& s) { return word(kExitClassNames, s.record_.exit); }
    static std::string error_name(const Share& s) { return s.record_.error_name; }
    static std::string error_message(const Share& s) { return s.record_.error_message; }
    static std::string dialect(const Share& s) { return word(kDialectNames, s.record_.dialect); }
    static std::string cache(const Share& s) {
        return word(kCacheModeNames, s.record_.options.cache);
    }
    static std::string sandbox(const Share& s) {
        return word(kSandboxNames, s.record_.options.sandbox);
    }
    static std::string on_loss(const Share& s) {
        return word(kOnLossNames, s.record_.options.on_loss);
    }
    static std::string handles(const Share& s) { return word(kHandleModeNames, s.record_.handles); }
    static std::string handles_reason(const Share& s) { return s.record_.handles_reason; }
    static std::string descriptor_level(const Share& s) {
        return word(kLevelNames, s.descriptor_level_);
    }
    static std::string memory_level(const Share& s) { return word(kLevelNames, s.memory_level_); }

    static std::uint64_t started(const Share& s) { return s.record_.started; }
    static std::uint64_t limit(const Share& s) { return s.record_.limit; }
    static std::uint64_t effective_limit(const Share& s) { return s.effective_limit_; }
    static std::uint64_t budget(const Share& s) { return s.budget(); }
    static std::uint64_t used(const Share& s) { return s.used_.value_or(kInfinity); }
    static std::uint64_t exhaustion(const Share& s) {
        const std::vector<Sample> samples(s.samples_.begin(), s.samples_.end());
        return forecast(samples, s.budget());
    }
    static std::uint64_t memory_high(const Share& s) { return s.record_.options.memory_high; }
    static std::uint64_t rss(const Share& s) { return s.rss_.value_or(kInfinity); }

    static bool read_only(const Share& s) { return s.record_.options.read_only; }
    static bool reconnectable(const Share& s) { return s.record_.options.reconnectable; }
    static bool degraded(const Share& s) { return s.degraded_; }

private:
    template <class Table, class E>
    static std::string word(const Table& table, E value) {
        return std::string(table.name(value));
    }
};

template <auto Text>
Result<> Share::append_text(BusMessage& reply) const {
    return reply.append("s", Text(*this).c_str());
}

template <auto Number>
Result<> Share::append_number(BusMessage& reply) const {
    return reply.append("t", Number(*this));
}

template <auto Flag>
Result<> Share::append_flag(BusMessage& reply) const {
    return reply.append("b", static_cast<int>(Flag(*this)));
}

Result<> Share::append_owner(BusMessage& reply) const {
    return reply.append("u", record_.owner);
}

Result<> Share::append_remedies(BusMessage& reply) const {
    THAW_CHECK(reply.open_container('a', "s"));
    for (const auto& word : current_remedies())
        if (auto done = reply.append("s", word.c_str()); !done) return done;
    return reply.close_container();
}

Result<> Share::append_main_pid(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(main_pid_));
}

Result<> Share::append_worker_pid(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(worker_pid_));
}

Result<> Share::append_restarts(BusMessage& reply) const {
    return reply.append("u", static_cast<std::uint32_t>(record_.restarts));
}

Result<> Share::method_remove(BusMessage message) {
    return requests_.remove(*this, std::move(message));
}

Result<> Share::method_raise_limit(BusMessage message) {
    return requests_.raise_limit(*this, std::move(message));
}

Result<> Share::method_drop_caches(BusMessage message) {
    return requests_.drop_caches(*this, std::move(message));
}

#define THAW_PROPERTY(name, type, getter, flags)                                                   \
    SD_BUS_PROPERTY(name, type, (bus_property<Share, &Share::getter>), 0, flags)
#define THAW_TEXT(name, getter, flags)                                                             \
    THAW_PROPERTY(name, "s", append_text<&Getters::getter>, flags)
#define THAW_NUMBER(name, getter, flags)                                                           \
    THAW_PROPERTY(name, "t", append_number<&Getters::getter>, flags)
#define THAW_FLAG(name, getter, flags)                                                             \
    THAW_PROPERTY(name, "b", append_flag<&Getters::getter>, flags)

const sd_bus_vtable* Share::vtable() {
    constexpr auto kFree = SD_BUS_VTABLE_UNPRIVILEGED;
    constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
    constexpr auto kEmits = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
    static const sd_bus_vtable table[] = {
        SD_BUS_VTABLE_START(0),
        THAW_TEXT("Name", name, kConst),
        THAW_TEXT("Tag", tag, kConst),
        THAW_TEXT("Source", source, kConst),
        THAW_TEXT("Socket", socket, kConst),
        THAW_TEXT("Unit", unit, kConst),
        THAW_TEXT("SocketUnit", socket_unit, kConst),
        THAW_TEXT("VmUnit", vm_unit, kConst),
        THAW_PROPERTY("Owner", "u", append_owner, kConst),
        THAW_NUMBER("StartTimestamp", started, kConst),
        THAW_TEXT("State", state, kEmits),
        THAW_TEXT("Result", result, kEmits),
        THAW_TEXT("ErrorName", error_name, kEmits),
        THAW_TEXT("ErrorMessage", error_message, kEmits),
        THAW_TEXT("Dialect", dialect, kConst),
        THAW_FLAG("ReadOnly", read_only, kConst),
        THAW_TEXT("Cache", cache, kConst),
        THAW_TEXT("Sandbox", sandbox, kConst),
        THAW_FLAG("Reconnectable", reconnectable, kConst),
        THAW_TEXT("OnLoss", on_loss, kConst),
        THAW_TEXT("InodeFileHandles", handles, kEmits),
        THAW_TEXT("FileHandlesReason", handles_reason, kEmits),
        THAW_NUMBER("LimitNOFILE", limit, kEmits),
        THAW_NUMBER("EffectiveLimit", effective_limit, kEmits),
        THAW_FLAG("Degraded", degraded, kEmits),
        THAW_NUMBER("DescriptorBudget", budget, kEmits),
        THAW_NUMBER("Descriptors", used, 0),
        THAW_TEXT("DescriptorLevel", descriptor_level, kEmits),
        THAW_NUMBER("ExhaustionUSec", exhaustion, 0),
        THAW_NUMBER("MemoryHigh", memory_high, kConst),
        THAW_NUMBER("MemoryRSS", rss, 0),
        THAW_TEXT("MemoryLevel", memory_level, kEmits),
        THAW_PROPERTY("Remedies", "as", append_remedies, kEmits),
        THAW_PROPERTY("MainPID", "u", append_main_pid, 0),
        THAW_PROPERTY("WorkerPID", "u", append_worker_pid, 0),
        THAW_PROPERTY("NRestarts", "u", append_restarts, kEmits),
        SD_BUS_METHOD_WITH_ARGS(
            "Remove", SD_BUS_ARGS("t", flags), SD_BUS_NO_RESULT,
            (bus_method<Share, &Share::method_remove>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "RaiseLimit", SD_BUS_ARGS("t", limit), SD_BUS_NO_RESULT,
            (bus_method<Share, &Share::method_raise_limit>), kFree
        ),
        SD_BUS_METHOD_WITH_ARGS(
            "DropCaches", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT,
            (bus_method<Share, &Share::method_drop_caches>), kFree
        ),
        SD_BUS_SIGNAL_WITH_ARGS(
            "LevelChanged", SD_BUS_ARGS("s", resource, "s", old, "s", new, "t", used, "t", budget),
            0
        ),
        SD_BUS_SIGNAL_WITH_ARGS("Exhausted", SD_BUS_ARGS("t", used, "t", budget), 0),
        SD_BUS_SIGNAL_WITH_ARGS(
            "Lost", SD_BUS_ARGS("s", result, "s", error_name, "s", error_message), 0
        ),
        SD_BUS_VTABLE_END,
    };
    return table;
}

} // namespace thaw::sharesd
