"""A real RTSP server for tests, run by /usr/bin/python3, which has GStreamer's bindings.

    /usr/bin/python3 tests/helpers/rtsp_server.py PORT [--user NAME --password PASSWORD] [--file FILE] [--size WxH]
        [--pattern NAME] [--basic] [--fps N] [--bitrate KBIT] [--udp]

Serves `/live` and says `ready PORT` when it listens; port 0 takes a free one. What it shows is GStreamer's test
picture NAME with the time (default: a moving ball), or FILE (MP4 with H.264) once per client. It reads commands
from its standard input: `size WxH` changes the picture's size while clients watch.
"""

import argparse
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--basic", action="store_true", help="basic authentication instead of digest")
    parser.add_argument("--file")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--pattern", default="ball", help="as videotestsrc calls it")
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--bitrate", type=int, default=500)
    parser.add_argument("--udp", action="store_true")
    args = parser.parse_args()
    Gst.init(None)

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {pipeline(args)} )")
    factory.set_shared(True)
    lower = GstRtsp.RTSPLowerTrans
    factory.set_protocols(lower.UDP if args.udp else lower.TCP)
    medias = []
    factory.connect("media-configure", lambda _, media: medias.append(media))

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    if args.user:
        server.set_auth(authentication(factory, args))
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    say(f"ready {server.get_bound_port()}")

    loop = GLib.MainLoop()
    threading.Thread(target=obey, args=(medias, loop), daemon=True).start()
    loop.run()


def pipeline(args):
    pay = "rtph264pay name=pay0 pt=96 config-interval=-1"
    if args.file:
        return f"filesrc location={args.file} ! qtdemux ! h264parse ! {pay}"
    w, h = args.size.split("x")
    return (
        f"videotestsrc is-live=true pattern={args.pattern} ! video/x-raw,framerate={args.fps}/1 ! videoscale ! "
        f"capsfilter name=size caps=video/x-raw,width={w},height={h} ! timeoverlay ! videoconvert ! "
        f"x264enc tune=zerolatency speed-preset=ultrafast bitrate={args.bitrate} key-int-max={args.fps} ! {pay}"
    )


def authentication(factory, args):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    if args.basic:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(args.user, args.password), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(args.user, args.password, token)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
    permissions.add_permission_for_role("viewer", GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
    factory.set_permissions(permissions)
    return auth


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def obey(medias, loop):
    for line in sys.stdin:
        command, _, value = line.strip().partition(" ")
        if command == "size":
            w, h = value.split("x")
            for media in medias:
                element = media.get_element().get_by_name("size")
                if element is not None:
                    element.set_property("caps", Gst.Caps.from_string(f"video/x-raw,width={w},height={h}"))
            say(f"size {value}")
    loop.quit()


main()
