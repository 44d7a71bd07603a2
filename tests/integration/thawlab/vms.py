# SPDX-License-Identifier: MIT
"""Base of the scenarios that restore VMs: the stand-in VMM in its unit, images, verdicts.

Firecracker cannot be installed on the test machines; the stand-in of tests/vmm takes its place in
thaw-firecracker@.service by a drop-in, so that the real unit, with its sandbox, is what runs.
"""

import http.client
import json
import socket

from .build import TEST_PROGRAMS
from .inside import busctl, escape, journal, processes, unit, vm_unit, wait_for
from .testcase import LabTestCase

STANDIN = f"{TEST_PROGRAMS}/thaw-standin-vmm"
PROFILES = "/etc/thaw-standin"
RESTORE = ("org.thaw.restore1", "/org/thaw/restore1", "org.thaw.restore1.Manager")
GUARD = ("org.thaw.diskguard1", "/org/thaw/diskguard1", "org.thaw.diskguard1.Manager")
PAGER = ("org.thaw.pager1", "/org/thaw/pager1", "org.thaw.pager1.Manager")
JOB = "org.thaw.restore1.Job"
SESSION = "org.thaw.pager1.Session"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class VmTestCase(LabTestCase):
    """Restores of stand-in VMs. A subclass names its images in IMAGES: name → --make-snapshot
    options (memory_mib=, page_size=, drive=, vsock=, ...)."""

    IMAGES = {"small": {"memory_mib": 32}}

    @classmethod
    def prepare(cls, lab):
        lab.write("/etc/systemd/system/thaw-firecracker@.service.d/10-stand-in.conf",
                  "[Service]\nExecStart=\n"
                  f"ExecStart={STANDIN} --api-sock api.sock --id %I --profile {PROFILES}/%I.json\n")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, options in cls.IMAGES.items():
            cls.make_image(name, **options)

    def setUp(self):
        super().setUp()
        self._names = []
        self._before = (set(self.sessions()), self.stored_descriptors(), len(self.workers()))

    def tearDown(self):
        for name in self._names:
            self.lab.run(["thawctl", "stop", name])
        super().tearDown()

    # ---- images and profiles ---------------------------------------------------------------------

    @classmethod
    def make_image(cls, name, *, import_options=(), **options):
        """A sealed image made from a snapshot that the stand-in writes."""
        folder = f"/var/tmp/snapshot-{name}"
        command = [STANDIN, "--make-snapshot", folder]
        for key, value in options.items():
            command += [f"--{key.replace('_', '-')}", str(value)]
        cls.lab.run(command, check=True)
        page_size = ["--page-size", "2M"] if options.get("page_size") == 2 << 20 else []
        cls.lab.run(["thawctl", "image", "import", name, "--state", f"{folder}/vmstate", "--memory",
                     f"{folder}/memory", "--vmm-version", "1.12.0", "--move", *page_size,
                     *import_options], check=True)

    def profile(self, name, **keys):
        """How the stand-in of this VM behaves (tests/vmm/README.md)."""
        self.lab.write(f"{PROFILES}/{name}.json", json.dumps(keys))
        self.addCleanup(self.lab.run, ["rm", "-f", f"{PROFILES}/{name}.json"])

    def profile_of_recordings(self, **keys):
        """The same for recording VMs, whose names nobody knows before."""
        self.profile("record", **keys)
        for job in range(1, 60):
            self.lab.run(["ln", "-sf", "record.json", f"{PROFILES}/record-{job}.json"])

    # ---- the restore manager ---------------------------------------------------------------------

    def restore(self, name, image="small", *options, backend="uffd", timeout=60.0):
        """thawctl restore; the Result. The VM is stopped at the end of the test."""
        self._names.append(name)
        return self.lab.run(["thawctl", "restore", name, image, "--memory-backend", backend,
                             *options], timeout=timeout)

    def start_job(self, name, image="small", backend="uffd"):
        """RestoreInstance without waiting; (id, object path)."""
        self._names.append(name)
        result, data = busctl(self.lab, "call", *RESTORE, "RestoreInstance", "ssa{sv}t", name,
                              image, "1", "MemoryBackend", "s", backend, "0")
        self.assertTrue(result.ok, str(result))
        return data

    def job_property(self, path, name):
        _, data = busctl(self.lab, "get-property", RESTORE[0], path, JOB, name)
        return data

    def wait_job(self, path, timeout=60.0):
        """The job's (result, error name, message) once it has ended."""
        wait_for(lambda: self.job_property(path, "Result"), timeout, f"the end of {path}")
        return tuple(self.job_property(path, p) for p in ("Result", "ErrorName", "ErrorMessage"))

    def instances(self):
        result, data = busctl(self.lab, "call", *RESTORE, "ListInstances")
        self.assertTrue(result.ok, str(result))
        return {row[0]: row for row in data[0]}

    def sessions(self):
        result, data = busctl(self.lab, "call", *PAGER, "ListSessions")
        self.assertTrue(result.ok, str(result))
        return {row[0]: row for row in data[0]}

    def session_property(self, name, prop):
        _, data = busctl(self.lab, "call", *PAGER, "GetSession", "s", name)
        if data is None:
            return None
        _, value = busctl(self.lab, "get-property", PAGER[0], data[0], SESSION, prop)
        return value

    # ---- the guest -------------------------------------------------------------------------------

    def api(self, name, method, path, body=None, timeout=60.0):
        """One request to the VM's API socket; (status, decoded body)."""
        sock = self.lab.path(f"/run/thaw/vm/{name}/api.sock")
        connection = _UnixConnection(sock, timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def start_guest(self, name, **parameters):
        status, answer = self.api(name, "PUT", "/standin/guest", parameters)
        self.assertLess(status, 300, answer)

    def assert_memory_right(self, name):
        """Touches every page of the guest's memory: each must be what it must be."""
        status, verdict = self.api(name, "PUT", "/standin/verify", {}, timeout=120)
        self.assertEqual(status, 200, verdict)
        self.assertTrue(verdict["all_equal"], verdict)
        self.assertGreater(verdict["pages"], 0)
        return verdict

    # ---- verdicts --------------------------------------------------------------------------------

    def unit(self, name):
        return vm_unit(self.lab, name)

    def assert_running(self, name):
        self.assertEqual(unit(self.lab, self.unit(name), "ActiveState")["ActiveState"], "active")
        self.assertIn(name, self.instances())

    def assert_nothing_left(self, name):
        """No unit, socket, process, descriptor, file or record of the VM."""
        escaped = escape(self.lab, name)
        service = self.unit(name)
        wait_for(lambda: unit(self.lab, service, "ActiveState")["ActiveState"]
                 in ("inactive", "failed"), 15, f"the end of {service}")
        wait_for(lambda: name not in self.sessions(), 5, f"the end of the session of {name}")
        wait_for(lambda: name not in self.instances(), 5, f"the end of the record of {name}")
        for path in (f"/run/thaw/vm/{name}", f"/run/thaw/pager/vm/{name}",
                     f"/run/thaw/restore/{escaped}.ticket", f"/run/thaw/restore/{name}.json",
                     f"/run/systemd/system/{service}.d"):
            wait_for(lambda p=path: not self.lab.exists(p), 5, f"the removal of {path}")
        wait_for(lambda: not self.vmm_processes(name), 5, f"the end of the VMM of {name}")
        wait_for(self._pager_is_as_before, 5,
                 "a pager with as many workers and stored descriptors as before the test")

    def _pager_is_as_before(self):
        sessions = set(self.sessions())
        before, stored, workers = self._before
        if sessions != before:  # other VMs run: they have one worker each
            return len(self.workers()) <= len(sessions)
        return self.stored_descriptors() <= stored and len(self.workers()) <= workers

    def vmm_processes(self, name):
        return [pid for pid, command in processes(self.lab).items()
                if STANDIN in command and f"--id {name} " in command]

    def stored_descriptors(self):
        """How many descriptors PID 1 keeps for the pager."""
        return int(unit(self.lab, "thaw-pagerd.service",
                        "NFileDescriptorStore")["NFileDescriptorStore"])

    def workers(self):
        result = self.lab.run(["pgrep", "-f", "thaw-pager-worker --session"])
        return [int(pid) for pid in result.out.split()]

    def assert_logged(self, name, text):
        """An error entry with a MESSAGE_ID about this VM that holds `text`."""
        entries = journal(self.lab, f"THAW_INSTANCE={name}", "-p", "err")
        found = [e for e in entries if text in str(e.get("MESSAGE")) and e.get("MESSAGE_ID")]
        self.assertTrue(found, [e.get("MESSAGE") for e in entries])
        return found[-1]
