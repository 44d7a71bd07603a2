// SPDX-License-Identifier: MIT
#include "api/shares1.hpp"
#include "manager.hpp"

int main(int argc, char** argv) {
    const thaw::DaemonSpec spec{
        .name = "thaw-sharesd",
        .description =
            "Starts and watches the virtiofs daemons that share host directories with VMs.",
        .bus_name = thaw::shares1::kBusName,
        .create = [](thaw::DaemonContext context
                  ) -> thaw::Result<std::unique_ptr<thaw::DaemonService>> {
            THAW_TRY(auto loaded, thaw::sharesd::load_config());
            return std::make_unique<thaw::sharesd::Manager>(std::move(context), std::move(loaded));
        },
    };
    return thaw::run_daemon(argc, argv, spec);
}
