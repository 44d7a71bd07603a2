# SPDX-License-Identifier: MIT
"""A web server in a lab, that keeps images and takes them by PUT."""

from .inside import wait_for

WEB = "/srv/web"
URL = "http://127.0.0.1:8081"

_NGINX = f"""user root; daemon off; pid {WEB}/nginx.pid; error_log {WEB}/error.log;
worker_processes 1;
events {{ }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {WEB}/temp;
  default_type application/octet-stream; root {WEB}/www;
  dav_methods PUT; create_full_put_path on;
  server {{
    listen 127.0.0.1:8081;
    location /slow/ {{ alias {WEB}/www/quick/; limit_rate 6m; }}
  }}
}}
"""


def prepare_web(lab):
    """Writes its settings and starts it. What is below /quick/ there comes slowly from /slow/."""
    lab.run(["mkdir", "-p", f"{WEB}/www", f"{WEB}/temp"], check=True)
    lab.write(f"{WEB}/nginx.conf", _NGINX)
    start_web(lab)


def start_web(lab):
    lab.run(["systemd-run", "--collect", "--unit=web", "/usr/sbin/nginx", "-c",
             f"{WEB}/nginx.conf"], check=True)
    wait_for(lambda: lab.run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081"]).ok, 10, "nginx")


def stop_web(lab):
    lab.run(["systemctl", "stop", "web.service"], check=True)
