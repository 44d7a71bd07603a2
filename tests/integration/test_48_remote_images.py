# SPDX-License-Identifier: MIT
"""Images on a web server: pushed, added, pulled and restored, with credentials by systemd and a
fetcher that may be killed at any time."""

import json

from thawlab import journal, main_pid, unit, wait_for
from thawlab.vms import VmTestCase

IMAGES = "/var/lib/thaw/images"
WEB = "/srv/web"
URL = "https://127.0.0.1:8443"
FETCHER = "thaw-fetchd.service"
FETCH_FAILED = "3a5cb35afbb94df98858834826f79052"

_NGINX = f"""user root; daemon off; pid {WEB}/nginx.pid; error_log {WEB}/error.log;
worker_processes 1;
events {{ }}
http {{
  access_log {WEB}/access.log; client_max_body_size 0; client_body_temp_path {WEB}/temp;
  default_type application/octet-stream; root {WEB}/www;
  dav_methods PUT; create_full_put_path on;
  server {{
    listen 127.0.0.1:8443 ssl http2;
    ssl_certificate {WEB}/server.pem; ssl_certificate_key {WEB}/server.key;
    location /private/ {{ auth_basic thaw; auth_basic_user_file {WEB}/htpasswd; }}
    location /slow/ {{ alias {WEB}/www/private/; limit_rate 4m; }}
  }}
}}
"""
_CERTIFICATES = f"""cd {WEB} && key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes' &&
openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj /CN=lab &&
openssl req -new $key -keyout server.key -out server.csr -subj /CN=web &&
printf 'subjectAltName=IP:127.0.0.1\\n' >server.ext &&
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile server.ext -out server.pem"""


ROOTFS = "/var/tmp/root.img"


class RemoteImages(VmTestCase):
    IMAGES = {"small": {"memory_mib": 48, "zero_percent": 30}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Of 12 MiB, the middle third a hole.
        cls.lab.run(["sh", "-c", f"head -c 4M /dev/urandom >{ROOTFS} && truncate -s 8M {ROOTFS} &&"
                                 f" head -c 4M /dev/urandom >>{ROOTFS}"], check=True)
        cls.make_image("disk", memory_mib=16, import_options=["--rootfs", ROOTFS])
        cls.lab.run(["mkdir", "-p", f"{WEB}/www", f"{WEB}/temp"], check=True)
        cls.lab.write(f"{WEB}/nginx.conf", _NGINX)
        cls.lab.write(f"{WEB}/htpasswd", "thaw:{PLAIN}secret\n")
        cls.lab.run(["sh", "-c", _CERTIFICATES], check=True)
        cls.lab.run(["systemd-run", "--unit=web", "/usr/sbin/nginx", "-c", f"{WEB}/nginx.conf"],
                    check=True)

    def setUp(self):
        super().setUp()
        self.lab.run(["sh", "-c", f"cp {WEB}/ca.pem /etc/thaw/credentials/"], check=True)
        self.credential("web", f"Url={URL}/\nCertificateAuthority=ca.pem\nUser=thaw\n"
                               "Password=secret\n")

    def tearDown(self):
        super().tearDown()
        self.lab.run(["sh", "-c", f"thawctl image rm far; rm -rf {WEB}/www/*"
                                  " /etc/thaw/credentials/*"])
        self.lab.run(["systemctl", "stop", FETCHER])

    def credential(self, name, text):
        self.lab.write(f"/etc/thaw/credentials/{name}.conf", "[Source]\n" + text, mode=0o600)
        self.lab.run(["systemctl", "stop", FETCHER])

    def thawctl(self, *words, ok=True):
        done = self.lab.run(["thawctl", *words], timeout=120)
        self.assertEqual(done.ok, ok, str(done))
        return done

    def digest(self, image, file="memory"):
        return self.lab.run(["sha256sum", f"{IMAGES}/{image}/{file}"], check=True).out.split()[0]

    def push_and_add(self, folder="/private/small", image="small"):
        self.thawctl("image", "push", image, f"{URL}/private/{image}")
        self.thawctl("image", "add-remote", "far", URL + folder)

    def spoil(self, file, page):
        """Changes one page of a file; its size and its date stay."""
        self.lab.run(["sh", "-c", f"touch -r {file} {WEB}/date && printf spoiled |"
                                  f" dd of={file} bs=4096 seek={page} conv=notrunc status=none &&"
                                  f" touch -r {WEB}/date {file}"], check=True)

    def test_push_add_pull_restore(self):
        self.push_and_add()
        shown = json.loads(self.thawctl("image", "show", "far", "--json=short").out)
        self.assertEqual(shown["source"]["memory"]["url"], f"{URL}/private/small/memory")
        self.assertFalse(self.lab.exists(f"{IMAGES}/far/memory"))
        self.thawctl("image", "pull", "far")
        self.assertEqual(self.digest("far"), self.digest("small"))
        self.profile("web", guest={"check": False})
        restored = self.restore("web", "far")
        self.assertTrue(restored.ok, str(restored))
        self.assert_memory_right("web")

    def test_root_file_system_goes_along(self):
        self.push_and_add("/private/disk", "disk")
        shown = json.loads(self.thawctl("image", "show", "far", "--json=short").out)
        self.assertEqual(shown["source"]["rootfs"]["url"], f"{URL}/private/disk/rootfs")
        self.assertFalse(self.lab.exists(f"{IMAGES}/far/rootfs"))
        self.thawctl("image", "pull", "far")
        for file in ("memory", "rootfs", "rootfs.map", "image.json"):
            self.assertEqual(self.digest("far", file), self.digest("disk", file), file)
        self.thawctl("image", "verify", "far")
        self.profile("web", guest={"check": False})
        restored = self.restore("web", "far")
        self.assertTrue(restored.ok, str(restored))
        # What runs on makes an image without one: its changes are in the VM's own overlay.
        self.thawctl("snapshot", "web", "later")
        self.addCleanup(self.lab.run, ["thawctl", "image", "rm", "later", "--force"])
        later = json.loads(self.thawctl("image", "show", "later", "--json=short").out)
        self.assertNotIn("rootfs", later["files"])

    def test_damage_of_a_root_file_system_has_its_page(self):
        self.push_and_add("/private/disk", "disk")
        self.spoil(f"{WEB}/www/private/disk/rootfs", 2100)
        refused = self.thawctl("image", "pull", "far", ok=False)
        self.assertIn("/private/disk/rootfs: rootfs: page 2100 ", refused.err)
        self.assertIn("source", json.loads(
            self.thawctl("image", "show", "far", "--json=short").out))
        self.assertFalse(self.lab.exists(f"{IMAGES}/far/rootfs"))
        # And where it is a local one.
        self.thawctl("image", "push", "disk", f"{URL}/private/disk", "--force")
        self.thawctl("image", "rm", "far")
        self.thawctl("image", "add-remote", "far", f"{URL}/private/disk")
        self.thawctl("image", "pull", "far")
        self.spoil(f"{IMAGES}/far/rootfs", 7)
        damaged = self.thawctl("image", "verify", "far", ok=False)
        self.assertIn("rootfs: page 7 ", damaged.err)
        unpushed = self.thawctl("image", "push", "far", f"{URL}/private/copy", ok=False)
        self.assertIn("rootfs: page 7 ", unpushed.err)

    def test_fetcher_is_killed_during_a_pull(self):
        self.push_and_add("/slow/small")
        self.lab.run(["systemd-run", "--unit=pull", "--property=RemainAfterExit=yes", "thawctl",
                      "image", "pull", "far"], check=True)
        self.addCleanup(self.lab.run, ["systemctl", "stop", "pull.service"])
        killed = set()
        for _ in range(2):
            pid = wait_for(lambda: (main_pid(self.lab, FETCHER) or 0) not in killed | {0} and
                           main_pid(self.lab, FETCHER), 20, "a fetcher")
            wait_for(lambda: self.lab.run(["sh", "-c", f"ls /proc/{pid}/fd | wc -l"]).out.strip()
                     > "12", 10, "its work")
            self.lab.run(["kill", "-KILL", str(pid)], check=True)
            killed.add(pid)
        state = wait_for(lambda: unit(self.lab, "pull.service", "SubState", "Result")
                         if unit(self.lab, "pull.service", "SubState")["SubState"]
                         in ("exited", "failed") else None, 60, "the end of the pull")
        self.assertEqual(state["Result"], "success",
                         self.lab.journal_text("-u", "pull", "-u", FETCHER))
        self.assertEqual(self.digest("far"), self.digest("small"))

    def test_failures_have_names_and_entries(self):
        self.push_and_add()
        self.credential("web", f"Url={URL}/\nCertificateAuthority=ca.pem\nUser=thaw\n"
                               "Password=wrong\n")
        refused = self.thawctl("image", "pull", "far", ok=False)
        self.assertIn("credentials", refused.err)
        self.credential("web", f"Url={URL}/\nUser=thaw\nPassword=secret\n")
        untrusted = self.thawctl("image", "pull", "far", ok=False)
        self.assertIn("certificate", untrusted.err)
        entries = journal(self.lab, f"MESSAGE_ID={FETCH_FAILED}")
        names = [entry["THAW_ERROR"].rsplit(".", 1)[1] for entry in entries]
        self.assertIn("SourceCredentials", names)
        self.assertIn("SourceTls", names)
        self.assertNotIn("secret", self.lab.journal_text("-u", FETCHER))

    def test_fetcher_is_confined(self):
        self.push_and_add()
        pid = main_pid(self.lab, FETCHER)
        with open(self.lab.path(f"/proc/{pid}/status"), encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
        self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(int(status["CapBnd"], 16), 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        uid = self.lab.run(["id", "-u", "thaw-fetch"], check=True).out.strip()
        self.assertEqual(set(status["Uid"].split()), {uid})
        inside = ["nsenter", "-m", "-t", str(pid), "setpriv", "--reuid", uid, "--clear-groups"]
        for path in (IMAGES, "/etc/thaw/credentials", "/root"):
            self.assertFalse(self.lab.run([*inside, "ls", path]).ok, path)
        # Who may ask: root and the pager.
        connect = ("import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)"
                   ".connect('/run/thaw/fetch/fetch.sock')")
        for user, may in (("thaw-pager", True), ("nobody", False), ("thaw-metrics", False)):
            done = self.lab.run(["setpriv", "--reuid", user, "--regid", user if may else "nogroup",
                                 "--clear-groups", "python3", "-c", connect])
            self.assertEqual(done.ok, may, f"{user}: {done}")

    def test_starts_without_any_credentials(self):
        self.lab.run(["sh", "-c", "rm -rf /etc/thaw/credentials/*"], check=True)
        self.lab.run(["systemctl", "stop", FETCHER])
        missing = self.thawctl("image", "add-remote", "far", "http://127.0.0.1:1/x", ok=False)
        self.assertIn("127.0.0.1:1", missing.err)
        self.assertEqual(unit(self.lab, FETCHER, "ActiveState")["ActiveState"], "active")
