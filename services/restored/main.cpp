// SPDX-License-Identifier: MIT
#include "api/restore1.hpp"
#include "config.hpp"
#include "daemon/daemon.hpp"
#include "manager.hpp"

namespace {

using namespace thaw;

Result<std::unique_ptr<DaemonService>> create_service(const DaemonContext& context) {
    std::vector<ConfigWarning> warnings;
    THAW_TRY(const auto config, restore::read_restored_config(&warnings));
    log_config_warnings(warnings);
    THAW_TRY(auto manager, restore::Manager::create(context, config));
    return manager;
}

} // namespace

int main(int argc, char** argv) {
    return run_daemon(
        argc, argv,
        {
            .name = "thaw-restored",
            .description = "Restores microVMs from snapshots, and stops what cannot be restored.",
            .bus_name = restore1::kBusName,
            .create = create_service,
        }
    );
}
