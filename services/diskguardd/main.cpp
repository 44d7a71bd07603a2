// SPDX-License-Identifier: MIT
#include "api/diskguard1.hpp"
#include "manager.hpp"

int main(int argc, char** argv) {
    const thaw::DaemonSpec spec{
        .name = "thaw-diskguardd",
        .description = "Keeps full disks recoverable: reserves, promises of space, levels.",
        .bus_name = thaw::diskguard1::kBusName,
        .create = [](thaw::DaemonContext context
                  ) -> thaw::Result<std::unique_ptr<thaw::DaemonService>> {
            THAW_TRY(auto loaded, thaw::diskguard::load_config());
            THAW_TRY(
                auto manager,
                thaw::diskguard::Manager::create(std::move(context), std::move(loaded))
            );
            return manager;
        },
    };
    return thaw::run_daemon(argc, argv, spec);
}
