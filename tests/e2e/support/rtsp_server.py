"""A real RTSP server (GStreamer's) for the stories of pulls.

usage: rtsp_server.py PORT LOGIN MOUNT LAUNCH [MOUNT LAUNCH ...]

PORT 0 takes a free one. LOGIN is user:password, asked for by Digest, or - for none. Each MOUNT is a path and LAUNCH what
is served there, in the language of gst-launch. Prints `ready PORT` once it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ROLE = "viewer"


def login(server, user, password):
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE)
    auth.add_digest(user, password, token)
    server.set_auth(auth)


def main():
    port, credentials, *mounts = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    if credentials != "-":
        login(server, *credentials.split(":", 1))
    for path, launch in zip(mounts[::2], mounts[1::2]):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {launch} )")
        factory.set_latency(0)
        permissions = GstRtspServer.RTSPPermissions()
        for permission in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role(ROLE, permission, True)
        factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)
    server.connect("client-connected", lambda _, client: print("connected", flush=True))
    loop = GLib.MainLoop()
    # Dropping what this returns would stop the server.
    attached = server.attach(None)
    print("ready", server.get_bound_port(), flush=True)
    loop.run()
    return attached


if __name__ == "__main__":
    main()
