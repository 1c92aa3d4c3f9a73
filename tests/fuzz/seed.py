#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets (tests/fuzz/corpus) from what real encoders write.

usage: tests/fuzz/seed.py FFMPEG    an ffmpeg that writes Enhanced RTMP's FLV (7 or newer)

Needs nginx with its RTMP module: what clients say is recorded while they talk to it.

Only run when a target is new: what is in the corpus stays, findings too.
"""
import binascii
import hashlib
import hmac
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading

CORPUS = pathlib.Path(__file__).parent / "corpus"
# Frames are cut: their heads are what is parsed.
BODY = 96

VIDEO = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30"]
SOUND = ["-f", "lavfi", "-i", "sine=r=48000"]
CLIPS = {
    "h264_aac": [*VIDEO, *SOUND, "-c:v", "libx264", "-g", "5", "-c:a", "aac", "-ac", "2"],
    "h264_interlaced": [*VIDEO, "-c:v", "libx264", "-x264-params", "interlaced=1:cqm=jvt:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500"],
    "h264_422": [*VIDEO, "-c:v", "libx264", "-pix_fmt", "yuv422p10le"],
    "h265_opus": [*VIDEO, *SOUND, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "info=0", "-c:a", "libopus"],
    "h265_10_hrd": [*VIDEO, "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le",
                    "-x265-params", "info=0:scaling-list=default:hrd=1:vbv-maxrate=800:vbv-bufsize=800"],
    "av1_aac": [*VIDEO, *SOUND, "-c:v", "libsvtav1", "-g", "5", "-c:a", "aac"],
    "av1_444": [*VIDEO, "-c:v", "libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv444p10le"],
    "mp3": [*SOUND, "-c:a", "libmp3lame", "-ar", "44100"],
    "aac_pce": [*SOUND, "-af", "pan=quad|c0=c0|c1=c0|c2=c0|c3=c0", "-c:a", "aac"],
    "opus_51": [*SOUND, "-af", "pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0", "-c:a", "libopus"],
    "multitrack": [*VIDEO, *VIDEO, *SOUND, *SOUND, "-map", "0", "-map", "1", "-map", "2", "-map", "3",
                   "-c:v", "libx264", "-c:a", "aac"],
}


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def tags(flv):
    at = 13
    while at + 11 <= len(flv):
        kind, size = flv[at], int.from_bytes(flv[at + 1:at + 4], "big")
        yield kind, flv[at + 4:at + 11], flv[at + 11:at + 11 + size]
        at += 11 + size + 4


def tag(kind, rest, body):
    head = bytes([kind]) + len(body).to_bytes(3, "big") + rest
    return head + body + (len(head) + len(body)).to_bytes(4, "big")


def cut(kind, body):
    """Whole headers and metadata, the heads of frames."""
    return body if kind == 18 or len(body) < 700 and sequence_header(kind, body) else body[:BODY]


def sequence_header(kind, body):
    enhanced = body[0] & 0x80 if kind == 9 else body[0] >> 4 == 9
    return body[0] & 0x0F == 0 if enhanced else body[1] == 0


def payload(kind, body, target):
    """What stands behind the audio or video header; None for what is neither record nor frame."""
    if kind == 9 and body[0] & 0x80:
        packet = body[0] & 0x0F
        if packet not in (0, 1, 3):
            return None
        return body[8:] if packet == 1 and target != "av1" else body[5:]
    if kind == 9 or body[0] >> 4 == 9:
        return body[5:]
    return body[1:] if target == "mp3" else body[2:]


def amf(*values):
    def one(value):
        if isinstance(value, bool):
            return b"\x01" + bytes([value])
        if isinstance(value, (int, float)):
            return b"\x00" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"\x02" + key(value)
        if isinstance(value, dict):
            return b"\x03" + b"".join(key(k) + one(v) for k, v in value.items()) + b"\0\0\x09"
        if isinstance(value, list):
            return b"\x0a" + len(value).to_bytes(4, "big") + b"".join(map(one, value))
        return b"\x05"

    def key(text):
        return len(text).to_bytes(2, "big") + text.encode()

    return b"".join(map(one, values))


def mark(epoch, sequence, time):
    return amf("weirMark", {"epoch": epoch, "sequence": sequence, "mediaTimeMs": time, "wallClockMs": 1e12})


# What a transport stream is made of, and with which options.
TS_CLIPS = {
    "h264_aac": ([*VIDEO, *SOUND, "-c:v", "libx264", "-b:v", "60k", "-g", "5", "-c:a", "aac"], 0, 2),
    "h265_opus": ([*VIDEO, *SOUND, "-c:v", "libx265", "-preset", "ultrafast", "-b:v", "60k", "-x265-params", "info=0",
                   "-c:a", "libopus"], 1, 5),
    "latm": ([*SOUND, "-c:a", "aac", "-mpegts_flags", "latm"], None, 3),
    "mp3": ([*SOUND, "-c:a", "libmp3lame", "-ar", "44100"], None, 4),
}


def pes_packets(ts, pid):
    """The PES packets on a PID."""
    found = []
    for at in range(0, len(ts), 188):
        packet = ts[at:at + 188]
        if int.from_bytes(packet[1:3], "big") & 0x1FFF != pid or not packet[3] & 0x10:
            continue
        payload = packet[5 + packet[4]:] if packet[3] & 0x20 else packet[4:]
        if packet[1] & 0x40:
            found.append(b"")
        if found:
            found[-1] += payload
    return found


def transport_streams(ffmpeg, folder):
    """The first packets; and PES packets behind the number of their coding in bodies.rs."""
    for name, (arguments, video, audio) in TS_CLIPS.items():
        path = pathlib.Path(folder) / f"{name}.ts"
        size = ["-s", "64x64"] if video is not None else []
        command = [ffmpeg, "-v", "error", *arguments, *size, "-t", "0.4", "-flags:v", "+bitexact", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        ts = path.read_bytes()
        put("ts_demuxer", name, b"\xbc" + ts[:188 * 120])
        pids = [256] if video is None else [256, 257]
        for pid, coding in zip(pids, [audio] if video is None else [video, audio]):
            packets = [packet[:1500] for packet in pes_packets(ts, pid)[:4]]
            data = b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)
            put("pes", f"{name}.{coding}", bytes([coding]) + data)


def transcoders(ffmpeg, folder):
    """Configuration and frames, as bodies.rs wants them."""
    sound = ["-f", "lavfi", "-i", "sine=r=48000"]
    six = ["-af", "pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"]
    clips = {
        "aac": [*sound, "-c:a", "aac", "-ac", "2", "-ar", "44100"],
        "aac_8k": [*sound, "-c:a", "aac", "-ar", "8000"],
        "aac_51": [*sound, "-c:a", "aac", *six],
        "opus": [*sound, "-c:a", "libopus"],
        "opus_voice": [*sound, "-c:a", "libopus", "-b:a", "12k", "-application", "voip", "-frame_duration", "60"],
        "opus_51": [*sound, "-c:a", "libopus", *six],
    }
    for name, arguments in clips.items():
        path = pathlib.Path(folder) / f"transcoder-{name}.flv"
        command = [ffmpeg, "-v", "error", *arguments, "-t", "0.3", "-flags:a", "+bitexact", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        data, before = b"", 0
        for kind, rest, body in tags(path.read_bytes()):
            found = payload(kind, body, name) if kind == 8 else None
            if found and not data:
                data = bytes([len(found) + (128 if "opus" in name else 0)]) + found
            elif found:
                time = int.from_bytes(rest[:3], "big")
                data += len(found).to_bytes(2, "big") + (time - before).to_bytes(2, "big") + found
                before = time
        put("transcoder", name, data)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def record_client(server_port, command):
    """What the command, told a port in place of PORT, sends until the connection ends."""
    said = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = subprocess.Popen([part.replace("PORT", str(port)) for part in command],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", server_port))

        def pump(source, sink, copy=None):
            while data := source.recv(65536):
                if copy is not None:
                    copy.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=pump, args=(far, near), daemon=True)
        back.start()
        pump(near, far, said)
        client.wait()
    return bytes(said)


def rtmp(ffmpeg, folder):
    """Client bytes after the handshake (two times 1536 and a version), behind the byte that says how
    large the pieces are."""
    port = free_port()
    config = pathlib.Path(folder) / "nginx.conf"
    config.write_text(f"""
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}
""")
    server = subprocess.Popen(["/usr/sbin/nginx", "-p", folder, "-c", str(config)])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            pass
        publish = [ffmpeg, "-v", "quiet", *VIDEO, *SOUND, "-c:v", "libx264", "-b:v", "60k", "-g", "5",
                   "-c:a", "aac", "-t", "0.4", "-f", "flv", "rtmp://127.0.0.1:PORT/live/a?key=1"]
        enhanced = [part if part != "libx264" else "libsvtav1" for part in publish]
        play = ["timeout", "2", ffmpeg, "-v", "quiet", "-i", "rtmp://127.0.0.1:PORT/live/a", "-f", "null", "-"]
        old_play = ["timeout", "2", "rtmpdump", "-q", "-r", "rtmp://127.0.0.1:PORT/live/a", "-o", "/dev/null"]
        clients = {"publish": publish, "publish_av1": enhanced, "play": play, "play_rtmpdump": old_play}
        for name, command in clients.items():
            said = record_client(port, command)[3073:]
            # The first messages, and the end where a session is closed in order.
            said = said[:6000] + (said[-160:] if len(said) > 6160 else b"")
            put("chunk_reader", name, b"\xff" + said)
            put("rtmp_session", name, b"\xff" + said)
    finally:
        server.terminate()
        server.wait()
    control = bytes.fromhex("020000000000040100000000") + (4).to_bytes(4, "big")
    put("chunk_reader", "set_chunk_size", b"\x03" + control + bytes.fromhex("030000000000050800000001") + b"abcd\xc3e")
    put("chunk_reader", "extended_timestamp", b"\x07" + bytes.fromhex("04ffffff000003090100000001000000") + b"abc")
    put("chunk_reader", "wide_ids", b"\x09" + bytes.fromhex("0040000000000001080100000061 01ffff00000000000109010000 0062"))


def rtp(ffmpeg):
    """The first packets of an RTP sender, each as its sequence number with the marker as the last bit, the upper half of
    its timestamp, its length and its payload."""
    small = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=10", "-t", "1", "-g", "4"]
    for index, (name, arguments) in enumerate({
        "h264": [*small, "-c:v", "libx264", "-bf", "0"],
        "h265": [*small, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "info=0:bframes=0"],
        "av1": [*small, "-c:v", "libaom-av1", "-cpu-used", "8", "-strict", "experimental"],
        "opus": [*SOUND, "-t", "0.2", "-c:a", "libopus", "-b:a", "16k"],
    }.items()):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(5)
            to = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=300"
            command = [ffmpeg, "-v", "quiet", *arguments, "-f", "rtp", to]
            sender = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stream = bytes([index])
            for _ in range(14):
                try:
                    packet = receiver.recv(2048)
                except TimeoutError:
                    break
                sequence = int.from_bytes(packet[2:4], "big") << 1 & 0xFFFF | packet[1] >> 7
                stream += sequence.to_bytes(2, "big") + packet[5:7] + (len(packet) - 12).to_bytes(2, "big") + packet[12:]
            put("rtp", name, stream)
            sender.kill()
            sender.wait()


# What bodies of webrtc.rs have, too.
UFRAG, PASSWORD, THEIRS = "0123456789abcdef01234567", "fedcba9876543210fedcba98", "seed"
COOKIE = bytes.fromhex("2112a442")


def stun_message(kind, attributes, key=None, fingerprint=True):
    """A STUN message (RFC 8489), signed with a key."""
    def attribute(number, value):
        return struct.pack(">HH", number, len(value)) + value + bytes(-len(value) % 4)

    def header(length):
        return struct.pack(">HH", kind, length) + COOKIE + b"transaction1"

    body = b"".join(attribute(number, value) for number, value in attributes)
    if key is not None:
        signed = header(len(body) + 24) + body
        body += attribute(8, hmac.new(key, signed, hashlib.sha1).digest())
    if fingerprint:
        crc = binascii.crc32(header(len(body) + 8) + body) ^ 0x5354554E
        body += attribute(0x8028, crc.to_bytes(4, "big"))
    return header(len(body)) + body


def connectivity_check(nominate=True, key=PASSWORD):
    name = f"{UFRAG}:{THEIRS}".encode()
    attributes = [(6, name), (0xC057, bytes(4)), (0x802A, bytes(range(8)))]
    attributes += [(0x25, b"")] if nominate else []
    return stun_message(1, [*attributes, (0x24, (1853824767).to_bytes(4, "big"))], key.encode())


def client_hello():
    """The first datagram of OpenSSL's DTLS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        to = f"127.0.0.1:{server.getsockname()[1]}"
        command = ["openssl", "s_client", "-dtls1_2", "-connect", to, "-use_srtp", "SRTP_AEAD_AES_128_GCM"]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return server.recv(2048)
        finally:
            client.kill()
            client.wait()


def sdp(direction, video, more=""):
    head = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS s\r\n"
    secrets = ("c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:seed\r\na=ice-pwd:seedseedseedseedseedseed\r\n"
               "a=ice-options:trickle\r\na=fingerprint:sha-256 " + ":".join(f"{n:02X}" for n in range(32)) + "\r\na=setup:actpass\r\n")
    audio = ("m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8\r\n" + secrets + "a=mid:0\r\n"
             "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
             f"a={direction}\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n"
             "a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"
             "a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=ssrc:1 cname:c\r\n")
    numbers = " ".join(str(96 + n) for n in range(2 * len(video)))
    picture = f"m=video 9 UDP/TLS/RTP/SAVPF {numbers}\r\n" + secrets + f"a=mid:1\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
    for index, (name, parameters) in enumerate(video):
        number = 96 + 2 * index
        picture += f"a=rtpmap:{number} {name}/90000\r\n"
        picture += "".join(f"a=rtcp-fb:{number} {what}\r\n" for what in ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"))
        picture += f"a=fmtp:{number} {parameters}\r\n" if parameters else ""
        picture += f"a=rtpmap:{number + 1} rtx/90000\r\na=fmtp:{number + 1} apt={number}\r\n"
    return (head + audio + picture + more).encode()


def webrtc():
    h264 = ("H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
    every = [("VP8", ""), h264, ("VP9", "profile-id=0"), ("AV1", "level-idx=5;profile=0;tier=0"), ("H265", "level-id=93")]
    simulcast = ("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rid:h send\r\na=rid:m send\r\na=rid:l send\r\n"
                 "a=simulcast:send h;m;l\r\n")
    fec = "a=rtpmap:120 red/90000\r\na=rtpmap:121 ulpfec/90000\r\na=rtpmap:122 flexfec-03/90000\r\na=fmtp:122 repair-window=10000000\r\n"
    candidates = ("a=candidate:1 1 udp 2113937151 192.0.2.7 5000 typ host generation 0\r\n"
                  "a=candidate:2 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active\r\na=end-of-candidates\r\n")
    for name, offer in {
        "publish": sdp("sendonly", every), "watch": sdp("recvonly", every, candidates),
        "simulcast": sdp("sendonly", [h264], simulcast), "fec": sdp("sendrecv", [h264], fec),
        "passive": sdp("sendonly", [h264]).replace(b"actpass", b"passive"), "nothing": sdp("sendonly", [("H266", "")]),
    }.items():
        put("sdp_offer", name, offer)

    check, hello = connectivity_check(), client_hello()
    put("stun", "check", check)
    put("stun", "no_colon", stun_message(1, [(6, b"seed")]))
    put("stun", "answer", stun_message(0x101, [(0x20, bytes.fromhex("0001a147e112a643"))]))
    receiver_report = bytes.fromhex("81c90007000000010000000100000000000000010000000000000000 00000000".replace(" ", ""))
    pli, nack = bytes.fromhex("81ce00020000000100000002"), bytes.fromhex("81cd0003000000010000000200010000")
    remb = bytes.fromhex("8fce000500000001000000005245 4d42010a000000000002".replace(" ", ""))
    twcc = bytes.fromhex("8fcd0005000000010000000200010002000000002002 0404".replace(" ", ""))
    rtp_packet = bytes.fromhex("80e6000100000000 00000001".replace(" ", "")) + b"payload"
    alert = bytes.fromhex("15fefd000000000000000100020228")
    sequences = {
        "handshake": [check, hello, hello], "strangers": [hello, rtp_packet, receiver_report],
        "rtcp": [check, receiver_report, pli, nack, remb, twcc], "rtp": [check, rtp_packet, rtp_packet],
        "not_nominated": [connectivity_check(nominate=False), hello, check, hello], "forged": [connectivity_check(key="no"), hello],
        "alert": [check, hello, alert], "pieces": [check, hello[:100], hello[:25] + hello[25:60]],
    }
    for name, datagrams in sequences.items():
        for role in (0, 1):
            data = b"".join(bytes([10, 7]) + len(one).to_bytes(2, "big") + one for one in datagrams)
            put("rtc_datagrams", f"{name}.{'publish' if role == 0 else 'play'}", bytes([role]) + data)

    allocate = stun_message(3, [(0x19, bytes([17, 0, 0, 0])), (0x0D, (600).to_bytes(4, "big"))])
    named = stun_message(3, [(0x19, bytes([17, 0, 0, 0])), (6, b"1900000000:user"), (0x14, b"weir"), (0x15, b"nonce")], b"key")
    peer = bytes.fromhex("0001a147e112a643")
    messages = {
        "binding": [stun_message(1, [])], "allocate": [allocate, named], "refresh": [stun_message(4, [(0x0D, bytes(4))])],
        "grants": [stun_message(8, [(0x12, peer)]), stun_message(9, [(0x0C, bytes.fromhex("40000000")), (0x12, peer)])],
        "send": [stun_message(0x16, [(0x12, peer), (0x13, b"data")]), bytes.fromhex("4000000464617461")],
    }
    for name, said in messages.items():
        put("turn", f"{name}.udp", b"\0" + b"".join(len(one).to_bytes(2, "big") + one for one in said))
        put("turn", f"{name}.tcp", b"\1" + b"".join(said))


# As weir's own and as other packagers write them, and what none should.
HEAD = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.2\n"
SEGMENTS = '#EXT-X-MAP:URI="init-7-1.mp4"\n#EXTINF:2.00000,\n7-11.m4s\n'
PART = '#EXT-X-PART:DURATION=0.20000,URI="7-12.2.m4s",INDEPENDENT=YES\n'
HINT = '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="7-12.3.m4s"\n'
REPORT = '#EXT-X-RENDITION-REPORT:URI="../a0/media.m3u8",LAST-MSN=12,LAST-PART=2\n'
PLAYLISTS = {
    "live": HEAD + SEGMENTS + PART + HINT + REPORT,
    "delta": HEAD + "#EXT-X-SKIP:SKIPPED-SEGMENTS=9\n" + SEGMENTS + PART + HINT,
    "ended": HEAD + SEGMENTS + "#EXT-X-ENDLIST\n",
    "crlf": (HEAD + SEGMENTS + HINT).replace("\n", "\r\n"),
    "no_hint": HEAD + SEGMENTS + PART,
    "hint_of_map": HEAD + SEGMENTS + '#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="init-8-1.mp4"\n',
    "stranger": HEAD + '#EXT-X-PART:DURATION=1,URI="a/b.mp4?x"\n#EXT-X-PRELOAD-HINT:URI="c.mp4",TYPE=PART\n',
    "elsewhere": HEAD + '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="../../7-12.3.m4s"\n',
    "multivariant": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nmain/media.m3u8\n",
    "no_quote": '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="7-12.3.m4s',
    "numbers": "18446744073709551615-18446744073709551616.m4s\n07-1.m4s\n-1-2.m4s\n1-2.4294967296.m4s\n",
}

STREAM_IDS = {
    "publish": b"#!::r=live/a,m=publish,u=jane,s=4,token=aaa.bbb-c.ddd",
    "request": b"#!::h=example.org,r=/live/a,m=request,t=stream",
    "encoded": b"%23%21%3A%3Ar%3Dlive%2Fa%2Cm%3Dpublish",
    "nested": b"#!:{r:live/a}",
    "mediamtx": b"publish:live/a:jane:s3cret?key=a%26b",
    "plain": b"live/a,token=t,backup=1",
    "query": b"live/a?mode=request&token=t",
    "broken": b"live/%ff%0a%2",
    "latin": b"live/\xe9",
}


def main(ffmpeg):
    queries = ["_HLS_msn=12", "_HLS_msn=12&_HLS_part=3", "_HLS_msn=1&_HLS_skip=YES", "_HLS_part=1", "_HLS_msn=",
               "_HLS_msn=18446744073709551616", "a=b&_HLS_skip=v2&token=%20", "_HLS_msn=-1&_HLS_msn=2"]
    for index, query in enumerate(queries):
        put("hls_query", str(index), query.encode())
    for name, text in STREAM_IDS.items():
        put("srt_stream_id", name, text)
    for name, playlist in PLAYLISTS.items():
        put("hls_tail", name, playlist.encode())
    connect = {"app": "live", "tcUrl": "rtmp://h/live", "fourCcList": ["av01", "hvc1"], "capsEx": 4, "fpad": False}
    put("amf0", "connect", amf("connect", 1, connect))
    put("amf0", "publish", amf("publish", 5, None, "name?key=1", "live"))
    put("amf0", "date_long_xml", b"\x0b" + bytes(10) + b"\x0c\0\0\0\x01a" + b"\x0f\0\0\0\x01b" + b"\x10\0\x01c\0\x01d\x05\0\0\x09")
    put("amf0", "nested", b"\x0a\0\0\0\x01" * 20 + b"\x05")
    put("amf0", "long_lie", b"\x0c\xff\xff\xff\xff")
    rtp(ffmpeg)
    webrtc()
    with tempfile.TemporaryDirectory() as folder:
        rtmp(ffmpeg, folder)
        transport_streams(ffmpeg, folder)
        transcoders(ffmpeg, folder)
        for name, arguments in CLIPS.items():
            path = pathlib.Path(folder) / f"{name}.flv"
            command = [ffmpeg, "-v", "error", *arguments, "-t", "0.4", "-flags:v", "+bitexact", str(path)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            whole = path.read_bytes()
            found = [(kind, rest, cut(kind, body)) for kind, rest, body in tags(whole)][:14]
            stream = whole[:13] + b"".join(tag(*one) for one in found)
            put("flv_reader", name, bytes([len(name) * 3]) + stream)
            kinds = {8: 0, 9: 1, 18: 2}
            bare = (bytes([kinds[k]]) + len(b).to_bytes(2, "big") + b for k, _, b in found)
            put("flv_demuxer", name, b"".join(bare))
            split = 13 + len(tag(*found[0]))
            put("relay_decoder", name, stream[:split] + tag(18, bytes(7), mark(1, 7, 0)) + stream[split:])
            seen = set()
            for kind, _, body in tags(whole):
                if kind == 18:
                    put("amf0", name, body)
                    continue
                of = (["av1", "h265", "h264"] if kind == 9 else ["opus", "mp3", "aac"])
                target = next((t for t in of if t in name), None)
                header = target != "mp3" and sequence_header(kind, body)
                data = target and payload(kind, body, target)
                if data is None or (target, header) in seen:
                    continue
                seen.add((target, header))
                put(target, f"{name}.{'record' if header else 'frame'}", data[:700 if header else BODY])


if __name__ == "__main__":
    main(sys.argv[1])
