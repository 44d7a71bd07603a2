// SPDX-License-Identifier: MIT
#include "api/pager1.hpp"
#include "manager.hpp"

int main(int argc, char** argv) {
    const thaw::DaemonSpec spec{
        .name = "thaw-pagerd",
        .description =
            "Hands the memory of restored VMs to the workers that serve their page faults.",
        .bus_name = thaw::pager1::kBusName,
        .create = [](thaw::DaemonContext context
                  ) -> thaw::Result<std::unique_ptr<thaw::DaemonService>> {
            THAW_TRY(auto loaded, thaw::pagerd::load_config());
            return std::make_unique<thaw::pagerd::Manager>(std::move(context), std::move(loaded));
        },
    };
    return thaw::run_daemon(argc, argv, spec);
}
