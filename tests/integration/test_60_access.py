# SPDX-License-Identifier: MIT
"""Who may do what: polkit for the restore manager, uid 0 for the pager, the bus policy for names."""

import os
import subprocess

from thawlab import busctl, journal
from thawlab.vms import PAGER, RESTORE, VmTestCase


class Access(VmTestCase):
    """tester is in group thaw, visitor is nobody special."""

    def restore_as(self, user, name):
        self._names.append(name)
        return self.lab.run(["thawctl", "restore", name, "small", "--memory-backend", "uffd"],
                            user=user)

    def test_group_thaw_restores_and_stops_its_own(self):
        done = self.restore_as("tester", "mine")
        self.assertTrue(done.ok, str(done))
        self.assertTrue(self.lab.run(["thawctl", "stop", "mine"], user="tester").ok)
        self.assert_nothing_left("mine")

    def test_group_thaw_may_not_stop_others(self):
        self.assertTrue(self.restore("roots").ok)
        refused = self.lab.run(["thawctl", "stop", "roots"], user="tester")
        self.assertFalse(refused.ok)
        self.assert_running("roots")

    def test_visitor_is_denied(self):
        refused = self.restore_as("visitor", "not-mine")
        self.assertFalse(refused.ok)
        self.assertEqual(refused.rc, 4, "the exit code of a refusal")
        self.assertIn("needs authentication", refused.err)
        self.assert_nothing_left("not-mine")
        self.assertTrue(journal(self.lab, "_SYSTEMD_UNIT=thaw-restored.service",
                                "THAW_INSTANCE=not-mine"))

    def test_terminal_agent_is_brought_along(self):
        """On a terminal thawctl starts polkit's own agent, as systemctl does.

        That the agent registers is all that shows here: for a caller outside of a login session
        polkit 122 does not ask it, neither for systemctl.
        """
        self._names.append("asked")
        main, sub = os.openpty()
        try:
            command = self.lab.argv(["setsid", "--ctty", "--wait", "thawctl", "restore", "asked",
                                     "small"], user="visitor")
            with subprocess.Popen(command, stdin=sub, stdout=sub, stderr=sub) as process:
                self.assertEqual(process.wait(30), 4, "the exit code of a refusal")
        finally:
            os.close(sub)
            os.close(main)
        said = journal(self.lab, "_COMM=polkitd")
        self.assertTrue([e for e in said if "Registered Authentication Agent for unix-process"
                         in e["MESSAGE"] and "pkttyagent" in e["MESSAGE"]], said)
        refused = self.restore_as("visitor", "asked")
        self.assertEqual(refused.rc, 4, "without a terminal there is nobody to ask")

    def test_visitor_may_look(self):
        for arguments in ((*RESTORE, "ListInstances"), (*RESTORE, "ListJobs"),
                          (*PAGER, "ListSessions")):
            result, _ = busctl(self.lab, "call", *arguments, user="visitor")
            self.assertTrue(result.ok, str(result))

    def test_policy_is_for_admins(self):
        for user in ("tester", "visitor"):
            result, _ = busctl(self.lab, "call", *RESTORE, "SetPolicy", "sv", "Prefetch", "b",
                               "false", user=user)
            self.assertFalse(result.ok)

    def test_pager_changes_are_for_root(self):
        for user in ("tester", "visitor"):
            result, _ = busctl(self.lab, "call", *PAGER, "CloseSession", "st", "x", "0", user=user)
            self.assertIn("ccess denied", result.err.replace("AccessDenied", "access denied"))

    def test_names_cannot_be_taken(self):
        self.lab.run(["systemctl", "stop", "thaw-restored.service"], check=True)
        try:
            taken = self.lab.run(
                ["gdbus", "call", "--system", "--dest", "org.freedesktop.DBus", "--object-path",
                 "/org/freedesktop/DBus", "--method", "org.freedesktop.DBus.RequestName",
                 "org.thaw.restore1", "0"], user="tester")
            self.assertFalse(taken.ok)
        finally:
            self.lab.run(["systemctl", "start", "thaw-restored.service"], check=True)
