# SPDX-License-Identifier: MIT
"""The kernel kills a pager worker for want of memory, on a machine with a memory controller: Linux
6.1 in user mode boots the lab's own root with its systemd."""

import re
import unittest

from thawlab import uml
from thawlab.vms import PROFILES, STANDIN, VmTestCase

WORKERS = "thaw-pager-workers.service"
# The limit is lifted after the first kill.
SCRIPT = f"""set -e
api() {{ curl -sS --max-time 60 --unix-socket /run/thaw/vm/vm/api.sock -X "$1" \
    ${{3:+-d "$3"}} "http://localhost$2"; }}
pid() {{ busctl get-property org.thaw.pager1 /org/thaw/pager1/session/vm org.thaw.pager1.Session \
    WorkerPID | cut -d' ' -f2; }}
uname -r
{STANDIN} --make-snapshot /var/tmp/snapshot --memory-mib 32 --zero-percent 20
thawctl image import small --state /var/tmp/snapshot/vmstate --memory /var/tmp/snapshot/memory \
    --vmm-version 1.12.0 --move
thawctl restore vm small --memory-backend uffd
api PUT /standin/guest '{{"pattern":"random","touches":500,"write_percent":30,"drop_every":50}}'
worker=$(pid) main=$(systemctl show -P MainPID {WORKERS})
vmm=$(systemctl show -P MainPID thaw-firecracker@vm.service)
for i in $(seq 100); do # it is moved there in the background
    grep -q {WORKERS} /proc/$worker/cgroup && break; sleep 0.1
done
group=/sys/fs/cgroup$(cut -d: -f3 /proc/$worker/cgroup)
cat /proc/$main/oom_score_adj
# Less than the buffers that Complete reads into, and enough for the unit's own process.
systemctl set-property --runtime {WORKERS} MemoryMax=$(($(cat $group/memory.current) + 262144))
thawctl complete vm --no-block || true
for i in $(seq 300); do
    grep -q '^oom_kill [1-9]' $group/memory.events && break; sleep 0.05
done
systemctl set-property --runtime {WORKERS} MemoryMax=infinity
grep '^oom_kill ' $group/memory.events
for i in $(seq 200); do
    new=$(pid); [ "$new" != 0 ] && [ "$new" != "$worker" ] && break; sleep 0.1
done
echo "worker $worker then $new"
busctl get-property org.thaw.pager1 /org/thaw/pager1/session/vm org.thaw.pager1.Session \
    WorkerRestarts | sed 's/^u /restarts /'
test "$(systemctl show -P MainPID thaw-firecracker@vm.service)" = "$vmm"
echo "unit $(systemctl show -P ActiveState {WORKERS}) $(systemctl show -P OOMPolicy {WORKERS})"
test "$(systemctl show -P MainPID {WORKERS})" = "$main"
api PUT /standin/verify '{{}}'; echo
thawctl status vm | grep -i worker || true
journalctl -q -b -o cat -u {WORKERS} -u thaw-pagerd.service | tail -15
"""


class OutOfMemory(VmTestCase):
    """memory.events and OOMPolicy= for real."""

    IMAGES = {}

    @classmethod
    def setUpClass(cls):
        folder = uml.fetch("bookworm")
        cls.MOUNTS = (uml.mount(folder),)
        super().setUpClass()

    @classmethod
    def prepare(cls, lab):
        super().prepare(lab)
        # One kill may be followed by others before the limit is lifted.
        lab.write("/etc/thaw/pagerd.conf.d/50-test.conf", "[Pager]\nWorkerRestartLimit=1000\n")
        lab.write(f"{PROFILES}/vm.json", '{"guest": {"pattern": "none"}}')

    def test_worker_killed_for_want_of_memory(self):
        status, out = uml.run_system(self.lab, SCRIPT, timeout=240)
        self.assertEqual(status, 0, out)
        self.assertRegex(out, r"(?m)^6\.1\.")
        kills = re.search(r"(?m)^oom_kill (\d+)$", out)
        self.assertGreaterEqual(int(kills[1]), 1, out)
        restarts = re.search(r"(?m)^restarts (\d+)$", out)
        self.assertGreaterEqual(int(restarts[1]), 1, out)
        self.assertRegex(out, r"(?m)^unit active continue", out)
        self.assertIn('"all_equal":true', out.replace(" ", ""), out)


if __name__ == "__main__":
    unittest.main()
