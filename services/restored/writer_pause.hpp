// SPDX-License-Identifier: MIT
#pragma once

// Pauses the VMs that write to a full volume when the disk guardian asks for it, resumes them when
// it no longer does, and reports to it. The guardian's signals are hints; what it asks for is read.

#include "guard/guard_client.hpp"
#include "space.hpp"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace thaw::restore {

class Instance;

class WriterPause {
public:
    // `list` names all VMs on the books, `find` gives one of them or nullptr.
    WriterPause(
        guard::GuardClient& guard, std::function<std::vector<Instance*>()> list,
        std::function<Instance*(const std::string&)> find
    );

    Result<> start();
    // A VM's state, or what is at work on it, is another now.
    void look();

private:
    void on_volumes(const std::vector<guard::VolumeView>& volumes);
    // The ids of the volumes a VM writes to; asks for those that are not known yet.
    std::vector<std::string> volumes_of(const Instance& instance);
    void change(const WriterPlan::Change& change, bool pause);
    void changed(const WriterPlan::Change& change, bool pause, const Result<>& done);
    void report(const std::string& volume, const WriterPlan::Settled& settled);
    const guard::VolumeView* view_of(const std::string& volume) const;

    guard::GuardClient& guard_;
    std::function<std::vector<Instance*>()> list_;
    std::function<Instance*(const std::string&)> find_;
    guard::GuardHandle watch_;
    std::vector<guard::VolumeView> volumes_;
    std::map<std::string, std::string> volume_of_path_; // empty: none is guarded there
    std::map<std::string, guard::GuardHandle> asking_;  // by path
    std::set<std::string> busy_;                        // names of VMs that are being changed
    std::map<std::string, WriterPlan::Settled> reported_;
    std::map<std::string, guard::GuardHandle> reports_; // by volume
    bool looking_ = false;
};

} // namespace thaw::restore
